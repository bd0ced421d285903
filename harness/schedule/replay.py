# SPDX-License-Identifier: GPL-2.0-only
"""Replays a schedule: every event on the machine, in its order, compared with the explorer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.protocol.history import Event
from harness.schedule.aftermath import tables_lost
from harness.schedule.follow import Around, Disagreement, Follower, explorer_of, usual
from harness.schedule.machine import ATTEMPTS, Machine
from harness.schedule.plan import Misfit, Plan, plan
from harness.schedule.subject import Subject


@dataclass(frozen=True)
class Outcome:
    """Of one replay. `difference`: one sentence on the first step that did not go as predicted;
    empty if all did. `broken`: what the last event then breaks. `aftermath`: what became of a CPU
    whose tables were rewritten.
    """

    steps: int
    difference: str
    broken: frozenset[str] = frozenset()
    aftermath: str = ""


def plan_for(subject: Subject, events: Sequence[Event], breaks: str = "") -> Plan:
    """What `events` leave open, so that the last one breaks `breaks`, if given. Raises Misfit."""
    attempts = sum(event.who == "host" and event.what.startswith("begin") for event in events)
    if attempts > ATTEMPTS:
        raise Misfit(f"a schedule of {attempts} attempts; at most {ATTEMPTS} can be told apart.")
    explorer = explorer_of(subject.pair, attempts, len(events))
    return plan(explorer, subject.pair.host, events, breaks)


def around(planned: Plan) -> tuple[Around, ...]:
    """The attempts of a plan, with the usual mail."""
    return tuple(usual(number, fails) for number, fails in enumerate(planned.fails, 1))


class Replayer:
    """Replays on one machine. `seconds`: wall-clock time of the last replay, without aftermath."""

    def __init__(self, machine: Machine) -> None:
        """Replay on this machine."""
        self._machine = machine
        self.seconds = 0.0

    def replay(self, planned: Plan, attempts: Sequence[Around] = ()) -> Outcome:
        """From the machine's start. `attempts`: what is around them, if not as usual."""
        self._machine.revive()
        began = time.monotonic()
        follower = Follower(self._machine)
        try:
            self._follow(follower, planned, attempts or around(planned))
            follower.finish()
        except Disagreement as error:
            return Outcome(follower.steps, str(error))
        self.seconds = time.monotonic() - began
        aftermath = ""
        if "own_tables" in planned.broken:
            aftermath = tables_lost(self._machine, follower.states[0], planned.events[-1])
        return Outcome(follower.steps, "", planned.broken, aftermath)

    def _follow(self, follower: Follower, planned: Plan, attempts: Sequence[Around]) -> None:
        pair = self._machine.subject.pair
        explorer = explorer_of(pair, len(attempts), len(planned.events))
        for number, event in enumerate(planned.events):
            after = planned.after(number, follower.states, explorer)
            begun = len(after[0].attempts)
            follower.follow(event, after, attempts[begun - 1] if begun else None)
