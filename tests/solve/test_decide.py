# SPDX-License-Identifier: GPL-2.0-only
"""Each verdict, on obligations that a reader can decide in the head."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import z3

from harness.solve import decide as module
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Verdict, worst
from harness.x86 import solver
from harness.x86.inputs import Inputs
from harness.x86.solver import Answer
from tests.solve.toys import FLAG, AlwaysZero, AsTheModelSays, X, Y, byte, judged

HARD = z3.And(X * Y == 0xFFFF_FFFB, *(z3.UGT(t, 1) & z3.ULT(t, 0x10000) for t in (X, Y)))
"""No: the product is a prime number. To see that takes more than a few thousand resource units."""


def test_what_holds_for_all_inputs_is_proved() -> None:
    result = judged(z3.ULE(X & 0xFF, 0xFF))
    assert (result.verdict, result.witness) == (Verdict.PROVED, None)


def test_a_goal_that_needs_its_hypothesis_is_proved_with_it_only() -> None:
    assert judged(z3.ULT(X + 1, 12), z3.ULT(X, 11)).verdict is Verdict.PROVED
    assert judged(z3.ULT(X + 1, 12), z3.ULT(X, 12)).verdict is Verdict.REFUTED


def test_hypotheses_that_exclude_every_input_show_nothing() -> None:
    result = judged(z3.BoolVal(True), z3.ULT(X, 4), z3.UGT(X, 4))
    assert (result.verdict, result.witness) == (Verdict.VACUOUS, None)
    assert result.reason


def test_vacuous_even_where_the_goal_is_false() -> None:
    assert judged(z3.BoolVal(False), X != X).verdict is Verdict.VACUOUS


def test_a_refutation_names_the_goals_that_fail_and_no_other() -> None:
    goals = {"small": z3.ULT(X, 10), "true": z3.BoolVal(True), "even": X & 1 == 0}
    result = judged(goals, X == 11)
    assert result.witness is not None
    assert result.witness.violated == ("small", "even")
    assert result.reason == "small; even"


@pytest.mark.parametrize("where", ["hypotheses", "goal"])
def test_a_solver_that_gives_up_is_no_verdict(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr(module, "RLIMIT", 1000)
    hard = (z3.BoolVal(True), HARD) if where == "hypotheses" else (z3.Not(HARD),)
    result = judged(*hard)
    assert (result.verdict, result.witness) == (Verdict.UNKNOWN, None)
    assert "rlimit 1000" in result.reason


def test_a_model_that_evaluation_does_not_confirm_is_no_refutation() -> None:
    """The solver does not know what memory holds; who does, contradicts it."""
    assert judged(byte(7) == 0).verdict is Verdict.REFUTED
    result = judged(byte(7) == 0, concrete=AlwaysZero())
    assert (result.verdict, result.witness) == (Verdict.UNKNOWN, None)
    assert "evaluating it does not confirm it" in result.reason


def test_a_model_whose_hypothesis_evaluation_denies_is_no_refutation() -> None:
    result = judged(z3.BoolVal(False), byte(7) == 1, concrete=AlwaysZero())
    assert result.verdict is Verdict.UNKNOWN


def test_verdicts_do_not_depend_on_what_was_decided_before() -> None:
    def ask() -> list[object]:
        results = [judged(z3.ULT(X, 9)), judged(X == X), judged(z3.Implies(FLAG, X != 3), FLAG)]
        return [(result.verdict, result.witness) for result in results]

    first = ask()
    judged(z3.UGE(X, 5), z3.ULT(X, 9))
    assert ask() == first


def test_used_resources_are_told() -> None:
    assert judged(z3.Not(z3.And(X * Y == 0x8F13, z3.ULT(X, 500), z3.ULT(Y, 500)))).rlimit > 0


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        ([], Verdict.VACUOUS),
        ([Verdict.PROVED], Verdict.PROVED),
        ([Verdict.PROVED, Verdict.VACUOUS], Verdict.VACUOUS),
        ([Verdict.VACUOUS, Verdict.UNKNOWN], Verdict.UNKNOWN),
        ([Verdict.UNKNOWN, Verdict.INCOMPLETE], Verdict.INCOMPLETE),
        ([Verdict.INCOMPLETE, Verdict.UNSUPPORTED], Verdict.UNSUPPORTED),
        ([Verdict.UNSUPPORTED, Verdict.REFUTED, Verdict.PROVED], Verdict.REFUTED),
    ],
)
def test_a_claim_is_as_good_as_its_worst_obligation(
    verdicts: list[Verdict], together: Verdict
) -> None:
    assert worst(verdicts) is together


def test_only_hypotheses_that_can_be_met_are_remembered() -> None:
    met, unmet = (z3.ULT(X, 4),), (z3.ULT(X, 4), z3.UGT(X, 4))
    satisfied = Inputs()
    for _ in range(2):
        for hypotheses, verdict in ((met, Verdict.PROVED), (unmet, Verdict.VACUOUS)):
            obligation = Obligation("toy", hypotheses, {"small": z3.ULT(X, 10)})
            assert module.decide(obligation, AsTheModelSays(), satisfied).verdict is verdict
    assert satisfied.that_meets(met) is not None
    assert satisfied.that_meets(unmet) is None


def in_two_steps(goal: z3.BoolRef, because: z3.BoolRef, *hypotheses: z3.BoolRef) -> Verdict:
    obligation = Obligation("toy", hypotheses, {"the goal": goal}, because=(because,))
    return decide(obligation, AsTheModelSays()).verdict


def test_what_implies_the_goal_and_follows_from_the_hypotheses_saves_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def ask(conditions: Sequence[z3.BoolRef], rlimit: int, known: Inputs | None = None) -> Answer:
        asked.append(conditions)
        return solver.ask(conditions, rlimit, known=known)

    monkeypatch.setattr(module, "ask", ask)
    assert in_two_steps(z3.ULT(X, 10), z3.ULT(X, 9), z3.ULT(X, 8)) is Verdict.PROVED
    assert len(asked) == 3  # hypotheses, and the two steps
    asked.clear()
    assert in_two_steps(z3.ULT(X, 10), z3.ULT(X, 11), z3.ULT(X, 8)) is Verdict.PROVED
    assert len(asked) == 4  # the reason is none: the goal is asked for, too


@pytest.mark.parametrize(
    ("goal", "verdict"), [(z3.ULT(X, 9), Verdict.PROVED), (z3.ULT(X, 7), Verdict.REFUTED)]
)
@pytest.mark.parametrize(
    "because",
    [z3.ULT(X, 3), z3.ULT(X, 20), z3.BoolVal(False), z3.BoolVal(True), Y == 1],
    ids=["does not follow", "implies nothing", "false", "true", "of another symbol"],
)
def test_a_reason_that_is_none_changes_no_verdict(
    goal: z3.BoolRef, verdict: Verdict, because: z3.BoolRef
) -> None:
    assert in_two_steps(goal, because, z3.ULT(X, 8)) is verdict


def test_a_reason_does_not_make_up_for_hypotheses_that_exclude_every_input() -> None:
    assert in_two_steps(X == 1, X == 1, X != X) is Verdict.VACUOUS
