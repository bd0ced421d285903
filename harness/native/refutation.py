# SPDX-License-Identifier: GPL-2.0-only
"""Refuted goals of a host, each with its smallest witness and a run of the host that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.host.claims import UserMemory
from harness.native.build import NativeError
from harness.native.run import Native
from harness.native.scene import Scene, Unplayable
from harness.native.scenes import DEFAULTS, PLAYABLE, plain_names
from harness.native.shown import SHOWS
from harness.record import Evidence, ReplayRecord
from harness.solve.decide import smallest
from harness.solve.obligation import Obligation, Result, Witness
from harness.x86.terms import variables


@dataclass(frozen=True)
class Refutation:
    """A goal that does not hold. `inputs`: the witness in words, by name."""

    goal: str
    obligation: str
    witness: Witness
    inputs: dict[str, str]
    replay: ReplayRecord


def refutations(
    native: Native, results: Sequence[tuple[Obligation, Result]]
) -> tuple[Refutation, ...]:
    """One for each refuted goal, in the order in which the goals come. Each obligation has one."""
    found = []
    goals = [goal for o, r in results if r.witness is not None for goal in o.goals]
    for goal in dict.fromkeys(goals):
        concerned = [(o, r) for o, r in results if goal in o.goals and r.witness is not None]
        found.append(refutation(native, goal, concerned))
    return tuple(found)


def refutation(
    native: Native, goal: str, refuted: Sequence[tuple[Obligation, Result]]
) -> Refutation:
    """The smallest witness among the refuted obligations with this goal, and its replay."""
    names = plain_names_of([obligation for obligation, _ in refuted])
    # In the order of DEFAULTS: that is the order in which symbols leave them. PLAYABLE speaks of
    # symbols that an obligation need not have.
    defaults = {
        symbol: value for plain, value in DEFAULTS.items() for symbol in names.get(plain, [plain])
    }
    chosen = smallest(refuted, defaults, PLAYABLE, UserMemory())
    obligation, result = refuted[0] if chosen is None else chosen
    assert result.witness is not None  # it is refuted
    return show(native, goal, obligation, result.witness)


def plain_names_of(obligations: Sequence[Obligation]) -> dict[str, list[str]]:
    """The symbols of some obligations, by the name that a reader knows."""
    found: dict[str, list[str]] = {}
    for obligation in obligations:
        for symbol, plain in plain_names(_symbols(obligation)).items():
            if symbol not in found.setdefault(plain, []):
                found[plain].append(symbol)
    return found


def _symbols(obligation: Obligation) -> list[str]:
    terms = (*obligation.hypotheses, obligation.goal)
    return sorted({name for term in terms for name in variables(term)})


def show(native: Native, goal: str, obligation: Obligation, witness: Witness) -> Refutation:
    """Run the host on a witness, and say whether the run shows the goal's violation."""
    plain = plain_names(_symbols(obligation))
    given = {plain[symbol]: value for symbol, value in witness.values.items() if symbol in plain}
    inputs = {name: hex(value) for name, value in given.items()}
    try:
        if goal not in SHOWS:
            raise Unplayable("no run is known to show a violation of this goal")
        scene = SHOWS[goal].scene(native.host, DEFAULTS | given)
        inputs = scene.inputs()
        record = replay_scene(native, goal, scene)
    except Unplayable as problem:
        record = _record(goal, Evidence.NOT_REPLAYABLE, str(problem))
    return Refutation(goal, obligation.name, witness, inputs, record)


def replay_scene(native: Native, goal: str, scene: Scene) -> ReplayRecord:
    """Run the host in a scene: CONFIRMED if the violation of the goal is seen. Raises Unplayable.

    A run that crashes or hangs contradicts what was predicted of it.
    """
    try:
        run = native.run(scene.lines())
    except NativeError as error:
        return _record(goal, Evidence.CONTRADICTED, str(error))
    observed = {}
    for number, event in enumerate((e for e in run.events if "did" in e), 1):
        observed[f"{number}: {event['did']} returned"] = str(event["result"])
    if run.changed:
        observed["written"] = ", ".join(f"{a:#x}..{b - 1:#x}" for a, b in run.changed)
    seen = SHOWS[goal].seen(native.host, scene, run)
    if not seen:
        return _record(goal, Evidence.CONTRADICTED, "the run does not show it", **observed)
    return _record(goal, Evidence.CONFIRMED, "", seen=seen, **observed)


def _record(goal: str, evidence: Evidence, reason: str, **observed: str) -> ReplayRecord:
    return ReplayRecord(
        evidence=evidence, reason=reason, predicted={"violated": goal}, observed=observed
    )
