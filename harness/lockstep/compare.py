# SPDX-License-Identifier: GPL-2.0-only
"""Does a run foretell, for one input, each step that a concrete CPU takes?

Compared before each instruction: its address, general registers (lower halves), selectors, CR0,
CR3, CR4, EFER, GDTR and IDTR; and all writes in order. What the manual leaves open, or what differs
from CPU to CPU, is not compared, nor are flags and the hidden part of segment registers, which show
in branches and addresses only. A loop that the machine has summarised is compared in its first and
its last turn, and in all that it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import z3

from harness.lockstep.emulated import CONTROL, GENERAL, SELECTORS, Emulation, Step, Write, emulate
from harness.replay.changes import Concrete
from harness.replay.predict import Prediction, differs
from harness.x86.run import Access, PathEnd
from harness.x86.terms import ENTRY_MEMORY, INDEX, variables
from models.descriptors import Segment

ACCESSED_AND_DIRTY = 0x60
"""The CPU may set them in table entries that it uses, and the code may then write them back."""
WIDE = (*CONTROL, "efer", "gdtr_base", "idtr_base", "gdtr_limit", "idtr_limit")


@dataclass(frozen=True)
class Mismatch:
    """The first difference. `step`: index of the instruction on the path."""

    step: int
    offset: int  # image offset of the instruction
    what: str  # a register, "address" or "write"
    predicted: str
    observed: str


@dataclass(frozen=True)
class Agreement:
    """How much was compared."""

    steps: int
    registers: int
    writes: int


def compare(prediction: Prediction) -> Mismatch | Agreement:
    """The prediction against unicorn's CPU. It must begin in real mode, with APIC id 0."""
    given = prediction.given
    image = prediction.image_before(prediction.end.found)  # an earlier start may have left it
    tables = tuple(range(start, start + len(data)) for start, data in given.blocks)
    return against(prediction, emulate(given.base, image, prediction.memory, tables))


def against(prediction: Prediction, seen: Emulation) -> Mismatch | Agreement:
    """The prediction against what a CPU did."""
    end, terms, registers = prediction.end, _Terms(prediction), 0
    held: dict[str, z3.BitVecRef] = {}
    at, writes = 0, 0
    for number, (offset, _) in enumerate(end.trace):
        before = end.history[number]
        held |= _registers(before.values)
        origin = terms.value(before.origin)
        if at >= len(seen.steps):
            return Mismatch(number, offset, "address", f"{origin + offset:#x}", "the CPU stopped")
        step = seen.steps[at]
        if step.address != origin + offset:
            observed = f"{step.address:#x}"
            return Mismatch(number, offset, "address", f"{origin + offset:#x}", observed)
        if step.writes != writes:
            return Mismatch(number, offset, "write", f"{writes} so far", f"{step.writes} so far")
        for name, predicted, observed_value in terms.compared(held, step):
            registers += 1
            if predicted != observed_value:
                found = f"{predicted:#x}", f"{observed_value:#x}"
                return Mismatch(number, offset, name, *found)
        accesses = end.accesses_of(number)
        for predicted_write in terms.writes(accesses):
            if writes == len(seen.writes):
                return Mismatch(number, offset, "write", _words(predicted_write), "none")
            if _plain(seen.writes[writes]) != _plain(predicted_write):
                found = _words(predicted_write), _words(seen.writes[writes])
                return Mismatch(number, offset, "write", *found)
            writes += 1
        at += 1 + _skipped(end, number, accesses)
    return Agreement(len(end.trace), registers, writes)


class _Terms:
    """Values of terms for the prediction's input."""

    def __init__(self, prediction: Prediction) -> None:
        self.value = Concrete(prediction).value
        self._fixed = {*prediction.values, str(ENTRY_MEMORY), INDEX}
        self._known: dict[int, tuple[z3.ExprRef, int | None]] = {}

    def compared(self, held: dict[str, z3.BitVecRef], step: Step) -> Iterator[tuple[str, int, int]]:
        """Each register that the run knows: its name, the value foretold, and the CPU's."""
        for name in (*GENERAL, *SELECTORS, *WIDE):
            if name in held and (known := self._register(name, held[name])) is not None:
                yield name, known, step.registers[name]

    def _register(self, name: str, term: z3.BitVecRef) -> int | None:
        """The value of what is compared of a register; None if that is open."""
        part = z3.simplify(z3.Extract(31, 0, term)) if name in GENERAL else term
        key = part.get_id()
        if key not in self._known:
            names = variables(part).keys()
            known = names <= self._fixed and not any(map(differs, names))
            self._known[key] = part, self.value(part) if known else None
        return self._known[key][1]

    def writes(self, accesses: tuple[Access, ...]) -> Iterator[Write]:
        """What the accesses write, those of summarised loops one by one."""
        for access in accesses:
            first = self.value(access.linear)
            if access.kind == "locked":
                assert access.seen is not None
                found = self.value(access.seen)
                met = access.expected is None or found == self.value(access.expected)
                yield first, access.size, self.value(access.value) if met else found
            if access.kind == "store":
                for index in range(access.count):
                    value = self.value(access.value, index)
                    yield first + index * access.stride, access.size, value


def _registers(values: dict[str, z3.BitVecRef | Segment]) -> dict[str, z3.BitVecRef]:
    return {n: v.selector if isinstance(v, Segment) else v for n, v in values.items()}


def _skipped(end: PathEnd, number: int, accesses: tuple[Access, ...]) -> int:
    """How many instructions of a summarised loop lie between this one and the next of the trace.

    The branch back that closes such a loop has the stores of all turns but the first and the last,
    one of each.
    """
    offset = end.trace[number][0]
    stored = [one for one in accesses if one.instruction != offset]
    if not stored:
        return 0
    start = end.trace[number + 1][0]
    body = 0
    for back in range(number, -1, -1):
        body += 1
        if end.trace[back][0] == start:
            break
    return sum(one.count for one in stored) * body


def _plain(write: Write) -> Write:
    address, size, value = write
    return address, size, value & ~ACCESSED_AND_DIRTY


def _words(write: Write) -> str:
    address, size, value = write
    return f"{size} bytes at {address:#x}: {value:#x}"
