# SPDX-License-Identifier: GPL-2.0-only
"""Questions as SMT-LIB 2 text that any solver reads, and the check that it says the same.

z3 writes conjunctions of one condition, or of none, which other solvers refuse, and some terms so
that it reads them back as others. They are put plainly first. What is then read back from the text
must be the very same terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import z3

from harness.x86.terms import remembered, subterms

LOGIC = "QF_ABV"
"""Arrays and bit-vectors, no quantifiers."""


class NotTheSame(Exception):
    """The text does not say what it was made of."""


def smt2(conditions: Sequence[z3.BoolRef]) -> str:
    """A script that asks whether the conditions are satisfiable together. Raises NotTheSame."""
    terms = [term for term in map(plain, conditions) if not z3.is_true(term)]  # z3 drops some
    solver = z3.Solver()
    solver.add(*terms)
    text = f"(set-logic {LOGIC})\n{solver.to_smt2()}"
    check(text, terms)
    return text


def check(text: str, terms: Sequence[z3.BoolRef]) -> None:
    """The script asserts these terms and nothing else. Raises NotTheSame if not."""
    read = z3.parse_smt2_string(text)
    if len(read) != len(terms):
        raise NotTheSame(f"{len(read)} conditions are read back, of {len(terms)}")
    for number, (found, term) in enumerate(zip(read, terms, strict=True), start=1):
        if not found.eq(term):
            raise NotTheSame(f"condition {number} of {len(terms)} is read back as another one")


@remembered
def plain(condition: z3.BoolRef) -> z3.BoolRef:
    """The same condition without what only z3 writes, or reads back in another way."""
    while odd := [
        (term, other) for term in subterms(condition) if (other := _plainly(term)) is not None
    ]:
        condition = z3.substitute(condition, *odd)
    return condition


def _plainly(term: z3.ExprRef) -> z3.BoolRef | None:
    """What is written instead of this term itself; None if it stays."""
    if z3.is_and(term) or z3.is_or(term):
        if term.num_args() == 0:
            return z3.BoolVal(z3.is_and(term))
        return term.arg(0) if term.num_args() == 1 else None
    if z3.is_distinct(term):
        pairs = [z3.Not(a == b) for a, b in combinations(term.children(), 2)]
        return pairs[0] if len(pairs) == 1 else z3.And(*pairs)
    if z3.is_implies(term):  # in a row they are written as one
        return z3.Or(z3.Not(term.arg(0)), term.arg(1))
    return None
