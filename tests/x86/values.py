# SPDX-License-Identifier: GPL-2.0-only
"""Concrete values for the symbols of terms."""

from __future__ import annotations

import re
from collections.abc import Mapping

import z3

from harness.solve.evaluate import Function, compile_term
from harness.x86.run import Run
from harness.x86.terms import variables

OFFERED, STARTED = 0x1000_0000, 0xA5A5_A5A5
"""The status word of `multikernel`."""


class Chosen(dict[str, int]):
    """Values by symbol. A symbol without one has the value of its name without its number, or 0.

    The machine numbers the values that the manual leaves open; two runs may number differently.
    """

    def __missing__(self, name: str) -> int:
        return self.get(re.sub(r"_\d+$", "", name), 0)


def offered(run: Run, values: Chosen) -> Chosen:
    """The values, where the area is offered to this CPU and nobody else writes the status word."""
    offer = OFFERED + values["initial_apic_id"]
    for end in run.ends:
        seen = [str(access.seen) for access in end.accesses if access.seen is not None]
        for number, name in enumerate(seen):
            values[name] = STARTED if number else offer
    return values


def holds(conditions: tuple[z3.BoolRef, ...], values: Mapping[str, int]) -> bool:
    """All conditions hold; memory at entry is 0."""
    return all(value_of(condition, values) for condition in conditions)


_compiled: dict[int, tuple[z3.ExprRef, Function]] = {}  # an id is unique while its term lives


def value_of(term: z3.ExprRef, values: Mapping[str, int]) -> int:
    """The term's value; memory at entry is 0."""
    if term.get_id() not in _compiled:
        _compiled[term.get_id()] = (term, compile_term(term))
    return _compiled[term.get_id()][1](values, lambda address: 0)


def is_open(term: z3.ExprRef, inputs: Mapping[str, int]) -> bool:
    """With these inputs, the term may still have several values."""
    given = [
        (symbol, _constant(symbol, inputs[name]))
        for name, symbol in variables(term).items()
        if name in inputs
    ]
    return bool(variables(z3.simplify(z3.substitute(term, *given))))


def _constant(symbol: z3.ExprRef, value: int) -> z3.ExprRef:
    return z3.BoolVal(bool(value)) if z3.is_bool(symbol) else z3.BitVecVal(value, symbol.sort())
