# SPDX-License-Identifier: GPL-2.0-only
"""What a schedule of events leaves open: the states in between, and what happens around the host.

Nothing is run here: it is the explorer that says whether a schedule fits a pair at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.protocol.explore import Explorer
from harness.protocol.explored import State
from harness.protocol.history import Event
from harness.schedule.follow import Fails, first_state
from models.process import Kind, Process
from trampoline.errors import UserError


class Misfit(UserError):
    """A schedule that cannot happen."""


@dataclass(frozen=True)
class Plan:
    """`states`: before each event and after the last, those from which the rest can follow.

    `fails`: for each attempt.
    `broken`: what the last event breaks, whichever of the states it is.
    """

    events: tuple[Event, ...]
    states: tuple[tuple[State, ...], ...]
    fails: tuple[Fails, ...]
    broken: frozenset[str]

    def after(self, number: int, before: Sequence[State], explorer: Explorer) -> list[State]:
        """What may follow event `number` (from 0 on), in one of the states `before`."""
        wanted, event = self.states[number + 1], self.events[number]
        found = [
            after
            for state in before
            for what, after, _ in explorer.next(state)
            if what == event and after in wanted
        ]
        return list(dict.fromkeys(found))


def plan(explorer: Explorer, host: Process, events: Sequence[Event], breaks: str = "") -> Plan:
    """Fill in what `events` leave open, so that the last one breaks `breaks`. Raises Misfit."""
    reached: list[dict[State, None]] = [{first_state(): None}]
    broken: frozenset[str] = frozenset()
    for number, event in enumerate(events, 1):
        follows = [
            (after, frozenset(names))
            for state in reached[-1]
            for what, after, names in explorer.next(state)
            if what == event
        ]
        if not follows:
            at = "" if event.location is None else f" at location {event.location}"
            raise Misfit(
                f"event {number} ({event.who}{at}, {event.what}) cannot happen in this pair."
            )
        if breaks and number == len(events):
            follows = [(after, names) for after, names in follows if breaks in names]
            if not follows:
                raise Misfit(f"the last event does not break {breaks}.")
        reached.append(dict.fromkeys(after for after, _ in follows))
        broken = frozenset.intersection(*(names for _, names in follows))
    for number in range(len(events) - 1, -1, -1):
        onward = [
            state
            for state in reached[number]
            if any(
                what == events[number] and after in reached[number + 1]
                for what, after, _ in explorer.next(state)
            )
        ]
        reached[number] = dict.fromkeys(onward)
    states = tuple(tuple(some) for some in reached)
    path = _path(explorer, events, states)
    return Plan(
        tuple(events),
        states,
        tuple(_fails(host, path)),
        broken,
    )


def _path(
    explorer: Explorer, events: Sequence[Event], states: Sequence[Sequence[State]]
) -> list[State]:
    """One of the ways through."""
    path = [states[0][0]]
    for event, wanted in zip(events, states[1:], strict=True):
        path.append(
            next(
                after
                for what, after, _ in explorer.next(path[-1])
                if what == event and after in wanted
            )
        )
    return path


def _fails(host: Process, path: Sequence[State]) -> list[Fails]:
    """What must fail in each attempt, so that the host goes the way that it goes."""
    ways: list[list[int]] = []
    for before, after in pairwise(path):
        if len(after.attempts) > len(before.attempts):
            ways.append([before.at])
        if ways and (before.at != after.at or host.locations[before.at].kind is Kind.LOAD):
            ways[-1].append(after.at)
    found, taken = [], set()
    for way, attempt in zip(ways, path[-1].attempts, strict=True):
        found.append(_failure(host, way, attempt.target in taken))
        if found[-1] is not Fails.TAKEN:  # then it is released first
            taken.discard(attempt.target)
        if attempt.verdict == "running":
            taken.add(attempt.target)
    return found


def _failure(host: Process, way: Sequence[int], is_taken: bool) -> Fails:
    """`way`: the host's locations in one attempt."""
    kinds = [host.locations[at].kind for at in way]
    if kinds[1:2] == [Kind.CONCLUDE]:
        return Fails.ONLINE
    if kinds[1:3] == [Kind.FENCE, Kind.CONCLUDE]:
        if host.locations[way[2]].value != "busy":
            return Fails.ABSENT
        return Fails.TAKEN if is_taken else Fails.LOCKED
    sent = [number for number, kind in enumerate(kinds) if kind in (Kind.INIT, Kind.SIPI)]
    if not sent or len(kinds) == sent[-1] + 1:
        return Fails.NOTHING
    # A wait begins with a look. A kick that ends, or takes back its offer, without one has failed.
    onward = kinds[sent[-1] + 1 :]
    looks = onward.index(Kind.LOAD) if Kind.LOAD in onward else len(onward)
    failed = {Kind.CONCLUDE, Kind.COMPARE_EXCHANGE} & set(onward[:looks])
    if len(sent) < 3 or failed:
        return (Fails.INIT, Fails.SIPI_1, Fails.SIPI_2)[len(sent) - 1]
    return Fails.NOTHING
