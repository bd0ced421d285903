# SPDX-License-Identifier: GPL-2.0-only
"""Rows: a rule of the manual, a concrete case of it, and the outcome worked out by hand.

Each test file keeps its rows in a tuple, so that the same rows also run against mutants of the
model (test_every_rule_matters.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import z3


@dataclass(frozen=True)
class Row:
    """One case. `outcome` takes the module under test and gives what must equal `expected`."""

    rule: str
    outcome: Callable[[ModuleType], object]
    expected: object

    def __str__(self) -> str:
        """Name of the case in pytest's output."""
        return self.rule


def holds(term: z3.BoolRef) -> bool:
    """The value of a term without variables."""
    value = z3.simplify(term)
    if not (z3.is_true(value) or z3.is_false(value)):
        raise AssertionError(f"not a constant: {value}")
    return bool(z3.is_true(value))


def number(term: z3.BitVecRef) -> int:
    """The value of a bit-vector term without variables, unsigned."""
    return int(z3.simplify(term).as_long())


def word(value: int, width: int = 64) -> z3.BitVecRef:
    """A constant of `width` bits."""
    return z3.BitVecVal(value, width)
