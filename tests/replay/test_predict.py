# SPDX-License-Identifier: GPL-2.0-only
"""What is predicted of the RFC's trampoline, against values worked out by hand.

Entry flags: 7 names a table (present, writable, user), 0x183 maps 2 MiB (present, writable, large,
global).
"""

from __future__ import annotations

import pytest

from harness.x86.run import EndKind
from models.paging import Access
from tests.replay.conftest import BASE, GIB, MIB, Subject, given

PDPT, PD, EXTRA = 0x1000, 0x2000, 0x6000  # from pgtable_bsp
READ, WRITE, FETCH = Access.READ, Access.WRITE, Access.FETCH


def entry(subject: Subject, after: bytes, offset: int) -> int:
    """The 8 bytes at an offset from the first table."""
    start = subject.image.symbols["pgtable_bsp"] + offset
    return int.from_bytes(after[start : start + 8], "little")


@pytest.mark.parametrize("base", [0x1000, BASE, 0x97000])
def test_the_first_four_gib_are_mapped_to_themselves(rfc: Subject, base: int) -> None:
    after = rfc.predictor.predict(given(16 * MIB, base=base)).image_after
    tables = base + rfc.image.symbols["pgtable_bsp"]
    assert entry(rfc, after, 0) == tables + PDPT | 7
    for gib in range(4):
        assert entry(rfc, after, PDPT + 8 * gib) == tables + PD + 0x1000 * gib | 7
    assert entry(rfc, after, PDPT + 8 * 4) == 0
    for number in (0, 1, 511, 512, 2047):
        assert entry(rfc, after, PD + 8 * number) == number * 2 * MIB | 0x183


def test_a_kernel_above_four_gib_gets_a_directory_of_its_own(rfc: Subject) -> None:
    after = rfc.predictor.predict(given(5 * GIB + 3 * MIB)).image_after
    tables = BASE + rfc.image.symbols["pgtable_bsp"]
    assert entry(rfc, after, PDPT + 8 * 5) == tables + EXTRA | 7
    assert entry(rfc, after, EXTRA) == 0x1_4000_0183
    assert entry(rfc, after, EXTRA + 8 * 511) == 0x1_7FE0_0183


def test_what_nothing_writes_keeps_the_garbage(rfc: Subject) -> None:
    prediction = rfc.predictor.predict(given(16 * MIB, garbage=b"\xee"))
    start = rfc.image.symbols["pgtable_extra_bsp"]
    assert prediction.image_after[start : start + 4096] == b"\xee" * 4096
    assert prediction.entry[start : start + 4096] == b"\xee" * 4096


def test_the_mailbox_is_at_its_symbols(rfc: Subject) -> None:
    entry_bytes = rfc.predictor.predict(given(0x1122_3344_5566_7788, 0x99AA)).entry
    for symbol, value in (
        ("kernel_phys_addr", 0x1122_3344_5566_7788),
        ("boot_params_phys_addr", 0x99AA),
    ):
        start = rfc.image.symbols[symbol]
        assert int.from_bytes(entry_bytes[start : start + 8], "little") == value


def test_registers_at_the_jump(rfc: Subject) -> None:
    prediction = rfc.predictor.predict(given(5 * GIB, 7 * GIB))
    assert prediction.end.kind is EndKind.HAND_OFF
    registers = prediction.registers()
    symbols = rfc.image.symbols
    wanted = {"rip": 5 * GIB, "rsi": 7 * GIB, "cs": 0x10, "ds": 0x18, "es": 0x18, "ss": 0x18}
    wanted |= {"cr0": 0x8000_0011, "cr3": BASE + symbols["pgtable_bsp"], "cr4": 0x20}
    wanted |= {"efer": 0x500, "gdtr_base": BASE + symbols["gdt_bsp_64"]}  # LME and LMA
    assert {name: registers[name] for name in wanted} == wanted
    status = symbols["trampoline_status_bsp"]
    assert prediction.image_after[status : status + 4] == bytes.fromhex("a5a5a5a5")


@pytest.mark.parametrize(
    ("kernel", "linear", "mapped"),
    [
        (16 * MIB, 0, True),
        (16 * MIB, 4 * GIB - 1, True),
        (16 * MIB, 4 * GIB, False),
        (5 * GIB, 5 * GIB - 1, False),
        (5 * GIB + 7, 5 * GIB, True),
        (5 * GIB, 6 * GIB - 1, True),
        (5 * GIB, 6 * GIB, False),
        (520 * GIB, 520 * GIB, False),  # its entry lands in the directory of the first GiB
        (5 * GIB, 1 << 47, False),  # not canonical
    ],
)
def test_what_is_mapped_at_the_jump(rfc: Subject, kernel: int, linear: int, mapped: bool) -> None:
    prediction = rfc.predictor.predict(given(kernel))
    assert {prediction.mapped(linear, access) for access in (READ, WRITE, FETCH)} == {mapped}


def test_a_kernel_at_520_gib_overwrites_an_entry_of_the_first_directory(rfc: Subject) -> None:
    """Entry 520 of a table of 512 is entry 8 of the next one: the one for 16 MiB."""
    after = rfc.predictor.predict(given(520 * GIB)).image_after
    tables = BASE + rfc.image.symbols["pgtable_bsp"]
    assert entry(rfc, after, PD + 8 * 8) == tables + EXTRA | 7
    assert entry(rfc, after, PD + 8 * 9) == 9 * 2 * MIB | 0x183
