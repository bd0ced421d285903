# SPDX-License-Identifier: GPL-2.0-only
"""The store buffer does what SDM 3A 9.2 allows, and no more: its litmus tests, by z3 terms."""

from __future__ import annotations

import pytest
import z3

from models import memory_order
from models.memory_order import NOTHING, Buffer

X, Y = 1, 2
EMPTY: Buffer = (NOTHING, NOTHING)


def stored(*stores: tuple[int, int]) -> Buffer:
    buffer = EMPTY
    for word, value in stores:
        buffer = memory_order.with_store(buffer, word, z3.IntVal(value))
    return buffer


def number(term: z3.ArithRef) -> int:
    value: int = z3.simplify(term).as_long()
    return value


def true(term: z3.BoolRef) -> bool:
    answer: bool = z3.is_true(z3.simplify(term))
    return answer


def content(buffer: Buffer) -> list[tuple[int, int]]:
    return [(number(slot.word), number(slot.value)) for slot in buffer]


def test_stores_leave_in_the_order_in_which_they_came():
    buffer = stored((X, 5), (Y, 6))
    assert content(buffer) == [(X, 5), (Y, 6)]
    assert content(memory_order.without_oldest(buffer)) == [(Y, 6), (0, 0)]


def test_load_passes_an_older_store_to_another_word():
    assert number(memory_order.seen(stored((X, 5)), Y, z3.IntVal(9))) == 9


def test_load_sees_the_own_youngest_store():
    assert number(memory_order.seen(stored((X, 5), (X, 6)), X, z3.IntVal(9))) == 6


@pytest.mark.parametrize("count", range(3))
def test_fence_waits_for_all_stores(count):
    buffer = stored(*[(X, 1)] * count)
    assert true(memory_order.is_empty(buffer)) == (count == 0)
    assert true(memory_order.is_full(buffer)) == (count == 2)
    assert true(memory_order.holds(buffer, X)) == (count > 0)
    assert not true(memory_order.holds(buffer, Y))


def test_buffer_without_slots_is_empty_and_full():
    assert true(memory_order.is_empty(())) and true(memory_order.is_full(()))
