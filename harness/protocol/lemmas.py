# SPDX-License-Identifier: GPL-2.0-only
"""From all states reached to a short inductive invariant.

The states themselves are an invariant, but one of ten thousands of rows. So: begin with the values
that each feature has. While z3 finds a step from a state that the lemmas allow to one that a lemma
forbids, the state before it was not among those reached; find two or three features of it that were
never seen together, and add the lemma of all that was seen of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import z3

from harness.protocol import compiled, encoding, invariant
from harness.protocol.encoding import Clause
from harness.protocol.invariant import Invariant, Lemma
from harness.protocol.saturate import Reached
from harness.x86 import solver as ask
from models.protocol import Pair

RLIMIT = 20_000_000
"""For one step."""


class GaveUp(Exception):
    """z3 could not decide within its budget, or a state that was reached breaks a claim."""


def find(pair: Pair, reached: Reached, clauses: Sequence[Clause]) -> Invariant:
    """An invariant that contains `reached` and proves the clauses. Raises GaveUp."""
    seen = _Seen(pair, reached)
    lemmas = [seen.lemma((number,)) for number in range(len(seen.names))]
    questions = [_Question(pair, clause) for clause in clauses]
    settled = False
    while not settled:
        settled = True
        for question in questions:
            while (states := question.broken(lemmas)) is not None:
                settled = False
                new = [lemma for lemma in map(seen.forbidding, states) if lemma is not None]
                if not new:
                    raise GaveUp(f"{question.clause.name}: a state that was reached breaks it")
                lemmas += dict.fromkeys(new)
    return Invariant(tuple(lemmas))


class _Seen:
    """What was seen of the features, quickly asked."""

    def __init__(self, pair: Pair, reached: Reached) -> None:
        shared, cpu = encoding.variables(pair)
        terms = invariant.features(pair, shared, cpu)
        evaluate = compiled.function(list(terms.values()), encoding.flat((shared, cpu)))
        self.names = tuple(terms)
        rows = {evaluate(*s, *c) for s, cpus in reached.cpus.items() for c in cpus}
        self._columns = list(zip(*sorted(rows), strict=True))
        self._with: list[dict[int, int]] = []
        for column in self._columns:
            bits: dict[int, bytearray] = {}
            for place, value in enumerate(column):
                bits.setdefault(value, bytearray(len(rows) // 8 + 1))[place // 8] |= 1 << place % 8
            self._with.append({v: int.from_bytes(b, "little") for v, b in bits.items()})
        # Features with few values first: their lemmas are short.
        self._order = sorted(range(len(terms)), key=lambda n: (len(self._with[n]), n))

    def lemma(self, features: tuple[int, ...]) -> Lemma:
        """All that was seen of these features."""
        rows = sorted(set(zip(*(self._columns[n] for n in features), strict=True)))
        return Lemma(tuple(self.names[n] for n in features), tuple(rows))

    def forbidding(self, state: Sequence[int]) -> Lemma | None:
        """A lemma that was always true and is not of this state. None: the state was reached."""
        where = [self._with[n].get(value, 0) for n, value in enumerate(state)]
        for n in self._order:
            if not where[n]:
                return self.lemma((n,))
        for size in (2, 3):
            for features in combinations(self._order, size):
                rows = where[features[0]] & where[features[1]]
                if size == 3:
                    rows &= where[features[2]]
                if not rows:
                    return self.lemma(features)
        return self._many(where)

    def _many(self, where: Sequence[int]) -> Lemma | None:
        left = list(self._order)
        for n in reversed(self._order):
            rows = -1
            for other in left:
                if other != n:
                    rows &= where[other]
            if not rows:
                left.remove(n)
        rows = -1
        for n in left:
            rows &= where[n]
        return self.lemma(tuple(left)) if not rows else None


class _Question:
    """One clause, asked again and again while lemmas are added."""

    def __init__(self, pair: Pair, clause: Clause) -> None:
        self.clause = clause
        self._before = [invariant.features(pair, *state) for state in clause.states]
        self._after = invariant.features(pair, *clause.then) if clause.then else {}
        self._same = {
            name
            for name, term in self._after.items()
            if self._before and term.eq(self._before[0][name])
        }
        self._solver = z3.SimpleSolver()
        self._solver.set("rlimit", RLIMIT)
        self._solver.add(clause.when, *(invariant.are_ids(*state) for state in clause.states))
        self._added = 0
        self._asked = -1
        self._kept: list[z3.BoolRef] = []

    def broken(self, lemmas: Sequence[Lemma]) -> list[list[int]] | None:
        """States that the lemmas allow before the step, though one fails after it; as values of the
        features. None: there are none."""
        new = lemmas[self._added :]
        if new:
            formula = z3.And(*(lemma.formula for lemma in new))
            self._solver.add(*(invariant.placed(formula, terms) for terms in self._before))
            self._kept += [lemma.formula for lemma in new if not self._unchanged(lemma)]
            self._added = len(lemmas)
        elif self._asked == len(lemmas):
            return None
        self._solver.push()
        if self._after:
            self._solver.add(z3.Not(invariant.placed(z3.And(*self._kept), self._after)))
        answer = ask.check(self._solver)
        model = self._solver.model() if answer == z3.sat else None
        self._solver.pop()
        if answer == z3.unknown:
            raise GaveUp(f"{self.clause.name}: no answer within {RLIMIT} units")
        if model is None:
            self._asked = len(lemmas)
            return None
        return [[_number(model, term) for term in terms.values()] for terms in self._before]

    def _unchanged(self, lemma: Lemma) -> bool:
        return not self._after or all(name in self._same for name in lemma.features)


def _number(model: z3.ModelRef, term: z3.ExprRef) -> int:
    value: Any = model.eval(term, model_completion=True)
    number: int = value.as_long() if z3.is_int_value(value) else z3.is_true(value)
    return number
