# SPDX-License-Identifier: GPL-2.0-only
"""How good a witness is: a reader should see at once what matters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import z3

from harness.solve.obligation import Witness
from tests.solve.toys import FLAG, X, Y, Z, byte, judged

DEFAULTS = {"x": 5, "y": 6, "z": 7}


def witness(
    goal: z3.BoolRef,
    *hypotheses: z3.BoolRef,
    preferred: Sequence[z3.BoolRef] = (),
    chosen: dict[str, int] | None = None,
) -> Witness:
    result = judged(goal, *hypotheses, defaults=DEFAULTS, preferred=preferred, chosen=chosen)
    assert result.witness is not None, result.reason
    return result.witness


@pytest.mark.parametrize("bound", [9, 100, 0x8000_0000, 0xFFFF_FFFF])
def test_what_must_move_is_as_small_as_it_can_be(bound: int) -> None:
    assert witness(z3.ULT(X, bound)).values["x"] == bound


def test_what_need_not_move_keeps_its_default() -> None:
    assert witness(z3.ULT(X + 0 * Y, 100), Z == Z).values == {"x": 100, "y": 6, "z": 7}


def test_one_input_moves_where_one_is_enough() -> None:
    found = witness(z3.ULT(X + Y, 1000)).values
    assert sum(found[name] != DEFAULTS[name] for name in DEFAULTS) == 1
    assert found["x"] + found["y"] == 1000


@pytest.mark.parametrize(
    ("defaults", "found"),
    [({"x": 5, "y": 6}, {"x": 994, "y": 6}), ({"y": 6, "x": 5}, {"x": 5, "y": 995})],
    ids=["x first", "y first"],
)
def test_the_first_default_is_the_first_to_move(
    defaults: dict[str, int], found: dict[str, int]
) -> None:
    result = judged(z3.ULT(X + Y, 1000), defaults=defaults)
    assert result.witness is not None and result.witness.values == found


def test_two_inputs_move_where_one_is_not_enough() -> None:
    assert witness(z3.Not(z3.And(X == 70, Y == 80))).values == {"x": 70, "y": 80, "z": 7}


def test_all_move_where_they_must() -> None:
    found = witness(z3.Not(z3.And(X == 1, Y == 2, Z == 3))).values
    assert found == {"x": 1, "y": 2, "z": 3}


def test_defaults_that_violate_the_goal_are_the_witness() -> None:
    assert witness(X != 5).values == DEFAULTS


def test_symbols_without_a_default_are_zero_where_they_can() -> None:
    free = z3.BitVec("free", 16)
    assert witness(z3.Not(z3.And(X == 5, free == free, z3.ULT(free, 9)))).values["free"] == 0


def test_flags_are_values_too() -> None:
    assert witness(z3.Not(z3.And(FLAG, X == X))).values["flag"] == 1
    assert witness(z3.Or(FLAG, X != 5)).values["flag"] == 0


def test_a_quantity_of_the_claim_takes_its_readable_value_or_the_smallest() -> None:
    offset = z3.BitVec("offset", 64)
    free = witness(z3.ULT(X, 9), z3.ULT(offset, 4096), chosen={"offset": 3})
    assert (free.values["x"], free.values["offset"]) == (9, 3)
    bound = witness(z3.ULT(offset, 77), z3.ULT(offset, 4096), chosen={"offset": 3})
    assert bound.values["offset"] == 77


def test_memory_is_zero_where_another_input_violates_the_goal() -> None:
    found = witness(z3.And(z3.ULT(X, 100), byte(7) != 3))
    assert (found.values["x"], found.entry_bytes) == (100, {})


def test_memory_that_matters_is_told() -> None:
    found = witness(z3.Or(byte(7) != 3, byte(9) == 0), byte(9) == 4)
    assert found.entry_bytes == {7: 3, 9: 4}


def test_inputs_that_can_be_replayed_are_preferred() -> None:
    assert witness(z3.ULT(X, 101), preferred=[X & 1 == 0]).values["x"] == 102


def test_preferences_that_cannot_be_met_are_dropped() -> None:
    assert witness(z3.ULT(X, 101), preferred=[z3.ULT(X, 3)]).values["x"] == 101


def test_a_preference_gives_way_to_memory_that_is_zero() -> None:
    """Unknown memory that must not be zero would be the harder input to set up."""
    found = witness(z3.Or(z3.ULT(X, 8), byte(1) == byte(2)), preferred=[byte(1) == 9])
    assert set(found.entry_bytes) <= {1, 2}
    assert found.values["x"] == 8
