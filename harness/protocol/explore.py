# SPDX-License-Identifier: GPL-2.0-only
"""Breadth-first search for shortest schedules that break a property; few CPUs, few attempts.

This shares nothing with `models.protocol`, on purpose: attempts are numbered here, every store in a
buffer remembers for which one it was made, and the properties are read off the attempts' histories.
The two must agree (`harness.protocol.verdict`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from harness.protocol import history
from harness.protocol.explored import (
    KERNEL,
    OUTSIDE,
    WAITS,
    Cpu,
    State,
    Store,
    initialised,
    loaded,
    visible,
    with_attempt,
    with_cpu,
)
from harness.protocol.history import Attempt, Event
from harness.protocol.known_steps import KnownSteps, Next
from models.process import Edge, Kind, Location, Process, Value


@dataclass(frozen=True)
class Bounds:
    """What is searched. `strays`: INITs from elsewhere; `states`: then the search gives up.

    `plain`: as a replay in QEMU shows it: each store is visible at once, and no CPU faults.
    `failing`: a kick may also return an error.
    """

    cpus: int = 2
    attempts: int = 3
    strays: int = 1
    stores: int = 4
    states: int = 400_000
    plain: bool = False
    failing: bool = True


@dataclass
class Found:
    """The shortest schedule for each property that breaks. `complete`: all in bounds was seen."""

    schedules: dict[str, tuple[Event, ...]]
    states: int
    complete: bool


class Explorer:
    """Runs one pair."""

    def __init__(self, host: Process, cpu: Process, leave: tuple[int, int] | None, bounds: Bounds):
        self._host, self._cpu, self._leave, self._bounds = host, cpu, leave, bounds
        self._ends = history.ends(cpu)
        self._loop = history.loop(host)
        self._paged: set[int | str] = {
            n for n, location in enumerate(cpu.locations) if location.paged
        }
        jumps = [location for location in cpu.locations if location.kind is Kind.JUMP]
        if any(location.paged for location in jumps):
            self._paged.add(KERNEL)

    def run(self, wanted: tuple[str, ...] = history.OUTCOMES, enough: int | None = None) -> Found:
        """Until `enough` of `wanted` (None: all) are broken, or the bounds are met."""
        enough, bounds = len(wanted) if enough is None else enough, self._bounds
        steps, cpus = KnownSteps(self, self._host, self._cpu, self._loop, self._paged), bounds.cpus
        first = steps.packed(State(cpus=(Cpu(),) * cpus))
        parents = {first: first}
        queue = deque([first])
        schedules: dict[str, tuple[Event, ...]] = {}

        def path(state: int, last: Event) -> tuple[Event, ...]:
            events = [last]
            while state != first:
                after, state = state, parents[state]
                change = after - state
                events.append(next(e for e, c, _ in steps.next(state, cpus) if c == change))
            return tuple(reversed(events))

        while queue:
            state = queue.popleft()
            for event, change, broken in steps.next(state, cpus):
                for name in broken:
                    if name in wanted and name not in schedules:
                        schedules[name] = path(state, event)
                        if len(schedules) >= enough:
                            return Found(schedules, len(parents), False)
                after = state + change
                if after not in parents:
                    parents[after] = state
                    queue.append(after)
                    if len(parents) > bounds.states:
                        return Found(schedules, len(parents), False)
        return Found(schedules, len(parents), True)

    def next(self, state: State) -> Iterator[Next]:
        """All that can happen in a state."""
        yield from self.host_next(state)
        for number, cpu in enumerate(state.cpus):
            yield from self.cpu_next(state, number, cpu)

    # --- The host.

    def host_next(self, state: State) -> Iterator[Next]:
        """All steps of the host."""
        if state.buffer:
            oldest, *rest = state.buffer
            broken = self._overwrites(state, oldest.word, oldest.value, None)
            after = visible(state, oldest, 0)._replace(buffer=tuple(rest))
            yield Event("host", None, history.VISIBLE), after, broken
        number, location = state.at, self._host.locations[state.at]

        def event(what: str = "") -> Event:
            return Event("host", number, what or f"{location.kind.value} {location.word}".strip())

        attempt = state.attempts[-1] if state.attempts else None
        goes_on = [edge.target for edge in location.edges]  # where nothing is read, all are open
        match location.kind:
            case Kind.BEGIN:
                if len(state.attempts) == self._bounds.attempts:
                    return
                used = {one.target for one in state.attempts}
                for target in range(min(len(used) + 1, self._bounds.cpus)):
                    begun = state._replace(attempts=(*state.attempts, Attempt(target)))
                    cpu = state.cpus[target]._replace(kick=len(begun.attempts))
                    for at in goes_on:
                        after = with_cpu(begun._replace(at=at), target, cpu)
                        yield event(f"begin: CPU {target}"), after, ()
            case Kind.RETURN:
                yield event(), state._replace(at=0), ()
            case Kind.CONCLUDE:
                assert attempt is not None
                verdict = str(location.value)
                if verdict in ("failed", "busy") and not self._bounds.failing:
                    return
                told = attempt._replace(verdict=verdict)
                after = with_attempt(state, len(state.attempts), told)
                for at in goes_on:
                    broken = history.told(told)
                    yield event(f"conclude: {verdict}"), after._replace(at=at), broken
            case Kind.INIT:
                assert attempt is not None
                for at in goes_on:
                    after = state._replace(at=at)
                    lost = with_attempt(after, len(state.attempts), attempt._replace(reached=False))
                    yield event("INIT, late"), lost, ()
                    reached = attempt._replace(reached=not attempt.started)
                    sent = with_attempt(after, len(state.attempts), reached)
                    cpu = initialised(state.cpus[attempt.target])
                    yield event("INIT"), with_cpu(sent, attempt.target, cpu), ()
            case Kind.SIPI:
                assert attempt is not None
                cpu = state.cpus[attempt.target]._replace(kicked=True)
                after = with_cpu(state, attempt.target, cpu)
                for at in goes_on:
                    yield event(), after._replace(at=at), ()
            case Kind.LOAD if location.word == "owner":
                for edge in self._edges(location, state.owner, state, None):
                    yield event(), state._replace(at=edge.target), ()
            case Kind.STORE if location.word == "owner":
                owner = self._value(location.value, state, None)
                for at in goes_on:
                    yield event(), state._replace(owner=owner, at=at), ()
            case _:
                for after, read, broken in self._access(state, location, None):
                    edges = list(self._edges(location, read, state, None))
                    for edge in edges:
                        what = "time-out" if self._is_late(location, edge, edges) else ""
                        yield event(what), after._replace(at=edge.target), broken

    def _is_late(self, location: Location, edge: Edge, edges: list[Edge]) -> bool:
        """Whether it is for the time only that the host does not look again. `edges`: those that
        are open, of a look."""
        if location.kind is not Kind.LOAD:
            return False
        looks = {e.target for e in edges if self._host.locations[e.target].kind is Kind.LOAD}
        always = edge.when is None and len(location.edges) > 1
        return always or (bool(looks) and edge.target not in looks)

    # --- A CPU.

    def cpu_next(self, state: State, number: int, cpu: Cpu) -> Iterator[Next]:
        """All steps of CPU `number`, and those that happen to it."""
        who = f"CPU {number}"
        if cpu.buffer:
            oldest, *rest = cpu.buffer
            broken = self._overwrites(state, oldest.word, oldest.value, number)
            after = visible(state, oldest, self._marks(state, number, oldest.attempt))
            after = with_cpu(after, number, cpu._replace(buffer=tuple(rest)))
            yield Event(who, None, history.VISIBLE), after, broken
        if state.strays < self._bounds.strays and cpu.at != WAITS:
            hit = with_cpu(state, number, initialised(cpu))._replace(strays=state.strays + 1)
            for k, attempt in enumerate(state.attempts, 1):
                if attempt.target == number and attempt.reached:
                    hit = with_attempt(hit, k, attempt._replace(reached=False))
            yield Event(who, None, "INIT"), hit, ()
        if cpu.at == WAITS and cpu.kicked:
            yield Event(who, None, "SIPI"), with_cpu(state, number, cpu._replace(at=0)), ()
        if cpu.at == KERNEL:
            left = with_cpu(state, number, cpu._replace(at=OUTSIDE))
            what = Event(who, None, "the kernel leaves")
            if self._leave is None:
                yield what, left, ()
            elif not cpu.buffer:
                if state.status == self._leave[0]:
                    left = left._replace(
                        status=self._leave[1], marked=self._marks(state, number, cpu.began)
                    )
                yield what, left, self._unanswered(left)
        if isinstance(cpu.at, int):
            yield from self._cpu_location(state, number, cpu, cpu.at)

    def _cpu_location(self, state: State, number: int, cpu: Cpu, at: int) -> Iterator[Next]:
        location = self._cpu.locations[at]
        what = Event(f"CPU {number}", at, f"{location.kind.value} {location.word}".strip())
        if location.kind is Kind.PARK:
            return
        if location.kind is Kind.JUMP:
            own = cpu.began or cpu.kick
            broken = history.mail(own, cpu.kernel, cpu.boot_params, state.attempts)
            after = with_cpu(state, number, cpu._replace(at=KERNEL))
            if own:
                jumped = state.attempts[own - 1]._replace(jumped=True)
                after = with_attempt(after, own, jumped)
                broken += history.told_before(jumped)
            yield what, after, (*broken, *self._unanswered(after))
            return
        for accessed, read, broken in self._access(state, location, number):
            mine = accessed.cpus[number]
            if location.kind is Kind.LOAD and location.word in ("kernel", "boot_params"):
                mine = loaded(mine, location.word, read)
            for edge in self._edges(location, read, state, number):
                if self._bounds.plain and self._cpu.locations[edge.target].fault:
                    continue
                there = mine._replace(at=edge.target)
                after = with_cpu(accessed, number, there)
                more = broken
                building = any(store.word == "tables" for store in there.buffer)
                if building and edge.target in self._paged and at not in self._paged:
                    more += ("own_tables",)
                if there.began:
                    after = self._arrived(after, there.began, edge.target)
                    more += history.told_before(after.attempts[there.began - 1])
                yield what, after, (*more, *self._unanswered(after))

    def _arrived(self, state: State, attempt: int, at: int) -> State:
        ends, one = self._ends[at], state.attempts[attempt - 1]
        if Kind.PARK not in ends:
            return with_attempt(state, attempt, one._replace(committed=True))
        if Kind.JUMP not in ends:
            return with_attempt(state, attempt, one._replace(turned_away=True))
        return state

    # --- Memory.

    def _access(
        self, state: State, location: Location, number: int | None
    ) -> Iterator[tuple[State, object, tuple[str, ...]]]:
        """The state after an access or fence of the host (None) or a CPU, and what it read."""
        buffer = state.buffer if number is None else state.cpus[number].buffer
        word = location.word
        if location.kind is Kind.LOAD:
            memory: object = 0 if word == "tables" else getattr(state, word)
            read = next((s.value for s in reversed(buffer) if s.word == word), memory)
            yield state, read, ()
            return
        if location.kind is Kind.STORE and not self._bounds.plain:
            if len(buffer) < self._bounds.stores:
                value = self._value(location.value, state, number)
                began = 0
                if number is not None:
                    state, began = self._began(state, number)
                buffer = (*buffer, Store(word, value, began))
                if number is None:
                    yield state._replace(buffer=buffer), 0, ()
                else:
                    cpu = state.cpus[number]._replace(buffer=buffer)
                    yield with_cpu(state, number, cpu), 0, ()
            return
        if buffer:
            return
        if location.kind is Kind.FENCE:
            yield state, 0, ()
            return
        read = 0 if word == "tables" else getattr(state, word)
        looks = location.kind is Kind.COMPARE_EXCHANGE
        if looks and read != self._value(location.expected, state, number):
            yield state, read, ()
            return
        value = self._value(location.value, state, number)
        broken = () if looks and word != "tables" else self._overwrites(state, word, value, number)
        began = 0
        if number is not None:
            state, began = self._began(state, number)
            began = self._marks(state, number, began)
        yield visible(state, Store(word, value, 0), began), read, broken

    def _began(self, state: State, number: int) -> tuple[State, int]:
        """At a write of a CPU: the first one is the start of its latest attempt."""
        cpu = state.cpus[number]
        if cpu.began or not cpu.kick:
            return state, cpu.began
        started = state.attempts[cpu.kick - 1]._replace(started=True)
        state = with_attempt(state, cpu.kick, started)
        return with_cpu(state, number, cpu._replace(began=cpu.kick)), cpu.kick

    def _marks(self, state: State, number: int, attempt: int) -> int:
        """`attempt`, if it is the CPU's own."""
        own = attempt and state.attempts[attempt - 1].target == number
        return attempt if own else 0

    def _overwrites(
        self, state: State, word: str, value: object, number: int | None
    ) -> tuple[str, ...]:
        """What a write that does not look breaks, of the host (None) or a CPU."""
        if word == "tables":
            for other, cpu in enumerate(state.cpus):
                if other != number and cpu.at in self._paged:
                    return ("own_tables",)
        if word == "status" and state.attempts and state.marked == len(state.attempts):
            attempt = state.attempts[-1]
            if attempt.verdict is None and value != state.status and number != attempt.target:
                return ("no_lost_start",)
        return ()

    def _value(self, value: Value | None, state: State, number: int | None) -> object:
        match value:
            case "kernel" | "boot_params":
                return len(state.attempts)
            case "offer":
                return ("offer", state.attempts[-1].target if number is None else number)
        return value if value is not None else 0

    def _edges(
        self, location: Location, read: object, state: State, number: int | None
    ) -> Iterator[Edge]:
        for edge in location.edges:
            how, values = edge.when or ("is not", ())
            if (read in [self._value(v, state, number) for v in values]) == (how == "is"):
                yield edge

    # --- Progress.

    def _unanswered(self, state: State) -> tuple[str, ...]:
        """The target is done, all is visible; the host, left alone, may wait without end."""
        attempt = state.attempts[-1] if state.attempts else None
        if attempt is None or not attempt.reached or attempt.verdict or state.buffer:
            return ()
        cpu = state.cpus[attempt.target]
        parked = isinstance(cpu.at, int) and self._cpu.locations[cpu.at].kind is Kind.PARK
        if cpu.buffer or not (parked or cpu.at in (KERNEL, OUTSIDE)) or state.at not in self._loop:
            return ()
        places = {state.at}
        for _ in range(2 * len(self._loop)):
            after = set()
            for at in places:
                location = self._host.locations[at]
                reads = location.word == "status"
                open_now = self._edges(location, state.status, state, None)
                after |= {edge.target for edge in (open_now if reads else location.edges)}
            places = after & self._loop
        return ("progress",) if places else ()
