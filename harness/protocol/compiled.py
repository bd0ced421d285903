# SPDX-License-Identifier: GPL-2.0-only
"""z3 terms over integers and truth values as Python functions, to be run on numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import z3

from harness.x86.terms import simplify

_BETWEEN = {
    z3.Z3_OP_AND: " and ",
    z3.Z3_OP_OR: " or ",
    z3.Z3_OP_EQ: " == ",
    z3.Z3_OP_DISTINCT: " != ",
    z3.Z3_OP_LE: " <= ",
    z3.Z3_OP_LT: " < ",
    z3.Z3_OP_GE: " >= ",
    z3.Z3_OP_GT: " > ",
    z3.Z3_OP_ADD: " + ",
    z3.Z3_OP_SUB: " - ",
}


def function(terms: Sequence[z3.ExprRef], parameters: Sequence[z3.ExprRef]) -> Callable[..., Any]:
    """A function from the parameters' values, one argument each, to all the terms' values."""
    names = {parameter.get_id(): f"v{number}" for number, parameter in enumerate(parameters)}
    values = "".join(f"{_source(simplify(term), names)}, " for term in terms)
    scope: dict[str, Any] = {}
    exec(f"def compiled({', '.join(names.values())}): return ({values})", scope)
    result: Callable[..., Any] = scope["compiled"]
    return result


def _source(term: z3.ExprRef, names: dict[int, str]) -> str:
    if term.get_id() in names:
        return names[term.get_id()]
    if z3.is_int_value(term):
        return f"({term.as_long()})"
    if z3.is_true(term) or z3.is_false(term):
        return str(z3.is_true(term))
    kind = term.decl().kind()
    parts = [_source(child, names) for child in term.children()]
    if kind in _BETWEEN:
        return f"({_BETWEEN[kind].join(parts)})"
    if kind == z3.Z3_OP_NOT:
        return f"(not {parts[0]})"
    if kind == z3.Z3_OP_ITE:
        return f"({parts[1]} if {parts[0]} else {parts[2]})"
    if kind == z3.Z3_OP_MUL:
        return f"({' * '.join(parts)})"
    if kind == z3.Z3_OP_UMINUS:
        return f"(-{parts[0]})"
    raise ValueError(f"no Python for {term.decl().name()} in {term}")
