# SPDX-License-Identifier: GPL-2.0-only
"""Does a claim hold throughout a box of inputs, or fail throughout it? Both are proofs by z3.

An input is *safe* if every obligation holds for it whatever the *other* symbols are: offsets,
flags, memory found at entry. That a box is safe is one question. That no input in it is needs for
each input some values of the others: these come as terms over the inputs, so that this is one
question, too. Which terms to try is a guess, and a wrong guess proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import z3

from harness.solve.evaluate import Function, Memory, compile_term
from harness.solve.obligation import Obligation
from harness.solve.region import Box
from harness.x86.solver import ask
from harness.x86.terms import ENTRY_MEMORY, simplify, subterms, variables

QUICK = 50_000  # z3 resource units for one question to begin with
RLIMIT = 30_000_000  # z3 resource units for one question; the hardest in use needs half of it
MOST_QUESTIONS = 800  # of one object
BUDGET = 150_000_000  # for all questions of one object
Point = tuple[int, ...]
"""A value for each input, in the order of `Throughout.inputs`; Booleans are 0 or 1."""


class UndecidedError(Exception):
    """z3 gave up within its budget."""


@dataclass(frozen=True)
class Failure:
    """An input at which an obligation fails, with all that makes it fail.

    `others` are values of the symbols that are no inputs, `entry_bytes` bytes of memory at entry.
    """

    obligation: int
    point: Point
    others: dict[str, int]
    entry_bytes: dict[int, int]


@dataclass(frozen=True)
class Recipe:
    """How to make an obligation fail: a term over the inputs for each other symbol.

    `memory` is the memory at entry, `byte` the same as a function.
    """

    obligation: int
    others: dict[str, z3.ExprRef]
    memory: z3.ArrayRef
    byte: Memory


class Throughout:
    """A claim's obligations, seen as a question about inputs.

    `domain` restricts the inputs; nothing is said outside it. `inputs` are names of symbols; those
    that occur neither there nor in `terms` are left out. ValueError if domain or terms have others.
    """

    def __init__(
        self,
        obligations: Sequence[Obligation],
        domain: Sequence[z3.BoolRef],
        inputs: set[str],
        terms: Sequence[z3.ExprRef] = (),
    ) -> None:
        self.domain = tuple(domain)
        self.violated = [
            z3.And(*obligation.hypotheses, z3.Not(obligation.goal)) for obligation in obligations
        ]
        symbols = [_scalars(term) for term in self.violated]
        every: dict[str, z3.ExprRef] = {}
        for found in (*symbols, _scalars(*domain, *terms)):
            for name, symbol in found.items():
                if not every.setdefault(name, symbol).eq(symbol):
                    raise ValueError(f"two symbols have the name {name}")
        self.inputs = {name: term for name, term in sorted(every.items()) if name in inputs}
        self.need_inputs(*domain, *terms)
        self.other = [
            {name: term for name, term in sorted(found.items()) if name not in inputs}
            for found in symbols
        ]
        self.recipes: list[Recipe] = []
        self.spent = 0  # z3 resource units
        self.asked = 0  # questions
        self._failing: list[z3.BoolRef] = []  # condition of each recipe
        self._proved: list[list[Box]] = [[] for _ in self.violated]
        self._refuted: list[Box] = []
        self._functions: dict[int, tuple[z3.ExprRef, Function]] = {}

    # --- proofs

    def failure(self, box: Box) -> Failure | None:
        """An input of the box for which the claim fails; None: proved that it holds for all."""
        for index, violated in enumerate(self.violated):
            if any(box.within(proved) for proved in self._proved[index]):
                continue
            model = self.ask((*self.domain, box.condition(), violated))
            if model is not None:
                return self._failure(index, model)
            self._proved[index].append(box)
        return None

    def escape(self, box: Box) -> Point | None:
        """An input of the box that no recipe makes fail; None: proved that all of them fail."""
        if any(box.within(proved) for proved in self._refuted):
            return None
        model = self.ask(
            (*self.domain, box.condition(), *(z3.Not(condition) for condition in self._failing))
        )
        if model is not None:
            return self._point(model)
        self._refuted.append(box)
        return None

    def failure_at(self, point: Point, only: int | None = None) -> Failure | None:
        """How the claim, or `only` one obligation, fails for one input; None: it holds, proved."""
        pins = [
            symbol == literal(symbol, value)
            for symbol, value in zip(self.inputs.values(), point, strict=True)
        ]
        for index in range(len(self.violated)) if only is None else (only,):
            model = self.ask((*pins, self.violated[index]))
            if model is not None:
                return self._failure(index, model)
        return None

    def member(self, region: z3.BoolRef) -> Point | None:
        """An input of the domain in a region (a condition on inputs); None: it has none."""
        model = self.ask((*self.domain, region))
        return None if model is None else self._point(model)

    def add(self, recipe: Recipe) -> None:
        """Let `escape` use one more recipe. A bad one does no harm."""
        pairs = [(self.other[recipe.obligation][n], term) for n, term in recipe.others.items()]
        violated = self.violated[recipe.obligation]
        condition = simplify(z3.substitute(violated, *pairs, (ENTRY_MEMORY, recipe.memory)))
        self.need_inputs(condition)
        self.recipes.append(recipe)
        self._failing.append(condition)

    def ask(self, conditions: Sequence[z3.BoolRef]) -> z3.ModelRef | None:
        """A model of the conditions; None if they contradict. UndecidedError if z3 gives up."""
        self.asked += 1
        if self.spent > BUDGET or self.asked > MOST_QUESTIONS:
            raise UndecidedError("the budget for all questions is spent")
        answer = ask(conditions, RLIMIT, QUICK)
        self.spent += answer.resources
        if answer.status == z3.unknown:
            raise UndecidedError(answer.reason)
        return answer.model

    def need_inputs(self, *terms: z3.ExprRef) -> None:
        """ValueError unless these terms have no symbols but inputs."""
        strange = {name for term in terms for name in variables(term)} - set(self.inputs)
        if strange:
            raise ValueError(f"not among the inputs: {', '.join(sorted(strange))}")

    # --- evaluation, without the solver

    def in_domain(self, point: Point) -> bool:
        """Does the point satisfy the domain?"""
        return bool(self._domain(self.named(point), _no_memory))

    def fails(self, recipe: Recipe, point: Point, memory: Memory | None = None) -> bool:
        """Does the recipe make its obligation fail at the point?"""
        others = {name: self.value(term, point) for name, term in recipe.others.items()}
        return self.fails_with(recipe.obligation, point, others, memory or recipe.byte)

    def fails_with(
        self, obligation: int, point: Point, others: Mapping[str, int], memory: Memory
    ) -> bool:
        """Does the obligation fail at the point, with these values of the other symbols?"""
        values = {**self.named(point), **others}
        return bool(self._function(self.violated[obligation])(values, memory))

    def value(self, term: z3.ExprRef, point: Point) -> int:
        """The value of a term over inputs."""
        return self._function(term)(self.named(point), _no_memory)

    def named(self, point: Point) -> dict[str, int]:
        """The point's values by the names of the inputs."""
        return dict(zip(self.inputs, point, strict=True))

    @cached_property
    def _reads(self) -> list[list[z3.ExprRef]]:
        """The bytes of memory at entry that each obligation speaks of."""
        return [
            [node for node in subterms(term) if z3.is_select(node) and node.arg(0).eq(ENTRY_MEMORY)]
            for term in self.violated
        ]

    @cached_property
    def _domain(self) -> Function:
        return compile_term(z3.And(z3.BoolVal(True), *self.domain))

    def _function(self, term: z3.ExprRef) -> Function:
        key = term.get_id()  # unique while the term lives: kept beside
        if key not in self._functions:
            self._functions[key] = (term, compile_term(term))
        return self._functions[key][1]

    def _point(self, model: z3.ModelRef) -> Point:
        return tuple(_value(model, symbol) for symbol in self.inputs.values())

    def _failure(self, index: int, model: z3.ModelRef) -> Failure:
        others = {name: _value(model, symbol) for name, symbol in self.other[index].items()}
        reads = self._reads[index]
        entry_bytes = {_value(model, read.arg(1)): _value(model, read) for read in reads}
        return Failure(index, self._point(model), others, entry_bytes)


def literal(symbol: z3.ExprRef, value: int) -> z3.ExprRef:
    """A value of the symbol's sort."""
    return z3.BoolVal(bool(value)) if z3.is_bool(symbol) else z3.BitVecVal(value, symbol.size())


def _scalars(*terms: z3.ExprRef) -> dict[str, z3.ExprRef]:
    return {
        name: symbol
        for term in terms
        for name, symbol in variables(term).items()
        if not z3.is_array(symbol)
    }


def _value(model: z3.ModelRef, term: z3.ExprRef) -> int:
    value = model.eval(term, model_completion=True)
    return int(z3.is_true(value)) if z3.is_bool(term) else int(value.as_long())


def _no_memory(address: int) -> int:
    raise ValueError("a condition on inputs reads memory at entry")
