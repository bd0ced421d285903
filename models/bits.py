# SPDX-License-Identifier: GPL-2.0-only
"""The three ways in which the manuals speak of parts of a word."""

from __future__ import annotations

from functools import cache

import z3


def bit(word: z3.BitVecRef, number: int) -> z3.BoolRef:
    """Bit `number` of `word` is 1."""
    return z3.Extract(number, number, word) == _one(word.ctx)


@cache
def _one(context: z3.Context) -> z3.BitVecRef:
    return z3.BitVecVal(1, 1, context)


def field(word: z3.BitVecRef, high: int, low: int) -> z3.BitVecRef:
    """Bits `high`:`low` of `word`, both included."""
    return z3.Extract(high, low, word)


def any_of(word: z3.BitVecRef, mask: int | z3.BitVecRef) -> z3.BoolRef:
    """At least one of the bits in `mask` is 1 in `word`."""
    return (word & mask) != 0
