# SPDX-License-Identifier: GPL-2.0-only
"""A pair's verdicts: each property proved by an invariant, or refuted by a shortest schedule.

Both ways are always gone: a property that was proved must not break in the search, and one that
breaks there must break in the invariant's states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.protocol import check, encoding, lemmas, saturate
from harness.protocol.explore import Bounds, Explorer
from harness.protocol.history import NOT_PLAIN, OUTCOMES, Event, Schedule
from harness.protocol.invariant import Invariant
from models.protocol import Pair
from models.protocol_claims import CLAIMS, LIMITS, progress, unending, wait_loop

STATES = 400_000
"""More pairs of shared part and CPU than that are not followed."""
SEARCHES = (Bounds(attempts=3, strays=0), Bounds(attempts=2, strays=1))
"""What is searched for schedules."""
A_LOOK = 20_000
"""States after which a pair that breaks nothing is taken to be a good one."""


@dataclass(frozen=True)
class Verdict:
    """Of one property. `schedule`: of a refuted one, the shortest that QEMU can show, else the
    shortest; `reason`: of one not decided."""

    verdict: str
    schedule: Schedule | None = None
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """Of all six. `invariant` proves those that hold, `more`: schedules of special interest."""

    verdicts: dict[str, Verdict]
    invariant: Invariant | None
    more: dict[str, Schedule]


def decide(
    pair: Pair, searches: tuple[Bounds, ...] = SEARCHES, kept: Invariant | None = None
) -> Decision:
    """The verdicts on the six properties. `kept`: an invariant that may prove all of them; if it
    does not, another one is looked for."""
    schedules = search(pair, searches)
    names = [claim.name for claim in CLAIMS]
    try:
        if kept is not None and not schedules and not vacuous(pair) and proves(pair, kept):
            return Decision(dict.fromkeys(names, Verdict("PROVED")), kept, {})
        reached = saturate.Saturation(pair, STATES).run()
    except (saturate.TooMany, encoding.NoLongestRun) as error:
        undecided = Verdict("UNKNOWN", reason=str(error))
        verdicts = {
            name: Verdict("REFUTED", schedules[name]) if name in schedules else undecided
            for name in names
        }
        return Decision(verdicts, None, schedules)
    excluded = vacuous(pair)
    verdicts = {}
    for name in names:
        if name in excluded:
            verdicts[name] = excluded[name]
        elif name in schedules and name in reached.bad:
            verdicts[name] = Verdict("REFUTED", schedules.pop(name))
        elif name in schedules:
            reason = "the search breaks it, the states that the clauses reach do not"
            verdicts[name] = Verdict("DISAGREE", schedules.pop(name), reason)
        elif name in reached.bad:
            reason = "no invariant of one CPU proves it; no schedule within the bounds breaks it"
            verdicts[name] = Verdict("UNKNOWN", reason=reason)
        elif LIMITS.name in reached.bad:
            reason = "a store finds the model's store buffer full, or no edge fits what was read"
            verdicts[name] = Verdict("UNKNOWN", reason=reason)
    claims = tuple(claim for claim in CLAIMS if claim.name not in verdicts)
    invariant = None
    if claims:
        clauses = tuple(encoding.clauses(pair, claims))
        try:
            invariant = lemmas.find(pair, reached, clauses)
            left = check.open_questions(pair, invariant, clauses)
        except lemmas.GaveUp as error:
            left = [str(error)]
        proved = Verdict("UNKNOWN", reason="; ".join(left)) if left else Verdict("PROVED")
        verdicts |= {claim.name: proved for claim in claims}
    return Decision({name: verdicts[name] for name in names}, invariant, schedules)


def proves(pair: Pair, invariant: Invariant) -> bool:
    """It proves all six properties. False, too, if it was made for a pair with other variables."""
    clauses = tuple(encoding.clauses(pair, CLAIMS))
    return invariant.fits(pair) and not check.open_questions(pair, invariant, clauses)


def search(pair: Pair, searches: tuple[Bounds, ...] = SEARCHES) -> dict[str, Schedule]:
    """Shortest schedules by what they break: if there are any, those that QEMU can show, and of
    these, if there are any, those in which no kick returns an error."""
    wanted = [name for name in OUTCOMES if name not in vacuous(pair)]
    plain = tuple(replace(bounds, plain=True) for bounds in searches)
    a_look = tuple(replace(bounds, states=A_LOOK) for bounds in plain)
    if not _found(pair, a_look, wanted, enough=1):
        # Maybe nothing breaks: then one search shows it, as the plain one is part of the other.
        wanted = list(_found(pair, searches, wanted))
    smooth = tuple(replace(bounds, failing=False) for bounds in plain)
    shown = _found(pair, (*smooth, *plain), wanted)
    others = _found(pair, searches, [name for name in wanted if name not in shown])
    return {name: Schedule(events) for name, events in shown.items()} | {
        name: Schedule(events, NOT_PLAIN) for name, events in others.items()
    }


def _found(
    pair: Pair, searches: tuple[Bounds, ...], names: list[str], enough: int | None = None
) -> dict[str, tuple[Event, ...]]:
    """Those of the first search that finds one."""
    found: dict[str, tuple[Event, ...]] = {}
    for bounds in searches:
        wanted = tuple(name for name in names if name not in found)
        if wanted:
            explorer = Explorer(pair.host, pair.cpu, pair.leave, bounds)
            found |= explorer.run(wanted, enough).schedules
    return found


def vacuous(pair: Pair) -> dict[str, Verdict]:
    """Properties of which the pair's graphs alone say that there is nothing to decide."""
    if not wait_loop(pair.host):
        return {progress.__name__: Verdict("VACUOUS", reason="the host never waits")}
    if places := unending(pair.cpu):
        reason = f"the CPU's process can go round at location {min(places)}"
        return {progress.__name__: Verdict("UNKNOWN", reason=reason)}
    return {}
