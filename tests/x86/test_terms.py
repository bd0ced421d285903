# SPDX-License-Identifier: GPL-2.0-only
"""Terms have one form each, whatever else there is at the time."""

from __future__ import annotations

import pytest
import z3

from harness.x86 import terms


def test_a_term_is_simplified_to_the_same_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """z3 looks at how many others hold a part, and at the numbers of the parts, which it gives
    again when a term has gone."""
    x = z3.BitVec("only_in_this_test", 64)
    forms = iter((x << 1, 2 * x))
    monkeypatch.setattr(z3, "simplify", lambda term: next(forms))
    first, again = (terms.simplify(x + x) for _ in range(2))
    assert first.eq(again)


def test_constants_and_symbols_are_what_they_were() -> None:
    for term in (terms.const(5), z3.BitVec("x", 64), z3.Bool("b"), z3.BoolVal(True)):
        assert terms.simplify(term).eq(term)


def test_conjunctions_of_nothing_are_simplified() -> None:
    assert z3.is_true(terms.simplify(z3.And())) and z3.is_false(terms.simplify(z3.Or()))
