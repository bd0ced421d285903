# SPDX-License-Identifier: GPL-2.0-only
"""Questions of the machine to z3 while it runs: is this possible here, does that always hold?

The budget is a resource limit, not a time, so that answers do not depend on the machine's load. "No
answer" counts as possible and as not proved: the run may then carry a path too many, never too few.

Two short cuts save most of the work. An input that is known may show at once that a condition is
possible. And what is impossible on the path is mostly impossible for reasons that have nothing to
do with it, which z3 sees faster when the path's conditions are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import z3

from harness.x86.inputs import Inputs, meets
from harness.x86.run import Run
from harness.x86.solver import ask
from harness.x86.terms import leaves, simplify

RLIMIT = 20_000_000  # z3 resource units, about ten seconds
AT_FIRST = 1_000_000  # the same for the solver that is tried first: most questions here are easy
MODELS = 4  # inputs to remember of each path
REMEMBERED = 10_000  # questions that were answered with "impossible"
EXAMPLES = 2_000  # questions that were answered with an example
Conditions = Sequence[z3.BoolRef]


class _Unknown:
    """z3 gave up: the condition counts as possible, but there is no example."""


UNKNOWN = _Unknown()
Example: TypeAlias = "z3.ModelRef | _Unknown | None"
"""An input that satisfies conditions; None if it is proved that there is none."""


class _Impossible:
    """Conditions that z3 has proved to exclude each other, whoever asked, in any order.

    Runs of one image, or of two that are much alike, ask many questions alike. Only proofs are
    shared: they are true of the conditions, whatever these speak of.
    """

    def __init__(self) -> None:
        self._known: dict[frozenset[int], Conditions] = {}  # ids are unique while terms live

    def __contains__(self, conditions: Conditions) -> bool:
        return frozenset(_ids(conditions)) in self._known

    def add(self, conditions: Conditions) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[frozenset(_ids(conditions))] = conditions


_IMPOSSIBLE = _Impossible()


class _Examples:
    """Inputs that z3 has found for conditions in this order, whoever asked: it would find them
    again."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[Conditions, z3.ModelRef]] = {}

    def of(self, conditions: Conditions) -> z3.ModelRef | None:
        known = self._known.get(_ids(conditions))
        return known and known[1]

    def add(self, conditions: Conditions, model: z3.ModelRef) -> None:
        if len(self._known) >= EXAMPLES:
            self._known.clear()
        self._known[_ids(conditions)] = conditions, model


_EXAMPLES = _Examples()


class Prover:
    """Answers under a set of assumptions that hold on every path."""

    def __init__(self, assumptions: Conditions) -> None:
        self.assumptions = tuple(a for a in assumptions if not z3.is_true(a))
        self.calls = 0
        self.hardest = 0
        """z3's resource units that the hardest question took, up to RLIMIT of each solver."""
        self._answers: dict[tuple[int, ...], Example] = {}
        self._models: dict[tuple[int, ...], list[z3.ModelRef]] = {}
        self._inputs = Inputs()
        self._keep: list[z3.BoolRef] = []  # ids are unique only while their terms live

    def possible(self, path: Conditions, condition: z3.BoolRef, *, likely: bool = False) -> bool:
        """False only when z3 proves that the condition cannot hold on the path.

        `likely`: it will turn out to be possible, so that the second short cut is not worth while.
        """
        return self._example(path, condition, likely) is not None

    def holds(self, path: Conditions, condition: z3.BoolRef) -> bool:
        """True only when z3 proves the condition for every input of the path."""
        return not self.possible(path, z3.Not(condition))

    def in_example(self, path: Conditions, condition: z3.BoolRef) -> bool:
        """Does the condition hold for one input of the path, the same at every call?

        False, too, where no input is known.
        """
        example = self._example(path, z3.BoolVal(True))
        return isinstance(example, z3.ModelRef) and meets(example, (condition,))

    def example_of(self, path: Conditions, condition: z3.BoolRef, term: z3.BitVecRef) -> int | None:
        """A value that the term has for some input of the path with the condition.

        None, too, where no input is known.
        """
        example = self._example(path, condition)
        return _value(example, term) if isinstance(example, z3.ModelRef) else None

    def values(
        self,
        path: Conditions,
        term: z3.BitVecRef,
        among: range,
        families: Sequence[frozenset[int]] = (),
    ) -> frozenset[int] | None:
        """Values that include all those of a term on the path; None if it has one not `among` them.

        A value that belongs to one of the `families` brings in the largest such family unasked.
        """
        found: frozenset[int] = frozenset()
        # A guess to begin with: too many values do no harm, and z3 is asked for those that lack.
        choices = leaves(term, len(among))
        guess = choices | {_value(m, term) for m in self._models_of(path)}
        while True:
            for value in guess & set(among):
                found |= max((f for f in families if value in f), key=len, default=frozenset())
                found |= {value}
            others = z3.And(*(term != value for value in sorted(found)))
            example = self._example(path, others, likely=not choices)
            if example is None:
                return found
            guess = frozenset(() if isinstance(example, _Unknown) else (_value(example, term),))
            if not guess & set(among):
                return None

    def _example(self, path: Conditions, condition: z3.BoolRef, likely: bool = False) -> Example:
        """An input of the path with the condition."""
        condition = simplify(condition)
        if z3.is_false(condition):
            return None
        key = (*_ids(path), condition.get_id())
        if key not in self._answers:
            self._keep.append(condition)
            self._keep.extend(path)
            self._answers[key] = self._look_for(path, condition, likely)
        return self._answers[key]

    def _look_for(self, path: Conditions, condition: z3.BoolRef, likely: bool) -> Example:
        if known := self._models_of((*path, condition)):
            return known[-1]
        inputs = self._inputs  # all of them meet the assumptions
        example: Example = inputs.that_meets((*path, condition))
        if example is None:
            # Where an input meets it elsewhere it is not impossible for reasons of its own.
            alone = not likely and inputs.that_meets((condition,)) is None
            example = self._ask([condition]) if alone else UNKNOWN
            here = isinstance(example, z3.ModelRef) and meets(example, path)
            if example is not None and not here:
                example = self._ask([*path, condition])
        if isinstance(example, z3.ModelRef):
            self._models[_ids((*path, condition))] = [example]
        return example

    def _ask(self, conditions: Conditions) -> Example:
        asked = (*self.assumptions, *conditions)
        if asked in _IMPOSSIBLE:
            return None
        if (known := _EXAMPLES.of(asked)) is not None:
            self._inputs.add(known)
            return known
        self.calls += 1
        answer = ask(asked, RLIMIT, AT_FIRST)
        self.hardest = max(self.hardest, answer.resources)
        if answer.status == z3.unsat:
            _IMPOSSIBLE.add(asked)
            return None
        if answer.model is None:
            return UNKNOWN
        self._inputs.add(answer.model)
        _EXAMPLES.add(asked, answer.model)
        return answer.model

    def _models_of(self, conditions: Conditions) -> list[z3.ModelRef]:
        """Inputs met before that satisfy these conditions."""
        key = _ids(conditions)
        known = self._models.get(key, [])
        if not known and conditions:
            *before, last = conditions
            known = [m for m in self._models_of(before) if meets(m, (last,))][-MODELS:]
            self._models[key] = known
        return known


@lru_cache(maxsize=16)
def prover_of(run: Run) -> Prover:
    """The one for all questions about a run that has ended: what it knows it need not ask again."""
    return Prover(run.hypotheses)


def _ids(conditions: Conditions) -> tuple[int, ...]:
    return tuple(condition.get_id() for condition in conditions)


def _value(model: z3.ModelRef, term: z3.BitVecRef) -> int:
    return int(model.eval(term, model_completion=True).as_long())
