# SPDX-License-Identifier: GPL-2.0-only
"""A readable witness: few inputs away from their defaults, small values, checked by evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Protocol

import z3

from harness.solve.evaluate import compile_term
from harness.solve.obligation import Obligation, Witness
from harness.x86.solver import Answer
from harness.x86.terms import ENTRY_MEMORY, remembered, simplify, subterms, variables

Check = Callable[[Sequence[z3.BoolRef]], Answer]
ZERO_MEMORY = (z3.K(z3.BitVecSort(64), z3.BitVecVal(0, 8)) == ENTRY_MEMORY,)
MAX_MOVED = 2  # inputs that may leave their defaults before all may


class Concrete(Protocol):
    """Memory at entry for concrete inputs."""

    def memory_at_entry(
        self, values: Mapping[str, int], unknown: Mapping[int, int]
    ) -> Callable[[int], int]:
        """Byte by physical address; `unknown` gives bytes of which nothing is known, else 0."""


def any_witness(
    obligation: Obligation, concrete: Concrete, check: Check, model: z3.ModelRef
) -> Witness | None:
    """Some input that satisfies the hypotheses and violates the goal, checked by evaluation.

    That of the solver's `model` if it is one: a model may say of memory at entry what no bytes say.
    Then unknown memory is all zero.
    """
    violated = _violation(obligation)
    symbols = _symbols(violated)
    witness = _checked(obligation, symbols, {}, model, concrete)
    if witness is None and (other := check((*violated, *ZERO_MEMORY)).model) is not None:
        witness = _checked(obligation, symbols, {}, other, concrete)
    return witness


def nearest_witness(
    obligations: Sequence[Obligation],
    defaults: Mapping[str, int],
    preferred: Sequence[z3.BoolRef],
    concrete: Concrete,
    check: Check,
) -> tuple[Obligation, Witness] | None:
    """Of all inputs that violate one of the obligations, the nearest to the defaults; or None.

    Few inputs leave their defaults, the first in `defaults` first, and their values are as small as
    can be.
    Tried in this order: unknown memory all zero and the preferred conditions hold; unknown memory
    all zero; anything.
    """
    for wanted in ((*ZERO_MEMORY, *preferred), ZERO_MEMORY, ()):
        attempts = [(obligation, (*_violation(obligation), *wanted)) for obligation in obligations]
        found = []
        for obligation, pinned in _few_moved(attempts, defaults, check):
            symbols = _symbols(_violation(obligation))
            small = _small(pinned, symbols, defaults, obligation, check)
            model = check(small).model
            if model is None:
                continue
            witness = _checked(obligation, symbols, defaults, model, concrete)
            if witness is not None:
                found.append((obligation, witness))
        if found:
            return min(found, key=lambda pair: sum(pair[1].values.values()))
    return None


def _violation(obligation: Obligation) -> tuple[z3.BoolRef, ...]:
    return (*obligation.hypotheses, z3.Not(obligation.goal))


def _symbols(conditions: Sequence[z3.BoolRef]) -> dict[str, z3.ExprRef]:
    """All symbols but the memory at entry, by name."""
    found: dict[str, z3.ExprRef] = {}
    for condition in conditions:
        found |= {
            name: term for name, term in variables(condition).items() if not z3.is_array(term)
        }
    return dict(sorted(found.items()))


def _equals(symbol: z3.ExprRef, value: int) -> z3.BoolRef:
    return symbol == (bool(value) if z3.is_bool(symbol) else z3.BitVecVal(value, symbol.size()))


def _few_moved(
    attempts: Sequence[tuple[Obligation, tuple[z3.BoolRef, ...]]],
    defaults: Mapping[str, int],
    check: Check,
) -> list[tuple[Obligation, tuple[z3.BoolRef, ...]]]:
    """Pin as many symbols to their defaults as possible: all but none, one, two; or one by one.

    What the claim chose itself (an offset) stays free here. All attempts that go with the same few
    moved ones are kept.
    """
    pins = []
    for obligation, conditions in attempts:
        symbols = _symbols(conditions)
        pins.append(
            {
                name: _equals(symbol, defaults.get(name, 0))
                for name, symbol in symbols.items()
                if name not in obligation.chosen
            }
        )
    movable = [name for name in defaults if any(name in at_default for at_default in pins)]
    pinned = list(zip(attempts, pins, strict=True))
    # All others keep their defaults while a few move: z3 need not find out each time.
    steady = [
        ((obligation, _given(conditions, _but(at_default, movable))), at_default)
        for (obligation, conditions), at_default in pinned
    ]
    # Where even all of these together do not help, none of them does.
    hopeful = [
        (attempt, at_default)
        for attempt, at_default in steady
        if check(attempt[1]).status == z3.sat
    ]
    for count in range(MAX_MOVED + 1):
        # So many of them, whichever, are one question.
        enough = [
            (attempt, at_default)
            for attempt, at_default in hopeful
            if check((*attempt[1], _away(at_default, movable, count))).status == z3.sat
        ]
        for moved in combinations(movable, count) if enough else ():
            kept = []
            for (obligation, conditions), at_default in enough:
                held = {name: at_default[name] for name in movable if name in at_default}
                attempt = (*conditions, *_but(held, moved))
                if set(moved) <= at_default.keys() and check(attempt).status == z3.sat:
                    kept.append((obligation, attempt))
            if kept:
                return kept
    for (obligation, conditions), at_default in pinned:
        if check(conditions).status == z3.sat:
            left = list(at_default.values())
            while left:
                longest = _longest(conditions, left, check)
                conditions = (*conditions, *left[:longest])
                left = left[longest + 1 :]
            return [(obligation, conditions)]
    return []


def _given(conditions: Sequence[z3.BoolRef], pins: Sequence[z3.BoolRef]) -> tuple[z3.BoolRef, ...]:
    """The conditions with pins, each `symbol == value`, put in: smaller ones, and the pins."""
    if not pins:
        return tuple(conditions)
    values = [(pin.arg(0), pin.arg(1)) for pin in pins]
    return (*(simplify(z3.substitute(one, *values)) for one in conditions), *pins)


def _but(pins: Mapping[str, z3.BoolRef], moved: Sequence[str]) -> list[z3.BoolRef]:
    return [pin for name, pin in pins.items() if name not in moved]


def _away(pins: Mapping[str, z3.BoolRef], movable: Sequence[str], most: int) -> z3.BoolRef:
    """At most so many of the movable ones are not at their defaults."""
    one, none = z3.BitVecVal(1, 16), z3.BitVecVal(0, 16)
    away = [z3.If(pins[name], none, one) for name in movable if name in pins]
    return z3.ULE(sum(away, none), most)


def _longest(conditions: tuple[z3.BoolRef, ...], pins: Sequence[z3.BoolRef], check: Check) -> int:
    """How many of the pins, from the first on, hold together under satisfiable conditions."""
    low, high = 0, len(pins) + 1  # as many hold; so many do not
    attempt = high - 1
    while high - low > 1:
        model = check((*conditions, *pins[:attempt])).model
        if model is None:
            high = attempt
        else:
            low = attempt
            while low < high - 1 and z3.is_true(model.eval(pins[low], model_completion=True)):
                low += 1
        attempt = (low + high) // 2
    return low


def _small(
    conditions: tuple[z3.BoolRef, ...],
    symbols: Mapping[str, z3.ExprRef],
    defaults: Mapping[str, int],
    obligation: Obligation,
    check: Check,
) -> tuple[z3.BoolRef, ...]:
    """Give each symbol in turn its wanted value or else the smallest possible one."""
    wanted = {**{name: 0 for name in symbols}, **defaults, **obligation.chosen}
    left = [(symbol, _equals(symbol, wanted[name])) for name, symbol in symbols.items()]
    while left:
        held = _longest(conditions, [pin for _, pin in left], check)
        conditions = _given(conditions, [pin for _, pin in left[:held]])
        if held < len(left):
            symbol, pin = left[held]
            if z3.is_bool(symbol):
                conditions = _given(conditions, [symbol == z3.Not(pin.arg(1))])
            else:
                value = _least(conditions, symbol, check)
                conditions = _given(conditions, [symbol == value])
        left = left[held + 1 :]
    return conditions


def _least(conditions: tuple[z3.BoolRef, ...], symbol: z3.BitVecRef, check: Check) -> int:
    """The smallest value of a symbol under satisfiable conditions, by bisection at round numbers:
    of its bits, then of its value.
    """

    def below(most: int) -> int | None:
        model = check((*conditions, z3.ULE(symbol, most))).model
        if model is None:
            return None
        value: int = model.eval(symbol, model_completion=True).as_long()
        return value

    least: int = (1 << symbol.size()) - 1
    few, many = 0, symbol.size()  # bits: too few below, enough
    while few < many:
        middle = (few + many) // 2
        found = below((1 << middle) - 1)
        if found is None:
            few = middle + 1
        else:
            least, many = found, found.bit_length()
    low = 1 << few - 1 if few else 0
    while low < least:
        middle = _roundest(low, least - 1)
        found = below(middle)
        if found is None:
            low = middle + 1
            continue
        least = found
        # Where one is found at a round number, it is often the smallest.
        if least == middle > low:
            found = below(middle - 1)
            if found is None:
                break
            least = found
    return least


def _roundest(low: int, high: int) -> int:
    """Of the numbers from `low` to `high` that with the most zero bits at its end."""
    for zeros in range(high.bit_length(), 0, -1):
        number = -(-low >> zeros) << zeros
        if number <= high:
            return number
    return low


def _checked(
    obligation: Obligation,
    symbols: Mapping[str, z3.ExprRef],
    defaults: Mapping[str, int],
    model: z3.ModelRef,
    concrete: Concrete,
) -> Witness | None:
    """The witness, if plain evaluation agrees that hypotheses hold and the goal does not."""
    values = {**defaults, **{name: _value(model, symbol) for name, symbol in symbols.items()}}
    unknown = _bytes_read(model, (*obligation.hypotheses, obligation.goal))
    memory = concrete.memory_at_entry(values, unknown)
    if not all(compile_term(h)(values, memory) for h in obligation.hypotheses):
        return None
    failed = tuple(
        sentence for sentence, goal in obligation.goals.items()
        if not compile_term(goal)(values, memory)
    )  # fmt: skip
    return Witness(values, unknown, failed) if failed else None


def _value(model: z3.ModelRef, symbol: z3.ExprRef) -> int:
    value = model.eval(symbol, model_completion=True)
    return int(z3.is_true(value)) if z3.is_bool(symbol) else value.as_long()


def _bytes_read(model: z3.ModelRef, terms: Sequence[z3.ExprRef]) -> dict[int, int]:
    """Bytes of unknown memory that the terms read, where the model makes them other than 0."""
    entries: dict[int, int] = {}
    for term in terms:
        for select in _selects(term):
            address = model.eval(select.arg(1), model_completion=True).as_long()
            entries[address] = model.eval(select, model_completion=True).as_long()
    return {address: byte for address, byte in entries.items() if byte}


@remembered
def _selects(term: z3.ExprRef) -> list[z3.ExprRef]:
    """Where a term reads memory at entry."""
    return [t for t in subterms(term) if z3.is_select(t) and t.arg(0).eq(ENTRY_MEMORY)]
