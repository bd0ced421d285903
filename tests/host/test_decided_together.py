# SPDX-License-Identifier: GPL-2.0-only
"""Obligations of one path are decided together, and none is lost in the others."""

from __future__ import annotations

import pytest
import z3

from harness.host.claims import decide_all
from harness.solve.obligation import Obligation, Verdict

x = z3.BitVec("x", 64)
GIVEN = (z3.UGT(x, 3),)


@pytest.mark.parametrize("backwards", [False, True])
def test_two_obligations_of_one_name_are_two(backwards: bool) -> None:
    wrong = Obligation("path 1", GIVEN, {"so": x == 7})
    right = Obligation("path 1", GIVEN, {"so": z3.UGT(x, 2)})
    judged = decide_all([wrong, right, wrong], backwards)
    assert [result.verdict for _, result in judged] == [
        Verdict.REFUTED,
        Verdict.PROVED,
        Verdict.REFUTED,
    ]
    assert [one for one, _ in judged] == [wrong, right, wrong]


@pytest.mark.parametrize("backwards", [False, True])
def test_obligations_come_back_path_by_path_in_their_order(backwards: bool) -> None:
    other = (z3.ULT(x, 3),)
    asked = [
        Obligation("a", GIVEN, {"so": z3.UGT(x, 1)}),
        Obligation("b", GIVEN, {"so": z3.UGT(x, 0)}),
        Obligation("c", other, {"so": z3.ULT(x, 5)}),
    ]
    assert [one.name for one, _ in decide_all(asked, backwards)] == ["a", "b", "c"]
