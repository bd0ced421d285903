# SPDX-License-Identifier: GPL-2.0-only
"""What the lock step shows, for the trust page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.guard import GuardRecord
from harness.lockstep.record import MismatchRecord, SingleRecord, WholeRecord
from harness.lockstep.singles import not_compared

INPUTS = {"unicorn": 100, "qemu": 100, "kvm": 3}
"""For each entry, at full depth. KVM takes 2 milliseconds for a step, and loops have 10,000."""
STATES = 1000
"""For each form of instruction, at full depth."""


def in_words(name: str, beside: str, found: MismatchRecord) -> str:
    """A mismatch in one line. `beside`: the CPU's name and version."""
    values = ", ".join(f"{name} = {value}" for name, value in found.values.items())
    source = f" ({found.source})" if found.source else ""
    return (
        f"{name}: {found.where}: `{found.instruction}`{source}: {found.what}: the {found.by} says "
        f"{found.predicted}, {beside.split()[0]}'s CPU {found.observed}; with {values}"
    )


def of_whole(records: Sequence[WholeRecord], mark: str) -> GuardRecord:
    """Of the shipped trampolines. `mark`: the fingerprint of the project's files."""
    beside = records[0].beside
    name = beside.split()[0].lower()
    written = "at the end memory does" if name == "kvm" else "it writes the same in the same order"
    return GuardRecord(
        name=f"lock-step-{name}",
        shows=f"At each instruction of each trampoline the CPU of {beside} holds what the run "
        f"foretells: registers, flags, hidden segment state; {written}.",
        command="python -m harness.lockstep" + ("" if name == "unicorn" else f" --{name}"),
        fingerprint=mark,
        complete=all(record.asked >= INPUTS[name] for record in records),
        figures={
            "inputs": f"{sum(sum(record.inputs.values()) for record in records):,}",
            "steps": f"{sum(record.steps for record in records):,}",
            "registers": f"{sum(record.registers for record in records):,}",
            "writes": f"{sum(record.writes for record in records):,}",
        },
        problems=(
            *(["nothing was compared"] if all(one.not_compared for one in records) else []),
            *_problems(records, beside),
        ),
        open=tuple(
            f"{record.trampoline}: not compared: {record.not_compared}"
            for record in records
            if record.not_compared
        ),
        seconds=round(sum(record.seconds for record in records), 1),
    )


def _problems(records: Sequence[WholeRecord], beside: str) -> Iterator[str]:
    for record in records:
        if record.mismatch is not None:
            yield in_words(record.trampoline, beside, record.mismatch)
        elif _too_little(record):
            yield f"{record.trampoline}: less was compared than was asked for"


def _too_little(record: WholeRecord) -> bool:
    """Not all inputs were stepped through, or nothing at all was compared of them."""
    if record.not_compared:
        return False
    missing = any(count < record.asked for count in record.inputs.values())
    compared = (record.inputs, record.ends, record.steps, record.registers)
    return missing or not all(compared)


def of_single(records: Sequence[SingleRecord], mark: str) -> GuardRecord:
    """Of single instructions in all modes."""
    beside = records[0].beside
    qemu = beside.startswith("QEMU")
    forms = [form for record in records for form in record.forms]
    limits = {name: says for record in records for name, says in record.limits.items()}
    wrong = [
        in_words(record.mode, record.beside, record.mismatch)
        for record in records
        if record.mismatch is not None
    ]
    nothing = [
        f"{record.mode}: nothing was compared of {form}"
        for record in records
        if record.mismatch is None
        for form in not_compared(record.forms)
    ]
    return GuardRecord(
        name="lock-step-single" + "-qemu" * qemu,
        shows="Each form of instruction, from random states, does the same in the machine, in its "
        f"table of operations and on {beside}'s CPU.",
        command="python -m harness.lockstep --single" + " --qemu" * qemu,
        fingerprint=mark,
        complete=all(record.asked >= STATES for record in records),
        figures={
            "forms": f"{len(forms):,}",
            "states": f"{sum(form.states for form in forms):,}",
            "compared": f"{sum(form.compared for form in forms):,}",
            "where that CPU is known to differ from the manual": (
                f"{sum(sum(form.limits.values()) for form in forms):,}"
            ),
            "not executed by the machine, or leading out of the memory that there is": (
                f"{sum(sum(form.refused.values()) for form in forms):,}"
            ),
        },
        problems=(*wrong, *nothing),
        open=tuple(f"{name}: the manual says: {says}" for name, says in limits.items()),
        seconds=round(sum(record.seconds for record in records), 1),
    )
