# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU shows of a pair: a refuting schedule several times, random ones beside a proof."""

from __future__ import annotations

from statistics import median

from harness.protocol.history import Schedule
from harness.record import Evidence, ReplayRecord, SamplesRecord
from harness.schedule.machine import Machine
from harness.schedule.plan import Misfit
from harness.schedule.replay import Outcome, Replayer, plan_for
from harness.schedule.walk import Walk
from harness.schedule.walks import walk_all

REPEAT = 10
WALKS = 40


def show(machine: Machine, schedule: Schedule, breaks: str) -> ReplayRecord:
    """CONFIRMED if each of several replays goes as predicted, step by step, to what it breaks."""
    events = schedule.events
    predicted = {"steps": str(len(events)), "breaks": breaks, "replays alike": str(REPEAT)}
    if schedule.not_replayable:
        return _record(Evidence.NOT_REPLAYABLE, schedule.not_replayable, predicted)
    try:
        planned = plan_for(machine.subject, events, breaks)
    except Misfit as error:
        return _record(Evidence.CONTRADICTED, str(error), predicted)
    replayer = Replayer(machine)
    outcomes: dict[Outcome, int] = {}
    for _ in range(REPEAT):
        outcome = replayer.replay(planned)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    worst = next((one for one in outcomes if one.difference), None)
    if worst is not None:
        reason = f"{outcomes[worst]} of {REPEAT} times: {worst.difference}"
        return _record(Evidence.CONTRADICTED, reason, predicted)
    if len(outcomes) > 1:
        reason = f"{REPEAT} replays end in {len(outcomes)} ways"
        return _record(Evidence.CONTRADICTED, reason, predicted)
    (outcome,) = outcomes
    observed = {
        "steps": str(outcome.steps),
        "breaks": breaks if breaks in outcome.broken else "nothing",
        "replays alike": str(REPEAT),
    }
    if outcome.aftermath:
        observed["then"] = outcome.aftermath
    seen = Evidence.CONFIRMED if breaks in outcome.broken else Evidence.CONTRADICTED
    return _record(seen, "", predicted, observed)


def _record(
    evidence: Evidence,
    reason: str,
    predicted: dict[str, str],
    observed: dict[str, str] | None = None,
) -> ReplayRecord:
    return ReplayRecord(
        evidence=evidence, reason=reason, predicted=predicted, observed=observed or {}
    )


def sample(machine: Machine, count: int = WALKS) -> SamplesRecord:
    """Random schedules, the same ones each time. One that breaks a property contradicts a proof."""
    walks = list(walk_all(machine, range(count)))
    spread: dict[str, int] = {}
    for one in walks:
        for verdict in filter(None, one.verdicts):
            spread[verdict] = spread.get(verdict, 0) + 1
    wrong = [one for one in walks if one.difference or one.broken]
    return SamplesRecord(
        of="random schedules",
        count=count,
        agreed=count - len(wrong),
        contradictions=tuple(map(_contradiction, wrong)),
        spread=dict(sorted(spread.items())),
        milliseconds=1e3 * median(one.seconds for one in walks),
    )


def _contradiction(walk: Walk) -> ReplayRecord:
    broken = ", ".join(f"{name} at step {step}" for name, step in walk.broken.items())
    return _record(
        Evidence.CONTRADICTED,
        f"random schedule {walk.seed}: {walk.difference or f'breaks {broken}'}",
        {"breaks": "nothing", "steps": str(len(walk.events))},
    )
