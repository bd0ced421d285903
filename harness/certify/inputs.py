# SPDX-License-Identifier: GPL-2.0-only
"""Inputs on which clauses and conditions are compared; one of them meets the hypotheses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import z3

from harness.certify import formula
from harness.certify.blast import width
from harness.certify.reads import Read, Reduced, without_arrays
from harness.solve.evaluate import Memory, evaluate
from harness.x86.solver import ask
from harness.x86.terms import variables

RLIMIT = 200_000_000  # z3 resource units for an input that meets the hypotheses
SEED = 1


class NotMet(Exception):
    """No input was found that meets the hypotheses: then nothing is shown."""


@dataclass(frozen=True)
class Input:
    """A value for each symbol, by name and number of bits; bytes of memory at entry."""

    value: Callable[[str, int], int]
    memory: Memory


def that_meets(hypotheses: Sequence[z3.BoolRef]) -> Input:
    """An input that meets them all, so says evaluation. Raises NotMet."""
    reduced = without_arrays(hypotheses)
    for demands in ((), reduced.demands):
        model = ask((*reduced.conditions, *demands), RLIMIT).model
        if model is not None:
            found = _read_off(model, reduced)
            symbols = dict(_symbols(hypotheses))
            values = {name: found.value(name, width(symbol)) for name, symbol in symbols.items()}
            if all(evaluate(hypothesis, values, found.memory) for hypothesis in hypotheses):
                return found
    raise NotMet("no input was found that meets the hypotheses")


def _read_off(model: z3.ModelRef, reduced: Reduced) -> Input:
    """An input from a model: of two reads of one byte the first decides."""
    values = {name: _value(model, symbol) for name, symbol in _symbols(reduced.conditions)}
    memory: dict[int, int] = {}
    for read in reduced.reads:
        address = evaluate(read.address, values, lambda at: 0)
        memory.setdefault(address, _value(model, read.symbol))
    return Input(lambda name, bits: values.get(name, 0), lambda at: memory.get(at, 0))


def drawn(count: int) -> Iterator[Input]:
    """Inputs from a generator with a fixed seed; half of the values are small, or nearly 2^bits."""

    def draw(seed: int, what: str | int, bits: int) -> int:
        number = random.Random(f"{SEED} {seed} {what}")
        return number.choice((number.getrandbits(bits), number.randint(-9, 9))) % (1 << bits)

    for seed in range(count):
        yield Input(
            lambda name, bits, seed=seed: draw(seed, name, bits),  # type: ignore[misc]
            lambda address, seed=seed: draw(seed, address, 8),  # type: ignore[misc]
        )


def compare(
    text: str, conditions: Sequence[z3.BoolRef], reads: Sequence[Read], inputs: Iterable[Input]
) -> None:
    """On these inputs, the literals that the clauses demand are what evaluation of the conditions
    gives. Raises formula.NotTheConditions."""
    symbols = dict(_symbols([*conditions, *(read.address for read in reads)]))
    cases = []
    for one in inputs:
        values = {name: one.value(name, width(symbol)) for name, symbol in symbols.items()}
        for read in reads:
            address = evaluate(read.address, values, one.memory)
            values[read.symbol.decl().name()] = one.memory(address)
        cases.append((values, [bool(evaluate(c, values, one.memory)) for c in conditions]))
    formula.check(text, cases)


def _symbols(terms: Sequence[z3.ExprRef]) -> Iterator[tuple[str, z3.ExprRef]]:
    found: Mapping[str, z3.ExprRef] = {n: s for term in terms for n, s in variables(term).items()}
    return ((name, symbol) for name, symbol in found.items() if not z3.is_array(symbol))


def _value(model: z3.ModelRef, symbol: z3.ExprRef) -> int:
    value = model.eval(symbol, model_completion=True)
    return int(z3.is_true(value)) if z3.is_bool(value) else int(value.as_long())
