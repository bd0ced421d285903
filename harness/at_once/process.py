# SPDX-License-Identifier: GPL-2.0-only
"""The process of a CPU that is started in an image while others are, from the run.

Every access to memory is an action on the "lock", if it is to that word, else on the "image": so is
the execution of an operand that the code itself writes, or of a copy that it has made of itself,
and a load of CR3, from which on the CPU itself reads tables. What an access finds in the lock
decides how a path goes on; whatever else it finds, anything may follow. A loop that waits goes back
to where its round began.

The run takes it that nobody else writes the image meanwhile. So the process is right up to the
first access of another CPU that breaks the property; that is what the property needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import z3

from harness.protocol.target import ProcessError
from harness.protocol.tree import (
    Event,
    Node,
    Ways,
    When,
    drains,
    every,
    follow,
    instruction_at,
    loads_register,
    numbered,
    place,
    repeats,
)
from harness.x86.lift import FIELD
from harness.x86.memory import Write, overlap
from harness.x86.prover import prover_of
from harness.x86.run import Access, EndKind, PathEnd, Run
from harness.x86.terms import const, index_symbol, number, simplify, variables
from models.at_once import FREE, OneImage
from models.process import Kind, Process
from trampoline.contract import Contract
from trampoline.image import LOCK_WORD_SIZE, Image

VALUES_MAX = 8
"""Values that the lock may have, at most, for a process to be read off."""
ATOMIC = 8
"""Bytes of the largest access that is taken for one."""
_OPEN = (EndKind.UNPROMISED, EndKind.STRAY, EndKind.TABLE_IN_USE, EndKind.OVERWRITTEN)
"""Ends of a path after which anything may follow."""
_KINDS = {"store": Kind.STORE, "accessed": Kind.STORE, "locked": Kind.EXCHANGE}


class Never(Exception):
    """No CPU takes this path: the lock never holds what it would have to find."""


@dataclass(frozen=True)
class Found:
    """An event, with the number of accesses before its instruction, and what it finds in the lock
    on this path."""

    accesses: int
    event: Event
    answer: When


@dataclass(frozen=True)
class Started:
    """What CPUs do that are started in one image. `real`: the starts at which a SIPI begins."""

    image: OneImage
    real: tuple[int, ...]


def started(contract: Contract, image: Image, run: Run) -> Started:
    """What a CPU does from each entry to the jump or the end of its way. Raises ProcessError."""
    for end in run.ends:
        if end.kind is EndKind.UNSUPPORTED:
            raise ProcessError(f"{contract.name}: {end.detail}; no process without all paths.")
        if end.kind in _OPEN:
            raise ProcessError(f"{contract.name}: a path ends by {end.kind.value}; no process.")
    if run.lost:
        raise ProcessError(f"{contract.name}: {run.lost}; no process without all paths.")
    reader = _Reader(contract, image, run)
    roots: Ways = []
    real = set()
    for end in run.ends:
        try:
            events = list(reader.events(end))
        except Never:
            continue
        root = _add(roots, end, events, contract.name)
        if contract.entry[end.entry].mode == "real":
            real.add(id(root))
    starts = [node for _, node in roots]
    reader.check(roots)
    found = OneImage(
        Process("CPU", numbered(starts, image)), tuple(range(len(starts))), reader.initial
    )
    return Started(found, tuple(n for n, node in enumerate(starts) if id(node) in real))


def _add(roots: Ways, end: PathEnd, events: Sequence[Found], name: str) -> Node:
    """Put one path into the tree; where it begins."""
    here, when = roots, None
    nodes: list[Node] = []
    for one in events:
        nodes.append(follow(here, when, one.event))
        here, when = nodes[-1].after, one.answer
    if end.round is not None:
        begun = [
            node
            for node, one in zip(nodes, events, strict=True)
            if one.accesses == end.round and one.event.word == "lock"
        ]
        if not begun:
            raise ProcessError(f"{name}: a loop waits for another word than the lock.")
        if not any(w == when and node is begun[0] for w, node in here):
            here.append((when, begun[0]))
    return nodes[0]


class _Reader:
    """Turns the accesses of a path into events. `initial`: the lock's first value."""

    def __init__(self, contract: Contract, image: Image, run: Run) -> None:
        self._contract, self._image = contract, image
        self._prover = prover_of(run)
        self._patched = [image.symbols[one.symbol] for one in contract.patched]
        self._lock: int | None = None
        self.initial: int | None = None
        self._values: list[int] = []
        if contract.lock is not None:
            self._lock = image.symbols[contract.lock.word]
            assembled = image.data[self._lock : self._lock + LOCK_WORD_SIZE]
            self.initial = int.from_bytes(assembled, "little")
            self._values = self._all_values(run)

    def events(self, end: PathEnd) -> Iterator[Found]:
        """The events of a path in program order. Raises Never."""
        last: Event | None = None
        repeated: Found | None = None
        for one in self._all(end):
            if last is not None and repeats(last, one.event):
                # Of many accesses in a row the last one counts, too: until then it is not over.
                repeated = one if one.event.word == "image" else None
                continue
            if repeated is not None:
                yield repeated
            yield one
            last, repeated = one.event, None
        if repeated is not None:
            yield repeated
        if end.kind is EndKind.HAND_OFF:
            yield Found(len(end.accesses), Event(end.instruction, Kind.JUMP), None)
        elif end.round is None:
            fault = end.kind is EndKind.SHUTDOWN
            yield Found(len(end.accesses), Event(end.instruction, Kind.PARK, fault=fault), None)

    def _all(self, end: PathEnd) -> Iterator[Found]:
        trace = end.trace if end.round is None else end.trace[:-1]  # less what begins a new round
        for step, (offset, mode) in enumerate(trace):
            first = end.history[step].accesses
            more = step + 1 < len(end.history)
            accesses = end.accesses[first : end.history[step + 1].accesses if more else None]
            if not end.history[step].origin.eq(end.memory.base.term):  # in a copy of the code
                yield Found(first, Event(offset, Kind.LOAD, "image"), None)
            for event, answer in self._of_instruction(end, offset, mode, accesses):
                yield Found(first, event, answer)

    def _of_instruction(
        self, end: PathEnd, offset: int, mode: str, accesses: Sequence[Access]
    ) -> Iterator[tuple[Event, When]]:
        instruction = instruction_at(self._image, offset, mode)
        if any(offset < operand + FIELD and operand < instruction.end for operand in self._patched):
            yield Event(offset, Kind.LOAD, "image"), None
        if drains(instruction):
            yield Event(offset, Kind.FENCE), None
        if loads_register(instruction, ("CR3",)):
            yield Event(offset, Kind.LOAD, "image"), None
        for access in accesses:
            if self._is_lock(end, access):
                yield self._of_lock(end, access)
            else:
                event = Event(offset, _KINDS.get(access.kind, Kind.LOAD), "image")
                yield event, None
                if access.count > 1 or access.size > ATOMIC:
                    yield event, None

    def _of_lock(self, end: PathEnd, access: Access) -> tuple[Event, When]:
        value, expected, kind = None, None, _KINDS.get(access.kind, Kind.LOAD)
        if access.expected is not None:
            kind, expected = Kind.COMPARE_EXCHANGE, self._one_value(end, access, access.expected)
        if access.writes:
            value = self._one_value(end, access, access.value)
        answer: When = None
        if access.seen is not None:
            seen = access.seen
            found = [v for v in self._values if self._prover.possible(end.path, seen == v)]
            if not found:
                raise Never
            answer = None if found == self._values else ("is", tuple(found))
        return Event(access.instruction, kind, "lock", value, expected), answer

    def _is_lock(self, end: PathEnd, access: Access) -> bool:
        """It is to the word of the lock, all of it; else it meets no byte of it."""
        if self._lock is None:
            return False
        base = end.memory.base
        if base.offset_of(access.linear) == self._lock and access.size == LOCK_WORD_SIZE:
            return True
        word = Write(base.at(self._lock), LOCK_WORD_SIZE, const(0, 8 * LOCK_WORD_SIZE))
        first = access.linear + index_symbol * access.stride
        meets = z3.And(z3.ULT(index_symbol, access.count), overlap(word, first, access.size))
        if self._prover.possible(end.path, meets):
            at = self._at(access.instruction)
            raise ProcessError(f"{at}: an access that may meet part of the lock.")
        return False

    def _one_value(self, end: PathEnd, access: Access, term: z3.BitVecRef) -> int:
        found = self._values_of(end, access, term)
        if not found:
            raise Never
        if len(found) != 1:
            raise ProcessError(
                f"{self._at(access.instruction)}: it leaves in the lock one of {sorted(found)}, "
                "and the code does not ask which."
            )
        return found.pop()

    def _values_of(self, end: PathEnd, access: Access, term: z3.BitVecRef) -> set[int]:
        """The values of a term, if what was read of the lock is one of those that it has."""
        read = {
            str(one.seen): one.seen
            for one in end.accesses
            if one.seen is not None and self._is_lock(end, one)
        }
        symbols = [read[name] for name in variables(term) if name in read]
        found = set()
        for values in product(self._values, repeat=len(symbols)):
            chosen = [(s, const(v, s.size())) for s, v in zip(symbols, values, strict=True)]
            if self._prover.possible(end.path, z3.And(*(s == v for s, v in chosen))):
                value = number(simplify(z3.substitute(term, *chosen)))
                if value is None:
                    at = self._at(access.instruction)
                    raise ProcessError(f"{at}: a value for the lock that no process can say.")
                found.add(value)
        return found

    def _all_values(self, run: Run) -> list[int]:
        """Every value that the lock may ever have."""
        assert self.initial is not None
        writes = [
            (end, access)
            for end in run.ends
            for access in end.accesses
            if access.writes and self._is_lock(end, access)
        ]
        self._values = sorted({self.initial, FREE})
        while len(self._values) <= VALUES_MAX:
            written = (self._values_of(end, access, access.value) for end, access in writes)
            values = sorted(set(self._values).union(*written))
            if values == self._values:
                return values
            self._values = values
        raise ProcessError(f"{self._contract.name}: the lock has more than {VALUES_MAX} values.")

    def check(self, roots: Ways) -> None:
        """Whatever is found in the lock, some path goes on. Raises ProcessError."""
        for ways in (roots, *(node.after for node in every([node for _, node in roots]))):
            found: dict[int, set[object]] = {}
            for _, node in ways:
                if node.event.word == "lock" and node.event.kind is not Kind.STORE:
                    answers = found.setdefault(node.event.instruction, set())
                    for when, _ in node.after:
                        answers.update(self._values if when is None else when[1])
            for instruction, answers in found.items():
                if answers != set(self._values):
                    at = self._at(instruction)
                    raise ProcessError(f"{at}: no path goes on for some value of the lock.")

    def _at(self, instruction: int) -> str:
        return f"{self._contract.name}: {place(self._image, instruction)}"
