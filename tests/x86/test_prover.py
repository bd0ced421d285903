# SPDX-License-Identifier: GPL-2.0-only
"""The machine's questions to z3: "impossible" is always proved, and guesses never narrow."""

from __future__ import annotations

import pytest
import z3

from harness.x86 import prover as module
from harness.x86.prover import Prover
from harness.x86.solver import Answer
from harness.x86.terms import leaves

x, y = z3.BitVec("x", 64), z3.BitVec("y", 64)
PAGES = range(0, 0x8000, 0x1000)


def choice(*pages: int) -> z3.BitVecRef:
    """A term that is one of the pages, depending on x."""
    term = z3.BitVecVal(pages[-1], 64)
    for number, page in enumerate(pages[:-1]):
        term = z3.If(x == number, z3.BitVecVal(page, 64), term)
    return term


def test_a_condition_is_judged_with_the_path_that_leads_to_it() -> None:
    prover = Prover([z3.ULT(x, 100)])
    assert prover.possible((), x == 99)
    assert not prover.possible((), x == 100)
    assert not prover.possible((x != 99,), x == 99)
    assert prover.possible((x != 98,), x == 99)


def test_an_input_that_is_known_saves_the_question_but_never_gives_a_wrong_answer() -> None:
    prover = Prover([])
    assert prover.possible((), x == 5)
    asked = prover.calls
    assert prover.possible((x == 5,), z3.ULT(x, 6))
    assert prover.calls == asked
    assert not prover.possible((x == 5,), z3.ULT(x, 5))


def test_no_answer_counts_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    no_answer = Answer(z3.unknown, None, 0, "gave up")
    monkeypatch.setattr(module, "ask", lambda *arguments: no_answer)
    prover = Prover([])
    assert prover.possible((x == 1,), x == 2)
    assert not prover.holds((x == 1,), x == 1)
    assert prover.values((), (x & 3) << 12, PAGES) is None


def test_the_values_of_a_term_include_every_one_that_it_has() -> None:
    values = Prover([]).values((), choice(0x1000, 0x5000, 0x3000), PAGES)
    assert values is not None and values >= {0x1000, 0x3000, 0x5000}


def test_values_that_the_shape_of_a_term_does_not_show_are_found() -> None:
    term = z3.If(y == 0, choice(0x1000, 0x2000), (x & 3) << 12)
    assert Prover([]).values((), term, PAGES) == frozenset({0, 0x1000, 0x2000, 0x3000})


def test_a_term_with_a_value_elsewhere_has_no_list_of_values() -> None:
    assert Prover([]).values((), choice(0x1000, 0x9000), PAGES) is None
    assert Prover([]).values((), x, PAGES) is None


def test_a_value_elsewhere_that_the_path_excludes_does_no_harm() -> None:
    term = z3.If(x == 0, z3.BitVecVal(0x9000, 64), z3.BitVecVal(0x1000, 64))
    assert Prover([]).values((x != 0,), term, PAGES) == frozenset({0x1000})


def test_leaves_follow_parts_sums_and_joins_of_constants() -> None:
    chosen = choice(0x1007, 0x2007)
    page = z3.Concat(z3.Extract(63, 12, chosen), z3.BitVecVal(0, 12))
    assert leaves(page + 0x1000, 8) == {0x2000, 0x3000}
    assert leaves(x + 1, 8) == frozenset()
    assert len(leaves(choice(*range(20)), 8)) <= 8


def test_what_is_proved_impossible_is_not_asked_again_whoever_asks_and_in_any_order() -> None:
    first, second = Prover([z3.ULT(y, 7), z3.UGT(y, 3)]), Prover([z3.UGT(y, 3)])
    assert not first.possible((x == y,), x == 9, likely=True)
    assert not second.possible((z3.ULT(y, 7), x == 9), x == y, likely=True)
    assert (first.calls, second.calls) == (1, 0)
    # Fewer conditions are another question.
    assert second.possible((x == 9,), x == y, likely=True)
    assert second.calls == 1


def test_only_so_many_answers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    for number in range(100, 105):
        assert not Prover([]).possible((x == number,), x == number + 1, likely=True)
    again = Prover([])
    assert not again.possible((x == 104,), x == 105, likely=True)
    assert not again.possible((x == 100,), x == 101, likely=True)
    assert again.calls == 1


def test_what_one_run_has_asked_another_run_need_not_ask() -> None:
    z = z3.BitVec("asked by two runs", 64)
    first, second, other = (
        Prover([z3.ULT(z, 100)]),
        Prover([z3.ULT(z, 100)]),
        Prover([z3.ULT(z, 90)]),
    )
    for prover, calls in ((first, True), (second, False), (other, True)):
        assert prover.possible((), z == 89, likely=True)
        assert not prover.possible((), z == 100, likely=True)
        assert bool(prover.calls) is calls
    assert not other.possible((), z == 90)
