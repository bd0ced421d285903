# SPDX-License-Identifier: GPL-2.0-only
"""All claims on a host's load and kick together."""

from __future__ import annotations

from dataclasses import replace

from harness.host.claims import UserMemory, kick_obligations, load_obligations
from harness.host.objects import apart
from harness.host.whole import whole_obligations
from harness.solve.decide import decide
from harness.solve.obligation import Verdict
from tests.host.test_extract import contract_of
from trampoline.host_object import HostObject


def test_each_obligation_has_one_goal_and_a_name_of_its_own(hardened: HostObject) -> None:
    contract = contract_of("multikernel")
    load, kick = load_obligations(hardened, contract), kick_obligations(hardened, contract)
    names = [obligation.name for obligation in (*load, *kick)]
    assert len(set(names)) == len(names)
    for obligation in (*load, *kick):
        (goal,) = obligation.goals
        assert obligation.name.endswith(f": {goal}")


def test_segments_that_do_not_meet_stay_in_place() -> None:
    for obligation in whole_obligations():
        assert decide(obligation, UserMemory()).verdict is Verdict.PROVED


def test_segments_that_meet_do_not() -> None:
    keeps = whole_obligations()[0]
    hypotheses = tuple(h for h in keeps.hypotheses if not h.eq(apart()))
    assert len(hypotheses) == len(keeps.hypotheses) - 1
    result = decide(replace(keeps, hypotheses=hypotheses), UserMemory())
    assert result.verdict is Verdict.REFUTED
