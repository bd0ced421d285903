# SPDX-License-Identifier: GPL-2.0-only
"""The explorer's steps, each worked out once: what one process does depends on little of the rest.

Of another CPU it matters only whether it runs on the area's tables, and whether it is done. Of the
host a CPU's step depends on where it waits, if all its stores are visible. A step of the host
depends on no CPU more than that, but for those that change one.

A state is one number: those of the host's part, of memory with the history, and of each CPU, each
in `_BITS` bits. So a step is a difference of two states.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Protocol

from harness.protocol.explored import KERNEL, OUTSIDE, Cpu, State
from harness.protocol.history import Event
from models.process import Kind, Process

Next = tuple[Event, State, tuple[str, ...]]
"""An event, the state after it, and the properties that it breaks."""
Way = tuple[Event, int, tuple[str, ...]]
"""The same, with what has to be added to a state's number."""

_BITS = 24
_MASK = (1 << _BITS) - 1
_CHANGES_A_CPU = (Kind.BEGIN, Kind.INIT, Kind.SIPI)


class Steps(Protocol):
    """What can happen: all steps of the host, and of one CPU."""

    def host_next(self, state: State) -> Iterable[Next]:
        """Of the host."""

    def cpu_next(self, state: State, number: int, cpu: Cpu) -> Iterable[Next]:
        """Of CPU `number`, and those that happen to it."""


class KnownSteps:
    """`loop`: where the host waits. `paged`: where a CPU runs on the area's tables."""

    def __init__(
        self, steps: Steps, host: Process, cpu: Process, loop: set[int], paged: set[int | str]
    ) -> None:
        self._steps, self._loop, self._paged = steps, loop, paged
        self._alone = [location.kind not in _CHANGES_A_CPU for location in host.locations]
        parked = {n for n, x in enumerate(cpu.locations) if x.kind is Kind.PARK}
        self._done: set[int | str] = {KERNEL, OUTSIDE, *parked}
        self._hosts, self._memories, self._cpus = _Numbers(), _Numbers(), _Numbers()
        self._waits: list[int] = []
        self._views: list[int] = []
        self._of_host: dict[tuple[int, ...], list[Way]] = {}
        self._of_cpu: dict[tuple[int, ...], list[Way]] = {}

    def packed(self, state: State) -> int:
        """The state's number."""
        number = self._host(state) << _BITS | self._memory(state)
        for cpu in state.cpus:
            number = number << _BITS | self._cpu(cpu)
        return number

    def next(self, packed: int, cpus: int) -> list[Way]:
        """All that can happen in a state of `cpus` CPUs, in the explorer's order."""
        parts = [packed >> _BITS * n & _MASK for n in range(cpus, -1, -1)]
        host, (memory, *numbers) = packed >> _BITS * (cpus + 1), parts
        views = [self._views[cpu] for cpu in numbers]
        state = None
        key: tuple[int, ...] = (host, memory, *views)
        found = self._of_host.get(key)
        if found is None:
            state = self._state(host, memory, numbers)
            found = [
                (event, self.packed(after) - packed, broken)
                for event, after, broken in self._steps.host_next(state)
            ]
            if self._alone[state.at]:
                self._of_host[key] = found
        for n, cpu in enumerate(numbers):
            view, views[n] = views[n], cpu
            key = (n, self._waits[host], memory, *views)
            views[n] = view
            ways = self._of_cpu.get(key)
            if ways is None:
                state = state or self._state(host, memory, numbers)
                ways = self._of_cpu[key] = [
                    (event, self.packed(after) - packed, broken)
                    for event, after, broken in self._steps.cpu_next(state, n, state.cpus[n])
                ]
            found = found + ways
        return found

    def _state(self, host: int, memory: int, cpus: Iterable[int]) -> State:
        at, buffer, owner = self._hosts.things[host]
        status, kernel, boot_params, marked, attempts, strays = self._memories.things[memory]
        there = tuple(self._cpus.things[cpu] for cpu in cpus)
        return State(
            at, buffer, owner, status, kernel, boot_params, marked, attempts, there, strays
        )

    def _host(self, state: State) -> int:
        number = self._hosts.of((state.at, state.buffer, state.owner))
        if number == len(self._waits):
            self._waits.append(state.at if state.at in self._loop and not state.buffer else -1)
        return number

    def _memory(self, state: State) -> int:
        words = (state.status, state.kernel, state.boot_params, state.marked)
        return self._memories.of((*words, state.attempts, state.strays))

    def _cpu(self, cpu: Cpu) -> int:
        number = self._cpus.of(cpu)
        if number == len(self._views):
            done = cpu.at in self._done and not cpu.buffer
            self._views.append(2 * (cpu.at in self._paged) + done)
        return number


class _Numbers:
    """Gives equal things one number, of `_BITS` bits."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}
        self.things: list[Any] = []

    def of(self, thing: Hashable) -> int:
        number = self._known.get(thing)
        if number is None:
            number = self._known[thing] = len(self.things)
            self.things.append(thing)
            assert number <= _MASK
        return number
