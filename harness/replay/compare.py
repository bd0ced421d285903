# SPDX-License-Identifier: GPL-2.0-only
"""Hold what QEMU showed of one input against what was predicted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from harness.qemu.job import Job, Outcome, OutcomeKind
from harness.replay.expect import FAILED, PAYLOAD, Expected
from harness.replay.predict import Prediction
from harness.solve.obligation import END, IMAGE, OUTSIDE
from harness.x86.memory import stretches
from models.modes import RFLAGS_DF, RFLAGS_IF
from trampoline.contract import Contract
from trampoline.image import STATUS_WORD_SIZE, Image

ACCESSED_DIRTY = 0x60  # of a paging-structure entry; the CPU sets them
ALWAYS_SHOWN = frozenset(
    "rip rsi cr0 cr3 cr4 efer cs ds gdtr_base gdtr_limit idtr_base idtr_limit".split()
)
"""Registers that a report names even where they are as predicted."""
BYTES_SHOWN = 32
STATUS = "status word"
OUTCOME = "outcome"
ANY_FAILURE = "any failure"
"""Predicted where it is not known what follows, or where the payload is not jumped to."""
IF_BIT = RFLAGS_IF.bit_length() - 1
DF_BIT = RFLAGS_DF.bit_length() - 1


@dataclass
class Comparison:
    """Both sides for the report; what differs; and what was seen to be as predicted.

    `shown`: what QEMU showed, all of it. `seen` has the names that obligations use in `shown_by`.
    """

    shown: dict[str, str]
    predicted: dict[str, str] = field(default_factory=dict)
    observed: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def show(self, name: str, predicted: str) -> None:
        """Put both sides of one thing into the report."""
        self.predicted[name], self.observed[name] = predicted, self.shown[name]


def compare(
    contract: Contract,
    image: Image,
    prediction: Prediction,
    wanted: Expected,
    job: Job,
    outcome: Outcome,
    named: Collection[str] = (),
) -> Comparison:
    """Everything that QEMU shows of an input. The job's dumps are those of `dumps`.

    `named`: further registers that the report shall name.
    """
    result = Comparison(shown(job, outcome))
    _compare_end(result, wanted, outcome)
    if outcome.registers:
        _compare_registers(result, prediction, outcome, ALWAYS_SHOWN.union(named))
    if wanted.kinds != FAILED:
        memory, *outside = outcome.memory
        _compare_image(result, contract, image, prediction, memory)
        _compare_outside(result, contract, prediction, outside)
    return result


def shown(job: Job, outcome: Outcome) -> dict[str, str]:
    """All that a report can name of what QEMU showed, in words."""
    found = {OUTCOME: str(outcome.kind), "probes completed": str(outcome.probes_done)}
    if outcome.registers:
        rflags = outcome.registers["rflags"]
        bits = {"if": rflags >> IF_BIT & 1, "df": rflags >> DF_BIT & 1}
        found |= {name: hex(value) for name, value in {**outcome.registers, **bits}.items()}
    # A machine that died shows no memory.
    for (address, size), data in zip(job.dumps, outcome.memory, strict=False):
        found[_stretch(range(address, address + size))] = data[:BYTES_SHOWN].hex(" ")
        at = job.status_address
        if at is not None and address <= at < address + size:
            status = data[at - address :][:STATUS_WORD_SIZE]
            found[STATUS] = hex(int.from_bytes(status, "little"))
    return found


def _stretch(part: range) -> str:
    return f"memory {part.start:#x}..{part.stop - 1:#x}"


def dumps(prediction: Prediction) -> tuple[tuple[int, int], ...]:
    """(address, length) of the memory to read back: the image, then each stretch outside."""
    image = (prediction.given.base, len(prediction.entry))
    return (image, *((part.start, len(part)) for part in stretches(prediction.outside)))


def _compare_end(result: Comparison, wanted: Expected, outcome: Outcome) -> None:
    kinds, done = wanted.kinds, wanted.probes_done
    named = ANY_FAILURE if kinds == FAILED else " or ".join(sorted(kinds))
    result.show(OUTCOME, named)
    if outcome.kind not in kinds:
        result.differences.append(f"outcome: {outcome.kind}")
    elif outcome.kind is not OutcomeKind.HAND_OFF:
        result.seen.add(END)
    if done is not None:
        result.show("probes completed", str(done))
        if outcome.kind in kinds and outcome.probes_done != done:
            result.differences.append("another probe faults")


def _compare_registers(
    result: Comparison, prediction: Prediction, outcome: Outcome, named: frozenset[str]
) -> None:
    for name, value in prediction.registers().items():
        wanted, seen = hex(value), result.shown[name]
        if name in named or wanted != seen:
            result.show(name, wanted)
        if wanted == seen:
            result.seen.add(name)
        else:
            result.differences.append(f"{name}: {seen} instead of {wanted}")
    if not outcome.loads_match():
        result.differences.append("a load reads other bytes than those at its physical address")


def _compare_image(
    result: Comparison, contract: Contract, image: Image, prediction: Prediction, memory: bytes
) -> None:
    """Every byte of the image after the run, page tables modulo accessed and dirty flags.

    QEMU does not set the accessed flag of a code descriptor on a far return.
    """
    seen, wanted = bytearray(memory), bytearray(prediction.image_after)
    if contract.status is not None:
        word = image.symbols[contract.status.word]
        status = int.from_bytes(wanted[word : word + STATUS_WORD_SIZE], "little")
        result.show(STATUS, hex(status))
    tables = range(0)
    if contract.tables is not None:
        tables = range(image.symbols[contract.tables.start], image.symbols[contract.tables.end])
    if prediction.inside is not None:  # there the payload was
        at = prediction.inside - prediction.given.base
        seen[at : at + PAYLOAD] = wanted[at : at + PAYLOAD]
    not_accessed_dirty = bytes(byte & ~ACCESSED_DIRTY & 0xFF for byte in range(256))
    for data in (seen, wanted):
        flags = data[tables.start : tables.stop : 8].translate(not_accessed_dirty)
        data[tables.start : tables.stop : 8] = flags
        for address in prediction.accessed_flags():
            if 0 <= address - prediction.given.base < len(data):
                data[address - prediction.given.base] |= 1
    if seen == wanted:
        result.seen.add(IMAGE)
        return
    at = next(i for i, (a, b) in enumerate(zip(seen, wanted, strict=True)) if a != b)
    result.differences.append(f"image byte {at:#x}: {seen[at]:#x} instead of {wanted[at]:#x}")


def _compare_outside(
    result: Comparison, contract: Contract, prediction: Prediction, memory: list[bytes]
) -> None:
    """Every byte that the path writes outside the image, table entries modulo accessed and dirty.

    They were seen to be written only if each of them held something else before.
    """
    wanted, flags = prediction.outside, set(prediction.accessed_flags())
    entries = {
        address
        for area in contract.area
        if area.tables and area.size is not None
        for address in range(area.address, area.address + area.size, 8)
    }
    before, changed = prediction.outside_at_entry(), bool(wanted)
    for part, data in zip(stretches(wanted), memory, strict=True):
        after = bytes(wanted[address] for address in part)
        result.show(_stretch(part), after[:BYTES_SHOWN].hex(" "))
        for address, seen in zip(part, data, strict=True):
            compared = ~1 if address in flags else ~0
            if address in entries:
                compared = ~ACCESSED_DIRTY
            if (seen ^ wanted[address]) & compared:
                difference = f"byte at {address:#x}: {seen:#x} instead of {wanted[address]:#x}"
                result.differences.append(difference)
            changed = changed and (before[address] ^ wanted[address]) & compared != 0
    if changed:
        result.seen.add(OUTSIDE)
