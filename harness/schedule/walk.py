# SPDX-License-Identifier: GPL-2.0-only
"""Random schedules: what comes next is drawn, what comes of it is seen on the machine, and judged.

The explorer says what can happen in the state that the machine was seen to be in, and what that
breaks. Draws are weighted, so that hand-offs, refusals, time-outs and further kicks do occur.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random

from harness.protocol.explored import KERNEL, State
from harness.protocol.history import Event
from harness.schedule.agree import Mail, usual_mail
from harness.schedule.follow import Around, Disagreement, Fails, Follower, explorer_of
from harness.schedule.machine import Machine
from models.process import Kind

ATTEMPTS, STRAYS, EVENTS = 3, 2, 80
"""Of one walk; it may end before, when nothing can happen any more."""
TOO_HIGH = 1 << 50
"""No CPU of the machine can address it."""

_GOES_ON = 6.0  # how much likelier an event is that goes on with the CPU that moved last
_STRAY = 0.1
_LOOK = 0.5  # one more look of a host that waits
_TIME_OUT = 0.1
_FAILS = 0.2  # of the attempts fail around the host
_REFUSED = 0.25  # of the attempts are for a kernel or boot_params that no table can map


@dataclass
class Walk:
    """One walk. `around`: of its attempts. `broken`: properties, with the number of the event (from
    1 on) that broke each first. `difference`: where machine and explorer part; empty: nowhere.
    `verdicts`: of its attempts. `jumps`: hand-offs.
    """

    seed: int
    events: list[Event] = field(default_factory=list)
    around: list[Around] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)
    difference: str = ""
    verdicts: list[str] = field(default_factory=list)
    jumps: int = 0
    rekicks: int = 0
    seconds: float = 0.0


def walk(machine: Machine, seed: int, events: int = EVENTS) -> Walk:
    """Walk from the machine's start; the same seed gives the same walk."""
    began = time.monotonic()
    result = Walk(seed)
    try:
        _Walker(machine, Random(seed), result).run(events)
    except Disagreement as error:
        result.difference = str(error)
    result.seconds = time.monotonic() - began
    return result


class _Walker:
    def __init__(self, machine: Machine, random: Random, result: Walk) -> None:
        self._random, self._result = random, result
        self._host = machine.subject.pair.host
        self._refuses = machine.subject.parts.contract.shared.status.refused is not None
        self._explorer = explorer_of(machine.subject.pair, ATTEMPTS, STRAYS)
        self._follower = Follower(machine)
        self._last = ""

    def run(self, events: int) -> None:
        for _ in range(events):
            choices = self._choices()
            if not choices:
                break
            weights = [self._weight(event) for event in choices]
            (event,) = self._random.choices(list(choices), weights)
            self._follow(event, choices[event])
        self._follower.finish()
        attempts = self._follower.states[0].attempts
        self._result.verdicts = [one.verdict or "" for one in attempts]
        targets = [one.target for one in attempts]
        self._result.rekicks = sum(
            target in targets[:number] for number, target in enumerate(targets)
        )

    def _choices(self) -> dict[Event, dict[State, set[str]]]:
        """What can happen, in any of the states that cannot be told apart."""
        found: dict[Event, dict[State, set[str]]] = {}
        for state in self._follower.states:
            for event, after, broken in self._explorer.next(state):
                found.setdefault(event, {}).setdefault(after, set()).update(broken)
        return found

    def _weight(self, event: Event) -> float:
        if event.who != "host" and event.location is None and event.what == "INIT":
            return _STRAY
        if event.who == "host" and event.what == "time-out":
            return _TIME_OUT
        if event.who == "host" and self._looks(event):
            return _LOOK
        return _GOES_ON if event.who == self._last else 1.0

    def _looks(self, event: Event) -> bool:
        return event.location is not None and self._host.locations[event.location].kind is Kind.LOAD

    def _follow(self, event: Event, after: dict[State, set[str]]) -> None:
        around = None
        if event.who == "host" and event.what.startswith("begin"):
            around = self._draw_around(len(self._result.around) + 1)
            self._result.around.append(around)
        self._last = event.who
        self._result.events.append(event)
        self._follower.follow(event, list(after), around)
        for state in self._follower.states:
            for name in after[state]:
                self._result.broken.setdefault(name, len(self._result.events))
        if event.who != "host" and event.location is not None:
            number = int(event.who.removeprefix("CPU "))
            self._result.jumps += self._follower.states[0].cpus[number].at == KERNEL

    def _draw_around(self, attempt: int) -> Around:
        draw, mail = self._random, usual_mail(attempt)
        if self._refuses and draw.random() < _REFUSED:
            if draw.random() < 0.5:
                mail = Mail(TOO_HIGH + mail.kernel, mail.boot_params)
            else:
                mail = Mail(mail.kernel, TOO_HIGH + mail.boot_params)
        fails = draw.choice(list(Fails)[1:]) if draw.random() < _FAILS else Fails.NOTHING
        return Around(mail, fails)
