# SPDX-License-Identifier: GPL-2.0-only
"""An invariant as a list of lemmas: of two or three features of a state, which values go together.

A feature is a part of the state that has few values, or whether two parts name the same CPU. Which
CPU that is never matters, nor how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations

import z3

from harness.protocol import encoding
from models.protocol import Cpu, Pair, Shared, offer, one_of

NAMES_A_CPU = -1
"""The value, as a feature, of a word that holds an offer."""


@dataclass(frozen=True)
class Lemma:
    """The values that these features may have together; sorted. Truth values are bool."""

    features: tuple[str, ...]
    allowed: tuple[tuple[int, ...], ...]

    @cached_property
    def formula(self) -> z3.BoolRef:
        """Over variables named after the features: see `placed`."""
        return _tree(
            [
                _variable(name, isinstance(value, bool))
                for name, value in zip(self.features, self.allowed[0], strict=True)
            ],
            self.allowed,
        )


@dataclass(frozen=True)
class Invariant:
    """Of what is shared and any one CPU: all lemmas together."""

    lemmas: tuple[Lemma, ...]

    @cached_property
    def _formula(self) -> z3.BoolRef:
        return z3.And(*(lemma.formula for lemma in self.lemmas))

    def fits(self, pair: Pair) -> bool:
        """The features that it names are features of this pair's states, with values of their
        kind."""
        terms = features(pair, *encoding.variables(pair))
        return all(
            len(row) == len(lemma.features)
            and name in terms
            and z3.is_bool(terms[name]) == isinstance(value, bool)
            for lemma in self.lemmas
            for row in lemma.allowed
            for name, value in zip(lemma.features, row, strict=False)
        )

    def holds(self, pair: Pair, shared: Shared, cpu: Cpu) -> z3.BoolRef:
        """The formula, of a state."""
        return z3.And(are_ids(shared, cpu), placed(self._formula, features(pair, shared, cpu)))


def placed(formula: z3.BoolRef, terms: dict[str, z3.ExprRef]) -> z3.BoolRef:
    """A formula over features, of a state that has these."""
    pairs = [(_variable(name, z3.is_bool(term)), term) for name, term in terms.items()]
    return z3.substitute(formula, *pairs)


@cache
def _variable(name: str, truth: bool) -> z3.ExprRef:
    return (z3.Bool if truth else z3.Int)(f"feature {name}")


def are_ids(shared: Shared, cpu: Cpu) -> z3.BoolRef:
    """What names a CPU is not negative."""
    return z3.And(shared.target >= 0, cpu.id >= 0)


def features(pair: Pair, shared: Shared, cpu: Cpu) -> dict[str, z3.ExprRef]:
    """The features of a state, by name. Truth values or integers."""
    names = map(str, encoding.flat(encoding.variables(pair)))
    parts = dict(zip(names, encoding.flat((shared, cpu)), strict=True))
    offers = {"target": offer(parts.pop("target")), "cpu": offer(parts.pop("cpu_id"))}
    found: dict[str, z3.ExprRef] = {}
    for name, part in parts.items():
        found[name] = part
        if name in ("owner", "status", "named") or name.endswith("_value"):
            offers[name] = part
            found[name] = z3.If(part < 0, NAMES_A_CPU, part)
    for (one, a), (two, b) in combinations(offers.items(), 2):
        found[f"{one} = {two}"] = z3.And(a < 0, a == b)
    return found


def _tree(terms: Sequence[z3.ExprRef], rows: Iterable[tuple[int, ...]]) -> z3.BoolRef:
    """One of the rows holds of the terms; rows that go on alike are taken together."""
    if not terms:
        return z3.BoolVal(True)
    rests: dict[int, list[tuple[int, ...]]] = {}
    for value, *rest in rows:
        rests.setdefault(value, []).append(tuple(rest))
    values: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for value, tails in rests.items():
        values.setdefault(tuple(tails), []).append(value)
    return one_of(
        z3.And(one_of(_is(terms[0], one) for one in alike), _tree(terms[1:], tails))
        for tails, alike in values.items()
    )


def _is(term: z3.ExprRef, value: int) -> z3.BoolRef:
    if z3.is_bool(term):
        return term if value else z3.Not(term)
    return term == value
