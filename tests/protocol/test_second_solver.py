# SPDX-License-Identifier: GPL-2.0-only
"""cvc5 is asked what z3 is asked of the kept invariant, and says the same."""

from __future__ import annotations

import pytest

from harness.protocol import check, encoding, invariant_file
from harness.protocol.invariant import Invariant
from models.protocol_claims import CLAIMS
from tests.protocol import pairs
from tests.protocol.test_verdicts import KEPT

pytest.importorskip("cvc5")


@pytest.fixture(scope="module")
def kept() -> Invariant:
    return invariant_file.parse(KEPT.read_text())


@pytest.fixture(scope="module")
def clauses():
    return tuple(encoding.clauses(pairs.HARDENED, CLAIMS))


def test_second_solver_agrees(kept, clauses):
    for name, conditions in check.questions(pairs.HARDENED, kept, clauses):
        assert check.cvc5_answers(check.smt2(conditions)) == "unsat", name


def test_second_solver_can_disagree(kept, clauses):
    weaker = Invariant(kept.lemmas[:1])
    answers = {
        check.cvc5_answers(check.smt2(conditions))
        for _, conditions in check.questions(pairs.HARDENED, weaker, clauses[-1:])
    }
    assert answers == {"sat"}
