# SPDX-License-Identifier: GPL-2.0-only
"""cvc5 is asked what z3 is asked of the kept invariant, and what it says counts."""

from __future__ import annotations

import pytest
import z3

from harness.protocol import check, invariant_file
from harness.protocol.check import Question
from harness.protocol.invariant import Invariant
from models.protocol_claims import CLAIMS
from tests.protocol import pairs
from tests.protocol.test_verdicts import KEPT

IMPOSSIBLE = Question("impossible", (z3.Int("x") < z3.Int("x"),))
POSSIBLE = Question("possible", (z3.Int("x") < z3.Int("y"),))


@pytest.fixture(scope="module")
def kept() -> Invariant:
    return invariant_file.parse(KEPT.read_text(), {})


def test_both_solvers_agree(kept):
    questions = check.questions(pairs.HARDENED, kept, CLAIMS)
    assert [question.name for question in questions] == ["initial", "inductive", "safe"]
    for question in questions:
        assert check.z3_answers(question) == check.cvc5_answers(question) == "unsat"


def test_both_solvers_find_what_a_weaker_invariant_leaves_open(kept):
    weaker = Invariant(kept.lemmas[:1])
    *_, safe = check.questions(pairs.HARDENED, weaker, CLAIMS)
    assert check.z3_answers(safe) == check.cvc5_answers(safe) == "sat"


def test_what_z3_leaves_open_is_not_proved():
    said = "UNKNOWN", "possible: z3 says sat"
    assert check.judge([IMPOSSIBLE, POSSIBLE]) == said
    assert check.judge([IMPOSSIBLE]) == ("PROVED", "")


@pytest.mark.parametrize(("answer", "verdict"), [("sat", "DISAGREE"), ("unknown", "UNKNOWN")])
def test_proof_of_one_solver_alone_is_none(monkeypatch, answer, verdict):
    monkeypatch.setattr(check, "cvc5_answers", lambda question: answer)
    said = f"impossible: z3 says unsat, cvc5 says {answer}"
    assert check.judge([IMPOSSIBLE]) == (verdict, said)


def test_question_without_a_budget_is_not_answered(monkeypatch, kept):
    monkeypatch.setattr(check, "RLIMIT", 1000)
    monkeypatch.setattr(check, "CVC5_RLIMIT", 1)
    question = check.questions(pairs.HARDENED, kept, CLAIMS)[1]
    assert check.z3_answers(question) == check.cvc5_answers(question) == "unknown"
