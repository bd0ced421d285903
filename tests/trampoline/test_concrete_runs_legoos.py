# SPDX-License-Identifier: GPL-2.0-only
"""The LegoOS images on an emulated CPU, one input at a time: what they do, and their findings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from unicorn.x86_const import UC_CPU_X86_COREDUO

from tests.trampoline.emulated import (
    EXTENDED,
    FEATURES,
    GIB,
    Machine,
    no_long_mode,
    payload,
    shipped,
)

ENTRY = 0x1001000
DF = 0x400
BOTH = ("legoos", "legoos_posted")
BASES = (0x4000, 0x10000, 0x90000)


def machine(name: str, base: int = 0x10000) -> Machine:
    made = Machine(shipped(name), base)
    made.place(ENTRY, payload())
    return made


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", BOTH)
def test_an_ap_enters_the_kernel_with_4_gib_mapped_to_themselves(name: str, base: int) -> None:
    ap = machine(name, base)
    assert ap.start() == "arrived"
    assert ap.noted["rip"] == ENTRY
    assert ap.noted["cs"] == 0x10
    assert {ap.noted[segment] for segment in ("ds", "es", "ss", "fs", "gs")} == {0}
    assert ap.noted["rsp"] == base + ap.image.symbols["tr_stack_end"]
    assert [a for a in (0, base, ENTRY, 4 * GIB - 1) if ap.walk(a) != a] == []
    assert ap.walk(4 * GIB) is None


@pytest.mark.parametrize("name", BOTH)
def test_the_next_ap_starts_through_the_same_copy(name: str) -> None:
    ap = machine(name)
    assert ap.start() == "arrived"
    if name == "legoos":
        ap.put("tr_lock", 0)  # as the kernel does
    assert ap.start() == "arrived"


def test_the_hardened_image_writes_nothing_outside_and_has_exact_limits() -> None:
    ap = machine("legoos")
    assert ap.start() == "arrived"
    assert ap.outside == []
    assert ap.noted["gdt_limit"] == 4 * 8 - 1


def test_the_hardened_image_does_not_care_what_an_earlier_start_left() -> None:
    ap = machine("legoos")
    at = ap.image.symbols
    for symbol in ("tr_gdt_base", "startup_32_offset"):
        ap.put(symbol, 0xCCCCCCCC)
    for part in ("tr_stack", "pgtable"):
        ap.place(ap.base + at[part], b"\xcd" * (at[f"{part}_end"] - at[part]))
    assert ap.start(rflags=DF) == "arrived"
    assert ap.outside == []
    assert ap.walk(4 * GIB - 1) == 4 * GIB - 1


def test_the_hardened_image_waits_while_another_ap_uses_it() -> None:
    ap = machine("legoos")
    assert ap.start() == "arrived"
    tables = ap.base + ap.image.symbols["pgtable"]
    ap.put("pgtable", 0x1234567, offset=0x1000)  # the first AP's
    assert ap.start() == "waiting"
    assert ap.read(tables + 0x1000) & 0xFFFFFFFF == 0x1234567


@pytest.mark.parametrize("highest", [0, EXTENDED, FEATURES, 0x80000008])
def test_a_cpu_without_long_mode_lets_go_of_the_hardened_image(highest: int) -> None:
    ap = machine("legoos")
    ap.cpuid = no_long_mode(highest)
    assert ap.start() == "parked"
    assert ap.word("tr_lock") == 0
    assert ap.outside == []
    ap.cpuid = None
    assert ap.start() == "arrived"


def test_the_posted_image_shows_its_findings() -> None:
    ap = machine("legoos_posted")
    assert ap.start() == "arrived"
    # LEGO-1: one push below the stack's end, taken from address 0 instead of the base
    assert ap.outside == [ap.image.symbols["tr_stack_end"] - 4]
    assert ap.noted["gdt_limit"] == 4 * 8  # LEGO-2
    old = machine("legoos_posted")
    old.model = UC_CPU_X86_COREDUO
    assert old.start() == "fault"  # LEGO-3
    second = machine("legoos_posted")
    assert second.start() == "arrived"
    second.put("pgtable", 0x1234567, offset=0x1000)
    assert second.start() == "arrived"  # LEGO-4: while the first AP runs on the tables
    assert second.read(second.base + second.image.symbols["pgtable"] + 0x1000) != 0x1234567
    ended = machine("legoos_posted")  # LEGO-5: by an INIT between the two additions
    ended.put("tr_gdt_base", ended.base + ended.image.symbols["tr_gdt"])
    assert ended.start() == "fault"
    backwards = machine("legoos_posted")
    assert backwards.start(rflags=DF) != "arrived"  # LEGO-6
    assert min(backwards.outside) < backwards.base - 0x4000


@pytest.mark.parametrize("name", BOTH)
def test_the_image_is_linked_flat_and_carried_as_data(name: str, tmp_path: Path) -> None:
    assert shipped(name).relocations == ()
    folder = Path("trampoline").resolve() / name
    for command in (
        f"gcc -c -I {folder.parent / 'include'} -o trampoline.o {folder / 'trampoline.S'}",
        "ld -Ttext=0 -e trampoline_start -o trampoline.elf trampoline.o",
        "objcopy -O binary -j .text trampoline.elf trampoline.bin",
        f"gcc -c -Wa,-I. -o carrier.o {folder / 'carrier.S'}",
        "objcopy -O binary -j .data carrier.o carrier.bin",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    assert (tmp_path / "carrier.bin").read_bytes() == shipped(name).data
