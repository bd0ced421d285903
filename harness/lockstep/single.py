# SPDX-License-Identifier: GPL-2.0-only
"""Single instructions from random states: the machine and its table of operations beside a CPU.

The machine executes the instruction on concrete values. Of a plain instruction the terms that the
table of p-code operations makes are evaluated at the same states.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from harness.lockstep.alone import ElsewhereError, predicted
from harness.lockstep.beside import Beside
from harness.lockstep.compare import FAULTS
from harness.lockstep.draw import states
from harness.lockstep.forms import Form
from harness.lockstep.limits import IGNORED, limit_of
from harness.lockstep.state import CODE, After, State
from harness.lockstep.table import Instantiated, Table
from harness.lockstep.together import together
from harness.x86.errors import Unsupported
from harness.x86.lift import MAX_LENGTH, Instruction, lift
from harness.x86.registers import FLAGS

LOWER = "lower half of "


@dataclass(frozen=True)
class Difference:
    """The machine (or its table) and the CPU differ after an instruction from a state."""

    by: str  # "machine" or "table"
    what: str
    predicted: str
    observed: str


@dataclass
class Tally:
    """What was compared of one form. `refused`, `limits`: how often, by reason. `tables`: what the
    table of operations says of an instruction, by its bytes."""

    states: int = 0
    compared: int = 0
    faults: int = 0
    registers: int = 0
    writes: int = 0
    by_table: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    tables: dict[bytes, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A difference, with the smallest state that was found to show it."""

    form: Form
    instruction: str
    difference: Difference
    state: State
    smallest: State


def instruction_of(state: State) -> Instruction:
    """The instruction of a state."""
    return lift(state.memory[CODE : CODE + MAX_LENGTH], CODE, state.mode.bits)


def compare_form(
    form: Form, number: int, random: Random, beside: Beside
) -> tuple[Tally, Found | None]:
    """From so many states, up to the first difference."""
    tally = Tally()

    def again(one: State) -> Difference | None:
        return compare_state(form, one, beside, Tally(tables=tally.tables))

    for state in states(form, number, random):
        difference = compare_state(form, state, beside, tally)
        if difference is not None:
            smallest = minimise(state, lambda one: again(one) is not None)
            last = again(smallest)
            shown = str(instruction_of(smallest))
            return tally, Found(form, shown, last or difference, state, smallest)
    return tally, None


def compare_state(form: Form, state: State, beside: Beside, tally: Tally) -> Difference | None:
    """From one state."""
    tally.states += 1
    instruction = instruction_of(state)
    try:
        state = beside.prepared(state, instruction)
        ours = predicted(state, beside.features)
    except ElsewhereError as error:
        ours = After(refused=str(error))
    if ours.refused:
        tally.refused[re.sub("`[^`]*`|0x[0-9a-f]+|[0-9]+", "...", ours.refused)] += 1
        return None
    try:
        seen = beside.run(state, instruction, ours)
    except ElsewhereError as error:
        tally.refused[str(error)] += 1
        return None
    if ours.fault is not None:
        return _fault(ours, seen, state, tally)
    if seen.fault is not None:
        return Difference("machine", "fault", "none", f"exception {seen.fault}")
    if seen.detail:
        return Difference("machine", "end", "none", seen.detail)
    if ours.parked != seen.parked:
        names = {True: "halts", False: "goes on"}
        return Difference("machine", "end", names[ours.parked], names[seen.parked])
    tally.compared += 1
    found = next(_differences(form, ours.registers, ours.linear, ours.writes, seen, tally), None)
    if found is not None:
        return Difference("machine", *found)
    if form.plain:
        return _by_table(form, state, seen, tally)
    return None


def _fault(ours: After, seen: After, state: State, tally: Tally) -> Difference | None:
    numbers = next(n for begin, n in FAULTS.items() if ours.detail.startswith(begin))
    if seen.fault in numbers:
        tally.faults += 1
        tally.compared += 1
        return None
    limit = limit_of(ours.detail, state, seen)
    if seen.fault is None and limit is not None:
        tally.limits[limit.what] += 1
        return None
    how = "no fault" if seen.fault is None else f"exception {seen.fault}"
    return Difference("machine", "fault", ours.detail, how)


def _by_table(form: Form, state: State, seen: After, tally: Tally) -> Difference | None:
    instruction = instruction_of(state)
    code = state.memory[CODE : CODE + instruction.length]
    try:
        if code not in tally.tables:
            tally.tables[code] = Table(instruction, state.mode)
        table = tally.tables[code]
    except Unsupported as refusal:
        return Difference("table", "end", str(refusal), "executed")
    says: Instantiated = table.at(state)
    tally.by_table += 1
    found = next(_differences(form, says.registers, says.linear, says.writes, seen, tally), None)
    return None if found is None else Difference("table", *found)


def _differences(
    form: Form,
    registers: Mapping[str, int],
    linear: int | None,
    writes: tuple[tuple[int, int, int], ...],
    seen: After,
    tally: Tally,
) -> Iterator[tuple[str, str, str]]:
    for name, value in registers.items():
        tally.registers += 1
        found = _shown(name, seen.registers)
        ignored = IGNORED.get(name, 0)
        value, found = value & ~ignored, found & ~ignored
        if value != found:
            yield name, f"{value:#x}", f"{found:#x}"
    if linear is not None and linear != seen.linear:
        yield "address", f"{linear:#x}", f"{seen.linear:#x}"
    tally.writes += len(writes)
    ours, theirs = list(writes), list(seen.writes)
    if form.repeats:
        ours, theirs = _one(ours), _one(theirs)
    if ours != theirs:
        yield "writes", _words(ours), _words(theirs)


def _one(writes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    write = together(writes)
    whole = write is not None and write[1] == sum(size for _, size, _ in writes)
    return [write] if write is not None and whole else writes


def _shown(name: str, registers: Mapping[str, int]) -> int:
    if name in FLAGS:
        return registers["rflags"] >> FLAGS[name] & 1
    if name.startswith(LOWER):
        return registers[name.removeprefix(LOWER)] & 0xFFFF_FFFF
    return registers[name]


def _words(writes: list[tuple[int, int, int]]) -> str:
    shown = (f"{size} at {at:#x}: {value:#x}" for at, size, value in writes)
    return ", ".join(shown) or "none"


def minimise(state: State, differs: Callable[[State], bool]) -> State:
    """The state with as few registers, flags and bytes of memory that are not 0 as will do."""
    for name in state.registers:
        for value in (0, state.registers[name] & 0xFFFF, state.registers[name] & 0xFFFF_FFFF):
            if value != state.registers[name]:
                less = replace(state, registers={**state.registers, name: value})
                if differs(less):
                    state = less
                    break
    for bit in range(12):
        less = replace(state, rflags=state.rflags & ~(1 << bit) | 2)
        if less != state and differs(less):
            state = less
    code = range(CODE, CODE + instruction_of(state).length)
    parts = [range(0, code.start), range(code.stop, len(state.memory))]
    while parts:
        part = parts.pop()
        if not any(state.memory[part.start : part.stop]):
            continue
        memory = bytearray(state.memory)
        memory[part.start : part.stop] = bytes(len(part))
        less = replace(state, memory=bytes(memory))
        if differs(less):
            state = less
        elif len(part) > 1:
            middle = (part.start + part.stop) // 2
            parts += [range(part.start, middle), range(middle, part.stop)]
    return state
