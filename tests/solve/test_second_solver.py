# SPDX-License-Identifier: GPL-2.0-only
"""A second solver is asked the same, and whatever it says otherwise is heard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import z3

from harness.solve import smt2 as writing
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Result, Verdict, worst
from harness.solve.second import NAME, SecondSolver, bitwuzla_answers
from harness.solve.smt2 import NotTheSame, check, plain, smt2
from tests.solve.toys import FLAG, AsTheModelSays, X, Y, byte

TOYS = {
    Verdict.PROVED: Obligation("proved", (z3.ULT(X, 8),), {"small": z3.ULT(X, 9)}),
    Verdict.REFUTED: Obligation("refuted", (z3.ULT(X, 8),), {"small": z3.ULT(X, 7)}),
    Verdict.VACUOUS: Obligation("vacuous", (X != X,), {"small": z3.ULT(X, 7)}),
}
ODD = {
    "nothing is true": z3.And(),
    "nothing is false": z3.Or(),
    "one alone": z3.And(z3.Or(z3.And(X == 1))),
    "one within another": z3.Or(z3.And(X == 1), z3.And(z3.Or(Y == 2), FLAG)),
    "two that differ": z3.Distinct(X, Y),
    "three that differ": z3.Distinct(X, Y, X + Y),
    "one implies another": z3.Implies(FLAG, X == 1),
    "implied in a row": z3.Implies(FLAG, z3.Implies(X == 1, z3.Implies(Y == 2, X == Y))),
    "implied by what is implied": z3.Implies(z3.Implies(FLAG, X == 1), Y == 2),
    "memory": z3.And(byte(7) == 1, z3.Distinct(byte(8), byte(9))),
}


def decided(obligation: Obligation) -> Result:
    return decide(obligation, AsTheModelSays())


@pytest.mark.parametrize("verdict", TOYS)
def test_bitwuzla_agrees_on_each_kind_of_verdict(verdict: Verdict) -> None:
    result = SecondSolver().judge(TOYS[verdict], decided(TOYS[verdict]))
    assert result.verdict is verdict
    assert result.second is not None
    assert result.second.solver == NAME
    wanted = {"PROVED": "sat unsat", "REFUTED": "sat sat", "VACUOUS": "unsat unsat"}[verdict]
    assert f"{result.second.hypotheses} {result.second.violation}" == wanted


@pytest.mark.parametrize("verdict", TOYS)
@pytest.mark.parametrize("lie", ["sat", "unsat"])
def test_a_solver_that_lies_is_a_disagreement(verdict: Verdict, lie: str) -> None:
    result = SecondSolver(answers=lambda script: lie).judge(TOYS[verdict], decided(TOYS[verdict]))
    honest = (verdict, lie) in ((Verdict.REFUTED, "sat"), (Verdict.VACUOUS, "unsat"))
    assert result.verdict is (verdict if honest else Verdict.DISAGREE)
    assert honest or f"{NAME} says {lie}" in result.reason


def test_a_z3_that_lies_is_a_disagreement() -> None:
    result = decided(TOYS[Verdict.PROVED])
    assert SecondSolver().judge(TOYS[Verdict.REFUTED], result).verdict is Verdict.DISAGREE


def test_no_answer_leaves_nothing_proved_but_a_refutation_stands() -> None:
    silent = SecondSolver(answers=lambda script: "none")
    proved = silent.judge(TOYS[Verdict.PROVED], decided(TOYS[Verdict.PROVED]))
    assert proved.verdict is Verdict.UNKNOWN
    assert "gave up" in proved.reason
    refuted = silent.judge(TOYS[Verdict.REFUTED], decided(TOYS[Verdict.REFUTED]))
    assert refuted.verdict is Verdict.REFUTED  # by a witness that was evaluated


def test_bitwuzla_gives_no_answer_when_its_time_is_over() -> None:
    x, y = z3.BitVecs("p q", 128)
    small = [z3.And(z3.UGT(factor, 1), z3.ULT(factor, 1 << 64)) for factor in (x, y)]
    hard = [x * y == (1 << 127) - 1, *small]  # a prime number
    assert bitwuzla_answers(smt2(hard), limit=0.05) == "none"


def test_disagreement_is_the_gravest_verdict() -> None:
    assert worst(list(Verdict)) is Verdict.DISAGREE


def test_what_is_shared_is_asked_once_and_each_script_is_kept_under_one_name() -> None:
    kept: list[tuple[str, str]] = []
    solver = SecondSolver(keep=lambda name, script: kept.append((name, script)))
    for verdict in (Verdict.PROVED, Verdict.REFUTED):
        result = solver.judge(TOYS[verdict], decided(TOYS[verdict]))
        assert result.second is not None
        assert result.second.script == kept[-1][0]
    assert len(kept) == len(dict(kept)) == 3  # the hypotheses are the same
    assert all(script.endswith("(check-sat)\n") for _, script in kept)


@pytest.mark.parametrize("condition", ODD.values(), ids=ODD)
def test_what_is_put_plainly_means_the_same_and_is_read_back(condition: z3.BoolRef) -> None:
    solver = z3.Solver()
    solver.add(plain(condition) != condition)
    assert solver.check() == z3.unsat
    script = smt2([condition, FLAG])
    solver = z3.Solver()
    solver.add(condition, FLAG)
    assert bitwuzla_answers(script) == str(solver.check())


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("(assert\n flag)", ""),
        lambda text: text.replace("(assert\n flag)", "(assert (not flag))"),
        lambda text: text.replace("bv8", "bv9"),
        lambda text: text.replace("bvult", "bvule"),
    ],
    ids=["lost", "negated", "another number", "another operation"],
)
def test_a_script_that_says_something_else_is_noticed(damage: Callable[[str], str]) -> None:
    terms = [z3.ULT(X, 8), FLAG, Y == 3]
    script = smt2(terms)
    check(script, terms)
    damaged = damage(script)
    assert damaged != script
    with pytest.raises(NotTheSame):
        check(damaged, terms)


def test_a_writer_that_loses_a_hypothesis_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "plain", lambda condition: condition)  # then `and` of one is lost
    odd = Obligation("odd", (z3.And(z3.And(X == 1)),), {"so": X == 1})
    result = SecondSolver().judge(odd, decided(odd))
    assert result.verdict is Verdict.UNKNOWN
    assert "cannot be asked" in result.reason


def test_hypotheses_are_asked_also_where_the_goal_cannot_be() -> None:
    """z3 would say that they can be met: that is heard, whatever the goal is."""
    odd = Obligation("odd", (X != X,), {"so": z3.RotateLeft(X, Y) == 1})
    lie = Result("odd", Verdict.REFUTED, 0.0, 0)
    result = SecondSolver().judge(odd, lie)
    assert result.verdict is Verdict.DISAGREE
    assert result.second is not None
    assert (result.second.hypotheses, result.second.violation) == ("unsat", "none")
