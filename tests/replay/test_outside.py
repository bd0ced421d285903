# SPDX-License-Identifier: GPL-2.0-only
"""What a path writes outside the image is predicted, seen in QEMU, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.predict import OUTSIDE_MAX, Input, Prediction
from harness.replay.replay import UNSEEN, replay
from harness.solve.obligation import OUTSIDE
from tests.replay.conftest import MIB, Subject, given
from tests.replay.little import at_base, little

STORE = "movl $0x11223344, 0x20000"

SPARSE = "movl $100, %ecx; 1: movl $7, (%edi); addl $16, %edi; decl %ecx; jnz 1b"


def replayed(subject: Subject, machine: Machine, what: Input) -> ReplayRecord:
    """Confirmed only if the writes outside were seen."""
    return replay(subject.contract, subject.predictor, machine, what, (), [(OUTSIDE,)])


@pytest.mark.parametrize("base", [0x2000, 0x90000])
def test_pushes_outside_the_image_are_seen(rfc: Subject, machine: Machine, base: int) -> None:
    """The RFC's 32-bit code pushes CS and EIP of the 64-bit code with a 16-bit SP."""
    stack = rfc.image.symbols["trampoline_stack_bsp_end"] - 8
    target = base + rfc.image.symbols["startup_64_bsp"]
    pushed = (target | 0x10 << 32).to_bytes(8, "little")
    record = replayed(rfc, machine, given(16 * MIB, base=base))
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, "")
    assert record.observed[f"memory {stack:#x}..{stack + 7:#x}"] == pushed.hex(" ")


def test_a_table_entry_beyond_the_tables_is_seen(rfc: Subject, machine: Machine) -> None:
    """A kernel at 96 TiB: there is no RAM, and none is needed, as it is not mapped."""
    kernel = 96 << 40
    entry = 0x90000 + rfc.image.symbols["pgtable_bsp"] + 0x1000 + 8 * (kernel >> 30)
    extra = 0x90000 + rfc.image.symbols["pgtable_extra_bsp"] | 7
    record = replayed(rfc, machine, given(kernel))
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, "")
    assert record.observed[f"memory {entry:#x}..{entry + 7:#x}"] == extra.to_bytes(8, "little").hex(
        " "
    )


def test_a_path_that_stays_inside_shows_nothing_outside(tmp_path: Path, machine: Machine) -> None:
    record = replayed(little(tmp_path, "hlt"), machine, at_base())
    assert (record.evidence, record.reason) == (Evidence.NOT_REPLAYABLE, UNSEEN)


@pytest.mark.parametrize(
    ("code", "unknown", "where", "after"),
    [
        (STORE, {}, "0x20000..0x20003", "44 33 22 11"),
        ("movl $0x20000, %edi; movb $7, %al; movl $5, %ecx; rep stosb", {}, "0x20000..0x20004",
         "07 07 07 07 07"),
        ("movl $1, OFF(begin) - 2(%esi)", {}, "0x7ffe..0x7fff", "01 00"),
        ("movb 0x20000, %al; incb %al; movb %al, 0x30000", {0x20000: 0x40}, "0x30000..0x30000",
         "41"),
        ("incb 0x20000", {0x20000: 0x7F}, "0x20000..0x20000", "80"),
    ],
    ids=["a store", "a range", "half of a store", "what another byte held", "in place"],
)  # fmt: skip
def test_each_kind_of_write_is_seen(
    tmp_path: Path, machine: Machine, code: str, unknown: Mapping[int, int], where: str, after: str
) -> None:
    if "begin" in code:
        code = f"{code}; cli; hlt"
    record = replayed(little(tmp_path, f"{code}; hlt"), machine, at_base(unknown=unknown))
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, "")
    assert record.predicted[f"memory {where}"] == record.observed[f"memory {where}"] == after


class OtherCode:
    """Predicts for one trampoline and lets QEMU run another."""

    def __init__(self, subject: Subject, old: bytes, new: bytes) -> None:
        self._predictor, self._old, self._new = subject.predictor, old, new
        self.image = subject.image
        self.run = subject.run
        self.contract = subject.contract
        self.entry_of = subject.predictor.entry_of

    def predict(self, what: Input) -> Prediction:
        prediction = self._predictor.predict(what)
        _ = prediction.image_after
        assert prediction.entry.count(self._old) == 1
        prediction.entry = prediction.entry.replace(self._old, self._new)
        return prediction


@pytest.mark.parametrize("other", ["no store", "another value", "another place"])
def test_a_write_that_differs_is_noticed(tmp_path: Path, machine: Machine, other: str) -> None:
    """Also if it is missing: the byte held something else before, whatever ran earlier."""
    subject = little(tmp_path, f"{STORE}; cli; hlt")
    assert replayed(subject, machine, at_base()).evidence is Evidence.CONFIRMED
    old = bytes.fromhex("c70500000200 44332211")
    new = {
        "no store": b"\x90" * 10,
        "another value": old[:-1] + b"\x12",
        "another place": old[:2] + b"\x04" + old[3:],
    }[other]
    record = other_code_replayed(subject, machine, old, new)
    assert record.evidence is Evidence.CONTRADICTED
    assert "byte at 0x2000" in record.reason


def other_code_replayed(subject: Subject, machine: Machine, old: bytes, new: bytes) -> ReplayRecord:
    """The image of the other code is what the trampoline is predicted to leave, too."""
    predictor: Any = OtherCode(subject, old, new)
    record = replay(subject.contract, predictor, machine, at_base(), (), [(OUTSIDE,)])
    return record.model_copy(
        update={"reason": "; ".join(r for r in record.reason.split("; ") if "image byte" not in r)}
    )


def test_a_write_of_what_was_there_is_not_seen(tmp_path: Path, machine: Machine) -> None:
    subject = little(tmp_path, "orb $1, 0x20000; hlt")
    record = replayed(subject, machine, at_base(unknown={0x20000: 0x81}))
    assert (record.evidence, record.reason) == (Evidence.NOT_REPLAYABLE, UNSEEN)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("movl $1, 0xa0000", "writes to 0xa0000, where QEMU has no free RAM"),
        ("movl $1, 0xd0000ffc", "writes to 0xd0000ffc, where QEMU has no free RAM"),
        ("movl $1, 0x1000010", "writes to 0x1000010, where the payload lies"),
        ("movl $0x20000, %edi; movl $0x8000, %ecx; rep stosb", "writes 32768 bytes"),
        (f"movl $0x20000, %edi; {SPARSE}", "writes to 100 places"),
    ],
)
def test_what_cannot_be_seen_is_named(
    tmp_path: Path, machine: Machine, code: str, reason: str
) -> None:
    record = replayed(little(tmp_path, f"{code}; hlt"), machine, at_base())
    assert record.evidence is Evidence.NOT_REPLAYABLE
    assert reason in record.reason
    assert OUTSIDE_MAX < 0x8000


def test_memory_that_the_witness_needs_must_be_ram(tmp_path: Path, machine: Machine) -> None:
    subject = little(tmp_path, "movl 0xb0000, %eax; movl %eax, 0x20000; hlt")
    record = replayed(subject, machine, at_base(unknown={0xB0000: 1}))
    assert record.evidence is Evidence.NOT_REPLAYABLE
    assert "depends on 0xb0000" in record.reason
