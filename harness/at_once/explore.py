# SPDX-License-Identifier: GPL-2.0-only
"""Breadth-first search for a shortest schedule in which two CPUs are in one image at once.

This shares no step with `models.at_once`, on purpose: the two must agree (`verdict`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from harness.protocol.history import VISIBLE, Event
from models.at_once import FREE, NOBODY, OneImage, touches, within
from models.process import Edge, Kind, Location
from models.protocol import KERNEL, OUTSIDE

CPUS = 2
STATES = 200_000
START, LEAVES = "start", "the kernel leaves"
Buffer = tuple[tuple[str, int], ...]


class Cpu(NamedTuple):
    """Where a CPU is, as in `models.at_once.Cpu`, and its stores that are not visible yet."""

    at: int = OUTSIDE
    buffer: Buffer = ()


class State(NamedTuple):
    """`holder`: as in `models.at_once.Shared`. `busy`: the CPU that is amid an instruction, if an
    instruction is one step."""

    lock: int
    holder: int
    cpus: tuple[Cpu, ...]
    busy: int = NOBODY


@dataclass(frozen=True)
class Found:
    """`schedule`: a shortest one that breaks the property; None: there is none. `states`: those
    that were seen; `complete`: all that there are."""

    schedule: tuple[Event, ...] | None
    states: frozenset[State]
    complete: bool


class Explorer:
    """Two CPUs in one image. `plain`: as QEMU shows it: each instruction is one step, each store is
    visible at once, no CPU faults. `starts`: where they may begin, of those that the image has."""

    def __init__(
        self, image: OneImage, *, plain: bool = False, starts: tuple[int, ...] | None = None
    ) -> None:
        self._image, self._plain = image, plain
        self._starts = image.starts if starts is None else starts
        self._locations = image.cpu.locations
        self._within = within(image)

    def first(self) -> State:
        """Before the first start."""
        lock = FREE if self._image.lock is None else self._image.lock
        return State(lock, NOBODY, (Cpu(),) * CPUS)

    def run(self, first: State | None = None) -> Found:
        """From `first` on (None: from before the first start), until the property breaks, or
        nothing new comes."""
        first = first or self.first()
        parents: dict[State, tuple[State, Event] | None] = {first: None}
        queue = deque([first])
        while queue:
            state = queue.popleft()
            for event, after, broken in self.next(state):
                if broken:
                    way = [event]
                    while (parent := parents[state]) is not None:
                        state, before = parent
                        way.append(before)
                    return Found(tuple(reversed(way)), frozenset(parents), False)
                if after not in parents:
                    parents[after] = state, event
                    queue.append(after)
                    if len(parents) > STATES:
                        return Found(None, frozenset(parents), False)
        return Found(None, frozenset(parents), True)

    def next(self, state: State) -> Iterator[tuple[Event, State, bool]]:
        """All that can happen in a state: event, state after it, whether it breaks the property."""
        for number, cpu in enumerate(state.cpus):
            if state.busy in (NOBODY, number):
                yield from self._cpu(state, number, cpu)

    def _cpu(self, state: State, number: int, cpu: Cpu) -> Iterator[tuple[Event, State, bool]]:
        who = f"CPU {number}"

        def event(what: str) -> Event:
            return Event(who, None, what)

        if state.busy == NOBODY:
            if not cpu.buffer:
                for start in self._starts:
                    yield event(START), _with(state, number, Cpu(start)), False
            else:
                (word, value), *rest = cpu.buffer
                after = _with(state, number, cpu._replace(buffer=tuple(rest)))
                yield event(VISIBLE), _stored(after, number, word, value), False
            if cpu.at == KERNEL:
                after = _with(state, number, cpu._replace(at=OUTSIDE))
                if self._image.lock is not None:
                    after = self._store(after, number, "lock", FREE)
                yield event(LEAVES), after, False
        if cpu.at >= 0:
            location = self._locations[cpu.at]
            what = Event(who, cpu.at, f"{location.kind.value} {location.word}".strip())
            broken = touches(location) and any(
                self._is_within(other) for n, other in enumerate(state.cpus) if n != number
            )
            for after in self._act(state, number, cpu, location):
                yield what, after, broken

    def _act(self, state: State, number: int, cpu: Cpu, location: Location) -> Iterator[State]:
        """What may follow once a CPU has done the action of its location."""
        word, read, after = location.word, None, state
        match location.kind:
            case Kind.PARK:
                return
            case Kind.JUMP:
                yield self._arrived(state, number, KERNEL)
                return
            case Kind.LOAD:
                if word == "lock":
                    own = [value for w, value in cpu.buffer if w == word]
                    read = own[-1] if own else state.lock
            case Kind.STORE:
                after = self._store(state, number, word, location.value)
            case _ if cpu.buffer:
                return  # it waits until its stores are visible
            case Kind.EXCHANGE | Kind.COMPARE_EXCHANGE if word == "lock":
                read = state.lock
                if location.kind is Kind.EXCHANGE or read == location.expected:
                    after = _stored(state, number, word, location.value)
        for edge in location.edges:
            fault = self._locations[edge.target].fault
            if _applies(edge, read) and not (self._plain and fault):
                yield self._arrived(after, number, edge.target)

    def _arrived(self, state: State, number: int, target: int) -> State:
        cpu = state.cpus[number]
        amid = (
            self._plain
            and target > cpu.at
            and self._locations[target].addresses == self._locations[cpu.at].addresses
        )
        there = _with(state, number, cpu._replace(at=target))
        return there._replace(busy=number if amid else NOBODY)

    def _store(self, state: State, number: int, word: str, value: object) -> State:
        """A plain store."""
        if self._plain:
            return _stored(state, number, word, value)
        cpu = state.cpus[number]
        entry = (word, value if isinstance(value, int) else 0)
        return _with(state, number, cpu._replace(buffer=(*cpu.buffer, entry)))

    def _is_within(self, cpu: Cpu) -> bool:
        stores = any(word == "image" for word, _ in cpu.buffer)
        return stores or cpu.at == KERNEL or cpu.at in self._within


def _with(state: State, number: int, cpu: Cpu) -> State:
    return state._replace(cpus=(*state.cpus[:number], cpu, *state.cpus[number + 1 :]))


def _stored(state: State, number: int, word: str, value: object) -> State:
    """Memory after a store of this CPU."""
    if word == "image":
        return state
    assert isinstance(value, int)
    holder = number if state.lock == FREE else state.holder
    return state._replace(lock=value, holder=NOBODY if value == FREE else holder)


def _applies(edge: Edge, read: int | None) -> bool:
    if edge.when is None or read is None:
        return True
    how, values = edge.when
    return (read in values) == (how == "is")
