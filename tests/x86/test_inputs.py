# SPDX-License-Identifier: GPL-2.0-only
"""Inputs found before: they save questions, and never show more than evaluation does."""

from __future__ import annotations

import pytest
import z3

from harness.x86 import solver
from harness.x86.inputs import Inputs
from harness.x86.solver import ask

x, y = z3.BitVec("x", 64), z3.BitVec("y", 64)
memory = z3.Array("memory", z3.BitVecSort(64), z3.BitVecSort(8))
RLIMIT = 1_000_000


def model(*conditions: z3.BoolRef) -> z3.ModelRef:
    found = ask(conditions, RLIMIT).model
    assert found is not None
    return found


def test_an_input_meets_what_evaluation_says_and_nothing_else() -> None:
    inputs = Inputs()
    inputs.add(model(x == 5))
    assert inputs.that_meets((z3.ULT(x, 6), x != 4)) is not None
    assert inputs.that_meets((z3.ULT(x, 6), x != 5)) is None
    assert inputs.that_meets((x != 5, z3.ULT(x, 6))) is None


def test_what_an_input_leaves_open_counts_as_zero() -> None:
    inputs = Inputs()
    inputs.add(model(x == 5))
    assert inputs.that_meets((x == 5, y == 0, memory[y] == 0)) is not None
    assert inputs.that_meets((x == 5, z3.Or(y != 0, memory[y] != 0))) is None


def test_the_newest_input_comes_first_and_the_oldest_goes() -> None:
    inputs = Inputs(most=2)
    for value in (1, 2, 3):
        inputs.add(model(x == value))
    found = inputs.that_meets((z3.UGT(x, 0),))
    assert found is not None and found[x].as_long() == 3
    assert inputs.that_meets((x == 2,)) is not None
    assert inputs.that_meets((x == 1,)) is None


def test_a_known_input_saves_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs()
    assert ask((x == 5,), RLIMIT, known=inputs).status == z3.sat
    for kind in ("quick", "blasting", "fresh"):
        monkeypatch.setattr(solver, kind, None)
    answer = ask((z3.ULT(x, 6), x != 0), RLIMIT, known=inputs)
    assert (answer.status, answer.resources) == (z3.sat, 0)


def test_no_known_input_makes_a_contradiction_possible() -> None:
    inputs = Inputs()
    inputs.add(model(x == 5))
    assert ask((x == 5, z3.ULT(x, 5)), RLIMIT, known=inputs).status == z3.unsat
