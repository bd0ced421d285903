# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on the obligations of a host, by what they claim."""

from __future__ import annotations

from collections.abc import Iterable

from harness.host.claims import UserMemory, decide_all
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Verdict, worst


def verdicts(obligations: Iterable[Obligation]) -> dict[str, Verdict]:
    """For each goal the gravest verdict on any path."""
    found: dict[str, list[Verdict]] = {}
    for obligation, result in decide_all(obligations):
        for goal in obligation.goals:
            found.setdefault(goal, []).append(result.verdict)
    return {goal: worst(all_paths) for goal, all_paths in found.items()}


def not_proved(obligations: Iterable[Obligation]) -> dict[str, Verdict]:
    """The goals that do not hold."""
    return {goal: v for goal, v in verdicts(obligations).items() if v is not Verdict.PROVED}


def refuted(obligations: Iterable[Obligation], goal: str) -> bool:
    """Whether the goal fails on some path."""
    concerned = [o for o in obligations if goal in o.goals]
    assert concerned, f"no path has the goal: {goal}"
    return any(decide(o, UserMemory()).verdict is Verdict.REFUTED for o in concerned)
