# SPDX-License-Identifier: GPL-2.0-only
"""What the explorer remembers of each attempt, and which properties a history breaks."""

from __future__ import annotations

from typing import NamedTuple

from models.process import Kind, Process

PROPERTIES = (
    *("no_false_start", "no_lost_start", "own_mail", "own_tables", "honest_verdict", "progress"),
)

FOREIGN_PAIR, MIXED_PAIR = "own_mail: another CPU's pair", "own_mail: one word of each"
MORE = (FOREIGN_PAIR, MIXED_PAIR)
"""Two ways to break a property that leave no doubt."""
OUTCOMES = (*PROPERTIES, *MORE)
"""What is searched for."""


class Attempt(NamedTuple):
    """One attempt to start `target`."""

    target: int
    verdict: str | None = None
    started: bool = False
    committed: bool = False
    turned_away: bool = False
    jumped: bool = False
    reached: bool = False
    """The host's INIT did reach the target, before it started, and no other INIT did since."""


class Event(NamedTuple):
    """One step of a schedule: who, at which location of its process, what. None: at any."""

    who: str
    location: int | None
    what: str


VISIBLE = "a store becomes visible"
NOT_PLAIN = (
    "it breaks only while a store waits in a store buffer, or by a fault: in QEMU each store is "
    "visible at once, and its CPUs lack nothing"
)


class Schedule(NamedTuple):
    """Events from boot on, after which something is broken.

    `not_replayable`: the reason; empty if QEMU can show it, as every store is visible at once, and
    no CPU faults.
    """

    events: tuple[Event, ...]
    not_replayable: str = ""

    def with_buffers(self, host: Process, cpu: Process) -> tuple[Event, ...]:
        """The same where stores go through a buffer: each becomes visible before anything else."""
        found: list[Event] = []
        for event in self.events:
            found.append(event)
            if event.location is not None and not self.not_replayable:
                location = (host if event.who == "host" else cpu).locations[event.location]
                if location.kind is Kind.STORE and location.word != "owner":
                    found.append(Event(event.who, None, VISIBLE))
        return tuple(found)


def mail(own: int, kernel: int, boot_params: int, attempts: tuple[Attempt, ...]) -> tuple[str, ...]:
    """What is broken by a jump in attempt `own` with these words, each an attempt's; 0: of none."""
    if kernel == boot_params == own:
        return ()
    if kernel != boot_params:
        return ("own_mail", MIXED_PAIR)
    if own and kernel and attempts[own - 1].target != attempts[kernel - 1].target:
        return ("own_mail", FOREIGN_PAIR)
    return ("own_mail",)


def told(attempt: Attempt) -> tuple[str, ...]:
    """What is broken when the host concludes `attempt.verdict`."""
    broken = told_before(attempt)
    if attempt.verdict in ("running", "started", "refused", "stuck") and not attempt.started:
        broken += ("no_false_start",)
    if attempt.verdict == "running" and not attempt.committed:
        broken += ("honest_verdict",)
    if attempt.verdict == "refused" and not attempt.turned_away:
        broken += ("honest_verdict",)
    return broken


def told_before(attempt: Attempt) -> tuple[str, ...]:
    """What is broken by something that the CPU does in an attempt after (or before) its verdict."""
    nothing = attempt.verdict in ("not responding", "busy") and attempt.started
    ended = attempt.verdict in ("stuck", "refused") and attempt.jumped
    return ("honest_verdict",) if nothing or ended else ()


def ends(process: Process) -> list[set[Kind]]:
    """For each location, how a run of the process from there can end."""
    found: list[set[Kind]] = [
        {x.kind} & {Kind.JUMP, Kind.PARK, Kind.RETURN} for x in process.locations
    ]
    changed = True
    while changed:
        changed = False
        for number, location in enumerate(process.locations):
            more = set().union(*(found[edge.target] for edge in location.edges))
            if not more <= found[number]:
                found[number] |= more
                changed = True
    return found


def loop(host: Process) -> set[int]:
    """The locations of its wait: those on a cycle within one call."""
    after = [{edge.target for edge in location.edges} for location in host.locations]
    for _ in after:
        after = [targets.union(*(after[t] for t in targets)) for targets in after]
    return {number for number, targets in enumerate(after) if number in targets}
