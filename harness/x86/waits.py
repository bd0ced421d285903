# SPDX-License-Identifier: GPL-2.0-only
"""Loops that wait until another CPU changes a shared word.

What such a word holds is a new symbol at each read, so that the loop may be left, or not, after
each. A CPU that comes round is compared with itself at the same instruction one round before, right
after the read. If the two are alike but for the names of symbols that nothing is known of, whatever
can follow now could have followed then: the round changed nothing, and the path may end here.

Alike means all that the CPU goes on with: registers, flags unless the code overwrites them before
it reads them, hidden state, and memory. A bit test and set writes in any case; what wrote back to a
shared word what was read there does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import z3
from pypcode import OpCode

from harness.x86.cpu import Cpu
from harness.x86.errors import Unsupported
from harness.x86.machine import Machine
from harness.x86.memory import RangeWrite, Record
from harness.x86.path import Environment
from harness.x86.pcode import undefined_flags
from harness.x86.registers import force
from harness.x86.run import Access, EndKind
from harness.x86.system import NO_EFFECT, handler
from harness.x86.terms import variables
from models.modes import Mode

MAX_READINGS = 24
"""Of shared words on one path: twelve times what any trampoline here needs. Each is compared with
all before it."""
ARITHMETIC = frozenset({"CF", "PF", "AF", "ZF", "SF", "OF"})
_BRANCHES = frozenset(
    {
        *(OpCode.BRANCH, OpCode.CBRANCH, OpCode.BRANCHIND),
        *(OpCode.CALL, OpCode.CALLIND, OpCode.RETURN),
    }
)
_NUMBERED = re.compile(r"(?P<why>.+)_(?P<number>\d+)")
"""How `Environment.unknown` names its symbols."""


@dataclass(frozen=True)
class Reading:
    """The CPU after an instruction that read a shared word.

    `accesses` counts those before that instruction.
    """

    cpu: Cpu
    accesses: int


@dataclass(frozen=True)
class Round:
    """How a path that comes round ends; `accesses`: those before the instruction that began it."""

    kind: EndKind
    accesses: int


def ends_round(machine: Machine, now: Cpu) -> Round | None:
    """How the path ends here, if it has come round in a loop that only waits; else None.

    Raises Unsupported where a path reads such words again and again, and never is as it was before.
    `now` is a copy of the machine's CPU, which stands before an instruction. It is kept to be
    compared with, where the instruction before has read a shared word.
    """
    cpu = machine.cpu
    first = cpu.history[-1].accesses if cpu.history else 0
    if all(access.seen is None for access in cpu.accesses[first:]):
        return None
    reading = Reading(now, first)
    for before in reversed(cpu.readings):
        if _same_read(before, reading) and _alike(machine, before, reading):
            waits = len(cpu.path) > len(before.cpu.path)
            return Round(EndKind.WAITING if waits else EndKind.SPINNING, before.accesses)
    if len(cpu.readings) == MAX_READINGS:
        raise machine.refuse(f"more than {MAX_READINGS} reads of shared words on one path")
    cpu.readings = (*cpu.readings, reading)
    return None


def _same_read(before: Reading, now: Reading) -> bool:
    """The same instruction has read, in the same way. To other CPUs that matters: a lock may
    be asked for again without a LOCK prefix."""
    old, new = before.cpu, now.cpu
    here = (old.pc, old.mode, old.trace[-1]) == (new.pc, new.mode, new.trace[-1])
    ours, theirs = old.accesses[before.accesses :], new.accesses[now.accesses :]
    return here and len(ours) == len(theirs) and all(map(_same_access, ours, theirs))


def _same_access(one: Access, other: Access) -> bool:
    if (one.instruction, one.kind, one.size) != (other.instruction, other.kind, other.size):
        return False
    if one.expected is None or other.expected is None:
        return one.expected is other.expected and bool(one.linear.eq(other.linear))
    return bool(one.linear.eq(other.linear) and one.expected.eq(other.expected))


_BY_TERMS = frozenset(
    {
        *("registers", "segments", "control", "gdtr", "idtr", "memory", "hazards"),
        *("origin", "host_tables"),
    }
)
"""Of a CPU what is compared term by term, or by identity."""
_OF_THE_WAY = frozenset(
    {
        *("path", "accesses", "trace", "instructions", "history", "noted", "noted_flags"),
        *("readings", "locations", "state"),
    }
)
"""What tells of the way only: what is known of it is in the path, which the proof is given. Of two
CPUs that are alike all else is the same."""


def _alike(machine: Machine, before: Reading, now: Reading) -> bool:
    """Whatever can follow `now` could have followed `before`.

    That is so if a symbol that `before` does not restrict can be chosen to be what another one is
    `now`, so that the two are equal.
    """
    old, new = before.cpu, now.cpu
    others = vars(old).keys() - _BY_TERMS - _OF_THE_WAY
    if any(getattr(old, name) != getattr(new, name) for name in others):
        return False
    if not old.origin.eq(new.origin) or old.host_tables is not new.host_tables:
        return False
    if [p.halved for p in (old.gdtr, old.idtr)] != [p.halved for p in (new.gdtr, new.idtr)]:
        return False
    repeated = _repetitions(machine, before, now)
    pairs: list[tuple[z3.ExprRef, z3.ExprRef]] = []
    for log, longer in ((old.memory.records, new.memory.records), (old.hazards, new.hazards)):
        rest = [record for record in longer if not any(record is r for r in repeated)]
        if len(log) != len(rest) or not all(map(_same_shape, log, rest)):
            return False
        pairs += ((a.address, b.address) for a, b in zip(log, rest, strict=True))
        pairs += ((a.value, b.value) for a, b in zip(log, rest, strict=True))
    flags = _live_flags(machine.environment, new.pc, new.mode)
    pairs += zip(_terms(old, flags), _terms(new, flags), strict=True)
    renamed = _renaming(machine, old, new, [(a, b) for a, b in pairs if not a.eq(b)])
    chosen = [(z3.substitute(a, *renamed), b) for a, b in pairs]
    return all(machine.environment.prover.holds(new.path, a == b) for a, b in chosen if not a.eq(b))


def _terms(cpu: Cpu, flags: frozenset[str]) -> Iterator[z3.ExprRef]:
    """The terms in a CPU's registers, and in these flags."""
    yield from cpu.registers.values.values()
    yield from (force(value) for name, value in cpu.registers.flags.items() if name in flags)
    for segment in cpu.segments.values():
        yield from vars(segment).values()
    yield from vars(cpu.control).values()
    for pointer in (cpu.gdtr, cpu.idtr):
        yield from (pointer.base, pointer.limit)


def _same_shape(old: Record, new: Record) -> bool:
    if isinstance(old, RangeWrite) or isinstance(new, RangeWrite):
        return old is new
    return old.size == new.size


def _repetitions(machine: Machine, before: Reading, now: Reading) -> list[Record]:
    """What instructions of the rounds in between wrote back to a shared word as they had read it.

    No later read depends on it: each finds what others may have written since.
    """
    found = []
    for access, old in _rewrites(now.cpu.accesses[before.accesses : now.accesses]):
        written = now.cpu.memory.records[access.records]
        if machine.environment.prover.holds(now.cpu.path, written.value == old):
            found.append(written)
    return found


def _rewrites(accesses: Sequence[Access]) -> Iterator[tuple[Access, z3.BitVecRef]]:
    """Writes to a shared word by an instruction that reads it, too, each with what it read."""
    for number, access in enumerate(accesses):
        if access.kind == "locked" and access.seen is not None:
            yield access, access.seen
        elif access.kind == "store" and number:
            read = accesses[number - 1]
            same = (read.instruction, read.size) == (access.instruction, access.size)
            if same and read.seen is not None and read.linear.eq(access.linear):
                yield access, read.seen


def _renaming(
    machine: Machine, old: Cpu, new: Cpu, differing: list[tuple[z3.ExprRef, z3.ExprRef]]
) -> list[tuple[z3.ExprRef, z3.ExprRef]]:
    """Symbols that nothing is known of in `old`, each with one of the same kind in `new`."""

    def free(cpu: Cpu, terms: list[z3.ExprRef]) -> dict[str, z3.ExprRef]:
        known: set[str] = set()
        for condition in (*machine.environment.prover.assumptions, *cpu.path):
            known |= variables(condition).keys()
        found: dict[str, z3.ExprRef] = {}
        for term in terms:
            found |= variables(term)
        return {name: symbol for name, symbol in found.items() if name not in known}

    sides = [free(old, [a for a, _ in differing]), free(new, [b for _, b in differing])]
    both = sides[0].keys() & sides[1].keys()
    kinds: list[dict[str, list[tuple[int, z3.ExprRef]]]] = [{}, {}]
    for side, kind in zip(sides, kinds, strict=True):
        for name, symbol in side.items():
            if name not in both and (match := _NUMBERED.fullmatch(name)):
                kind.setdefault(match["why"], []).append((int(match["number"]), symbol))
    pairs = []
    for why, symbols in kinds[0].items():
        others = sorted(kinds[1].get(why, ()), key=lambda pair: pair[0])
        for (_, a), (_, b) in zip(sorted(symbols, key=lambda pair: pair[0]), others, strict=False):
            if a.sort() == b.sort():
                pairs.append((a, b))
    return pairs


def _live_flags(environment: Environment, pc: int, mode: Mode) -> frozenset[str]:
    """All flags but those that straight code from here on overwrites before it reads them."""
    open_flags, live = set(ARITHMETIC), {"DF", "IF", "TF"}
    while open_flags:
        try:
            instruction = environment.decode(pc, mode.bits)
        except Unsupported:
            break
        special = handler(instruction) is not None or ".REP" in instruction.mnemonic
        if special and instruction.mnemonic not in NO_EFFECT:
            break
        for op in instruction.ops:
            read = {node.name for node in op.inputs} & open_flags
            live |= read
            open_flags -= read
            if op.opcode in _BRANCHES:
                return frozenset(live | open_flags)
            if op.output is not None:
                open_flags.discard(op.output.name)
        open_flags -= set(undefined_flags(instruction))
        pc = instruction.end
    return frozenset(live | open_flags)
