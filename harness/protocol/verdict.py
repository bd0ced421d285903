# SPDX-License-Identifier: GPL-2.0-only
"""A pair's verdicts: each property proved by an invariant, or refuted by a shortest schedule.

Both ways are always gone: a property that was proved must not break in the search, and what breaks
there must break by the clauses' own steps. Where a kept invariant proves all of them the search is
a look at the first states only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.protocol import check, encoding, follow, history, lemmas, saturate
from harness.protocol.explore import Bounds, Explorer
from harness.protocol.history import NOT_PLAIN, OUTCOMES, Event, Schedule
from harness.protocol.invariant import Invariant
from models.protocol import Pair
from models.protocol_claims import CLAIMS, LIMITS, Claim, progress, unending, wait_loop

STATES = 400_000
"""More pairs of shared part and CPU than that are not followed."""
SEARCHES = (Bounds(attempts=2, strays=1), Bounds(attempts=3, strays=0))
"""What is searched for schedules; the smaller first."""
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
    """Of all six. `invariant` proves those that hold, `more`: schedules of special interest.

    `not_kept`: why the kept invariant, if there is one, was not enough.
    """

    verdicts: dict[str, Verdict]
    invariant: Invariant | None
    more: dict[str, Schedule]
    not_kept: str = ""


def decide(
    pair: Pair, searches: tuple[Bounds, ...] = SEARCHES, kept: Invariant | None = None
) -> Decision:
    """The verdicts on the six properties. `kept`: an invariant that may prove all of them, or those
    that no schedule breaks; if it does not, another one is looked for."""
    if kept is not None and not vacuous(pair):
        found, reason = proves(pair, kept)
        if found == "PROVED":
            return _looked_at(pair, searches, kept)
    schedules = search(pair, searches)
    more = {name: found for name, found in schedules.items() if name in history.MORE}
    verdicts, invariant, not_kept = vacuous(pair), None, ""
    try:
        for claim in CLAIMS:
            if claim.name in schedules:
                verdicts[claim.name] = _broken(pair, claim, schedules[claim.name])
        left = [claim for claim in CLAIMS if claim.name not in verdicts]
        if left and kept is not None:
            found, reason = proves(pair, kept, left)
            if found in ("PROVED", "DISAGREE"):
                verdicts |= {claim.name: Verdict(found, reason=reason) for claim in left}
                invariant, left = kept, []
            else:
                not_kept = reason
        if left:
            invariant, proved = _proved(pair, left)
            verdicts |= proved
    except (saturate.TooMany, encoding.NoLongestRun) as error:
        for claim in CLAIMS:
            schedule = schedules.get(claim.name)
            verdicts.setdefault(claim.name, Verdict("UNKNOWN", schedule, str(error)))
    ordered = {claim.name: verdicts[claim.name] for claim in CLAIMS}
    return Decision(ordered, invariant, more, not_kept)


def _looked_at(pair: Pair, searches: tuple[Bounds, ...], kept: Invariant) -> Decision:
    """The verdicts on a pair all of whose properties the kept invariant proves."""
    looks = tuple(replace(bounds, states=A_LOOK) for bounds in searches)
    broken = _found(pair, looks, [claim.name for claim in CLAIMS])
    reason = "the kept invariant proves it, the search breaks it"
    verdicts = {
        claim.name: Verdict("DISAGREE", Schedule(broken[claim.name], NOT_PLAIN), reason)
        if claim.name in broken
        else Verdict("PROVED")
        for claim in CLAIMS
    }
    return Decision(verdicts, kept, {})


def proves(pair: Pair, invariant: Invariant, claims: Sequence[Claim] = CLAIMS) -> tuple[str, str]:
    """The verdict on all of `claims` by this invariant, and its reason. UNKNOWN, too, if it was
    made for a pair with other variables."""
    if not invariant.fits(pair):
        return "UNKNOWN", "it speaks of parts that this pair's states do not have"
    return check.judge(check.questions(pair, invariant, claims))


def _broken(pair: Pair, claim: Claim, schedule: Schedule) -> Verdict:
    if follow.breaks(pair, claim, schedule.with_buffers(pair.host, pair.cpu)):
        return Verdict("REFUTED", schedule)
    return Verdict("DISAGREE", schedule, "the search breaks it, the clauses do not on that way")


def _proved(pair: Pair, claims: Sequence[Claim]) -> tuple[Invariant | None, dict[str, Verdict]]:
    """Verdicts on `claims`, by an invariant that is looked for. TooMany: the states are."""
    reached = saturate.Saturation(pair, STATES).run()
    verdicts = {}
    for claim in claims:
        if claim.name in reached.bad:
            reason = "no invariant of one CPU proves it; no schedule within the bounds breaks it"
            verdicts[claim.name] = Verdict("UNKNOWN", reason=reason)
        elif LIMITS.name in reached.bad:
            reason = "a store finds the model's store buffer full, or no edge fits what was read"
            verdicts[claim.name] = Verdict("UNKNOWN", reason=reason)
    left = [claim for claim in claims if claim.name not in verdicts]
    if not left:
        return None, verdicts
    try:
        invariant = lemmas.find(pair, reached, tuple(encoding.clauses(pair, tuple(left))))
    except lemmas.GaveUp as error:
        return None, verdicts | {
            claim.name: Verdict("UNKNOWN", reason=str(error)) for claim in left
        }
    found, reason = proves(pair, invariant, left)
    return invariant, verdicts | {claim.name: Verdict(found, reason=reason) for claim in left}


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
