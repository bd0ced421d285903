# SPDX-License-Identifier: GPL-2.0-only
"""A circuit of gates, and its clauses (Tseitin's translation).

A literal is a variable's number, or its negative: as in DIMACS, so that gates and clauses speak the
same language. Variable 1 is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

TRUE, FALSE = 1, -1
Clause = tuple[int, ...]


class Gate(Enum):
    """What a gate computes of its operands."""

    AND = "and"
    XOR = "xor"
    ITE = "if-then-else"


class Circuit:
    """Inputs and gates in the order in which they were made: operands before what uses them."""

    def __init__(self) -> None:
        self.size = TRUE  # the number of the last variable
        self.gates: dict[int, tuple[Gate, Clause]] = {}
        self._made: dict[tuple[Gate, Clause], int] = {}

    def input(self) -> int:
        """A new variable that nothing defines."""
        self.size += 1
        return self.size

    def both(self, a: int, b: int) -> int:
        """Conjunction."""
        if FALSE in (a, b) or a == -b:
            return FALSE
        if a in (TRUE, b):
            return b
        if b == TRUE:
            return a
        return self._gate(Gate.AND, (min(a, b), max(a, b)))

    def either(self, a: int, b: int) -> int:
        """Disjunction."""
        return -self.both(-a, -b)

    def differ(self, a: int, b: int) -> int:
        """Exclusive disjunction."""
        if abs(a) == TRUE:
            return b if a == FALSE else -b
        if abs(b) == TRUE:
            return a if b == FALSE else -a
        if abs(a) == abs(b):
            return FALSE if a == b else TRUE
        first, second = sorted((abs(a), abs(b)))
        gate = self._gate(Gate.XOR, (first, second))
        return gate if (a > 0) == (b > 0) else -gate

    def choose(self, condition: int, a: int, b: int) -> int:
        """`a` if the condition holds, else `b`."""
        if abs(condition) == TRUE or a == b:
            return a if condition == TRUE else b
        if a == -b:
            return -self.differ(condition, a)
        if abs(a) == TRUE or a in (condition, -condition):
            holds = a in (TRUE, condition)
            return self.either(condition, b) if holds else self.both(-condition, b)
        if abs(b) == TRUE or b in (condition, -condition):
            holds = b == TRUE or b == -condition
            return self.either(-condition, a) if holds else self.both(condition, a)
        if condition < 0:
            condition, a, b = -condition, b, a
        return self._gate(Gate.ITE, (condition, a, b))

    def all_of(self, literals: Iterable[int]) -> int:
        """Conjunction of any number."""
        result = TRUE
        for literal in literals:
            result = self.both(result, literal)
        return result

    def cone(self, literals: Iterable[int]) -> list[int]:
        """The gates that these literals depend on, operands first."""
        found: set[int] = set()
        stack = [abs(literal) for literal in literals]
        while stack:
            variable = stack.pop()
            if variable in self.gates and variable not in found:
                found.add(variable)
                stack += (abs(operand) for operand in self.gates[variable][1])
        return sorted(found)

    def _gate(self, kind: Gate, operands: Clause) -> int:
        key = kind, operands
        if key not in self._made:
            self._made[key] = variable = self.input()
            self.gates[variable] = key
        return self._made[key]


def clauses(kind: Gate, gate: int, operands: Clause) -> Iterator[Clause]:
    """What makes a variable the output of a gate: for each input of it, one value."""
    if kind is Gate.AND:
        a, b = operands
        yield from ((-gate, a), (-gate, b), (gate, -a, -b))
    elif kind is Gate.XOR:
        a, b = operands
        yield from ((-gate, a, b), (-gate, -a, -b), (gate, -a, b), (gate, a, -b))
    else:
        c, a, b = operands
        yield from ((-gate, -c, a), (-gate, c, b), (gate, -c, -a), (gate, c, -b))
