# SPDX-License-Identifier: GPL-2.0-only
"""A path of a run as functions of the input: what each step finds in registers, and writes.

A path is compiled once; after that an input takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import z3

from harness.replay.predict import Prediction, differs
from harness.solve.evaluate import Function, compile_term
from harness.x86.lift import MAX_LENGTH, lift
from harness.x86.registers import FLAGS, Value, force
from harness.x86.run import Access, EndKind, FinalState, PathEnd
from harness.x86.terms import ENTRY_MEMORY, INDEX, simplify, variables
from models.descriptors import Segment
from models.modes import GENERAL_REGISTERS, Mode

HIDDEN = ("base", "limit", "type", "s", "dpl", "present", "long", "big")
"""The hidden part of a segment register. With a null selector it means nothing."""
FOUND_AT_ENTRY = "cr0_at_entry"
"""What INIT leaves in CR0 differs from CPU to CPU: the one beside has what the input says."""
ACCESSED_AND_DIRTY = 0x60
"""The CPU may set them in table entries that it uses, and the code may then write them back."""
SET_BY_WALKS = "accessed_dirty"
"""Begins the names of symbols for these bits."""

Write = tuple[int, int, int]
"""Address, size in bytes, value."""


@dataclass(frozen=True, eq=False)
class Part:
    """What is compared of a register, `width` bits from bit `low` on, and its term.

    `register`: name of the register that a CPU shows. `only_64`: it means something in 64-bit code
    alone. `unless`: a condition under which it means nothing.
    """

    name: str
    register: str
    term: z3.ExprRef
    low: int = 0
    width: int = 64
    only_64: bool = False
    unless: z3.BoolRef | None = None

    @cached_property
    def function(self) -> Function:
        """The term as a function of the input."""
        return compile_term(self.term)

    @cached_property
    def means_nothing(self) -> Function | None:
        """`unless` as a function of the input; None if it is never so."""
        known = self.unless is None or z3.is_false(self.unless)
        return None if known else compile_term(self.unless)

    @cached_property
    def needs(self) -> frozenset[str]:
        """The symbols that decide the value."""
        terms = [self.term] if self.unless is None else [self.term, self.unless]
        return frozenset(name for term in terms for name in variables(term))

    def seen(self, value: int) -> int:
        """The part of what a CPU shows."""
        return value >> self.low & (1 << self.width) - 1


@dataclass(frozen=True)
class Foreseen:
    """A write that is foretold. `open_bits`: those of its value that are not.

    `turns`: it is what all turns of a repeated string instruction write together.
    """

    write: Write
    open_bits: int = 0
    turns: bool = False


@dataclass(frozen=True)
class CompiledAccess:
    """A write: each of its `count` stores. `seen`, `expected`: see `run.Access`. `open_bits` and
    `turns`: see `Foreseen`."""

    access: Access
    open_bits: int
    turns: bool
    linear: Function
    value: Function
    seen: Function | None
    expected: Function | None


@dataclass(frozen=True)
class FollowedStep:
    """One instruction of the trace. `parts`: what was written to registers since the one before.

    `skipped`: so many instructions of a summarised loop lie between this one and the next.
    """

    offset: int
    mode: Mode
    origin: Function
    parts: tuple[Part, ...]
    writes: tuple[CompiledAccess, ...]
    skipped: int


@dataclass(frozen=True)
class Followed:
    """A path. `rip` and `parts`: where it hands over, and what in the registers; else None and
    none."""

    steps: tuple[FollowedStep, ...]
    rip: Function | None
    parts: tuple[Part, ...]


ALWAYS = (Part("cr2", "cr2", z3.BitVecVal(0, 64)),)
"""INIT clears CR2 (SDM 3A table 9-1), and no path goes on behind a page fault."""


@lru_cache(maxsize=256)
def follow(end: PathEnd) -> Followed:
    """The path that ends so."""
    steps = []
    for number, (offset, mode) in enumerate(end.trace):
        before, accesses = end.history[number], end.accesses_of(number)
        always = ALWAYS if number == 0 and mode == Mode.REAL16.name else ()
        steps.append(
            FollowedStep(
                offset=offset,
                mode=Mode[mode],
                origin=compile_term(before.origin),
                parts=(*always, *_parts(before.values, before.flags)),
                writes=tuple(
                    _compiled(end, mode, a) for a in accesses if a.kind in ("store", "locked")
                ),
                skipped=_skipped(end, number, accesses),
            )
        )
    if end.kind is not EndKind.HAND_OFF:
        return Followed(tuple(steps), None, ())
    return Followed(tuple(steps), compile_term(end.state.rip), tuple(_at_end(end.state)))


def _at_end(state: FinalState) -> Iterator[Part]:
    values: dict[str, z3.BitVecRef | Segment] = {
        **state.registers,
        **vars(state.control),
        **state.segments,
        **{"gdtr_base": state.gdtr_base, "gdtr_limit": state.gdtr_limit},
        **{"idtr_base": state.idtr_base, "idtr_limit": state.idtr_limit},
    }
    bits = {name: z3.Extract(bit, bit, state.rflags) for name, bit in FLAGS.items()}
    return _parts(values, dict(bits))


def _parts(values: dict[str, z3.BitVecRef | Segment], flags: dict[str, Value]) -> Iterator[Part]:
    for name, value in values.items():
        if isinstance(value, Segment):
            yield Part(name, name, value.selector, width=16)
            for field in HIDDEN:
                part, term = f"{name}_{field}", getattr(value, field)
                if part == "cs_type":  # without the accessed flag: see limits.ACCESSED
                    term = simplify(z3.Extract(3, 1, term))
                    yield Part(part, part, term, low=1, width=3, unless=value.null)
                else:
                    yield Part(part, part, term, unless=value.null)
        elif name in GENERAL_REGISTERS:
            lower, upper = (simplify(z3.Extract(n + 31, n, value)) for n in (0, 32))
            extended = name not in GENERAL_REGISTERS[:8]
            yield Part(name, name, lower, width=32, only_64=extended)
            yield Part(f"upper half of {name}", name, upper, low=32, width=32, only_64=True)
        else:
            yield Part(name, name, value)
    for name, flag in flags.items():
        yield Part(name, "rflags", force(flag), low=FLAGS[name], width=1)


def _compiled(end: PathEnd, mode: str, access: Access) -> CompiledAccess:
    data = end.memory.image.data[access.instruction :][:MAX_LENGTH]
    mnemonic = lift(data, access.instruction, Mode[mode].bits).mnemonic
    flags_of_entries = any(name.startswith(SET_BY_WALKS) for name in variables(access.value))
    return CompiledAccess(
        access,
        ACCESSED_AND_DIRTY if flags_of_entries else 0,
        mnemonic.endswith(".REP"),
        compile_term(access.linear),
        compile_term(access.value),
        None if access.seen is None else compile_term(access.seen),
        None if access.expected is None else compile_term(access.expected),
    )


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


class Foretold:
    """The values for one input."""

    def __init__(self, prediction: Prediction) -> None:
        self._values, self._memory = prediction.values, prediction.memory
        self._fixed = {*prediction.values, str(ENTRY_MEMORY), INDEX}

    def value(self, term: Function) -> int:
        """The value of a compiled term."""
        return term(self._values, self._memory)

    def known(self, part: Part) -> int | None:
        """The value of a part; None if it is open, or means nothing."""
        if not all(map(self._is_fixed, part.needs)):
            return None
        if part.means_nothing is not None and self.value(part.means_nothing):
            return None
        return self.value(part.function)

    def _is_fixed(self, name: str) -> bool:
        return name in self._fixed and (name == FOUND_AT_ENTRY or not differs(name))

    def writes(self, step: FollowedStep) -> Iterator[Foreseen]:
        """What a step writes, the stores of summarised loops one by one."""
        for one in step.writes:
            first, access = self.value(one.linear), one.access
            if access.kind == "locked":
                assert one.seen is not None or access.expected is None
                value = self.value(one.value)
                if one.seen is not None and one.expected is not None:
                    found = self.value(one.seen)
                    value = value if found == self.value(one.expected) else found
                yield Foreseen((first, access.size, value), one.open_bits)
                continue
            values = type(self._values)(self._values)
            for index in range(access.count):
                values[INDEX] = index
                value = one.value(values, self._memory)
                write = first + index * access.stride, access.size, value
                yield Foreseen(write, one.open_bits, one.turns)
