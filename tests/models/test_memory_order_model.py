# SPDX-License-Identifier: GPL-2.0-only
"""The store buffer does what SDM 3A 9.2 allows, and no more: its litmus tests, by z3 terms."""

from __future__ import annotations

from types import ModuleType

import pytest
import z3

from models import memory_order
from tests.models.protocol_rows import value
from tests.models.rows import Row

X, Y = 1, 2
NOTHING = (0, 0)


def stored(m: ModuleType, *stores: tuple[int, int]) -> object:
    """A buffer of two slots after these stores."""
    buffer = (m.NOTHING, m.NOTHING)
    for word, number in stores:
        buffer = m.with_store(buffer, word, z3.IntVal(number))
    return buffer


def seen(m: ModuleType, word: int, *stores: tuple[int, int]) -> object:
    """What a load reads if memory holds 9."""
    return value(m.seen(stored(m, *stores), word, z3.IntVal(9)))


def waits(m: ModuleType, count: int) -> object:
    """After so many stores to X: is it empty, is it full, does it hold one to X, one to Y."""
    buffer = stored(m, *[(X, 1)] * count)
    held = (m.holds(buffer, X), m.holds(buffer, Y))
    return tuple(map(value, (m.is_empty(buffer), m.is_full(buffer), *held)))


ROWS = (
    Row(
        "stores leave in the order in which they came",
        lambda m: [
            value(buffer)
            for buffer in (stored(m, (X, 5), (Y, 6)),)
            for buffer in (buffer, m.without_oldest(buffer))
        ],
        [((X, 5), (Y, 6)), ((Y, 6), NOTHING)],
    ),
    Row("one store leaves room for one", lambda m: value(stored(m, (X, 5))), ((X, 5), NOTHING)),
    Row("a load passes an older store to another word", lambda m: seen(m, Y, (X, 5)), 9),
    Row("a load sees the own store", lambda m: seen(m, X, (X, 5), (Y, 7)), 5),
    Row("a load sees the own youngest store", lambda m: seen(m, X, (X, 5), (X, 6)), 6),
    Row("a load without an own store sees memory", lambda m: seen(m, X), 9),
    Row("no store: a fence goes on", lambda m: waits(m, 0), (True, False, False, False)),
    Row("one store: it waits", lambda m: waits(m, 1), (False, False, True, False)),
    Row("two stores: there is no room", lambda m: waits(m, 2), (False, True, True, False)),
    Row(
        "a buffer without slots is empty and full",
        lambda m: (value(m.is_empty(())), value(m.is_full(())), value(m.holds((), X))),
        (True, True, False),
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_memory_order(row: Row) -> None:
    assert row.outcome(memory_order) == row.expected
