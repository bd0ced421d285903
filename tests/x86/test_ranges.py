# SPDX-License-Identifier: GPL-2.0-only
"""Ranges of addresses: what the claims say of them, against what holds byte by byte."""

from __future__ import annotations

import pytest
import z3

from harness.x86.promise import lies_in, misses
from harness.x86.solver import ask

first, start, length, other, size = z3.BitVecs("first start length other size", 64)
i, j = z3.BitVecs("i j", 64)
RLIMIT = 200_000_000


def impossible(*conditions: z3.BoolRef) -> bool:
    return bool(ask(conditions, RLIMIT).status == z3.unsat)


def test_a_range_that_misses_another_has_no_byte_in_common_with_it() -> None:
    apart = misses(first, size, (start, length))
    counted = z3.And(z3.ULT(i, size), z3.ULT(j, length))
    assert impossible(apart, counted, first + i == start + j)


@pytest.mark.parametrize("bytes_", [1, 8])
def test_ranges_without_a_byte_in_common_miss_each_other(bytes_: int) -> None:
    met = z3.Not(misses(first, bytes_, (start, length)))
    # Where they meet, the first byte of one of them lies in the other.
    assert impossible(
        met, z3.Not(z3.ULT(first - start, length)), z3.Not(z3.ULT(start - first, bytes_))
    )


@pytest.mark.parametrize("bytes_", [1, 8])
def test_what_lies_in_a_range_misses_all_that_the_range_misses(bytes_: int) -> None:
    """The reason that `untouched` gives for most stores."""
    inside = lies_in(first, bytes_, (start, length))
    apart = misses(other, size, (start, length))
    assert impossible(inside, apart, size != 0, z3.Not(misses(first, bytes_, (other, size))))
