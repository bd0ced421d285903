# SPDX-License-Identifier: GPL-2.0-only
"""From one failure to a recipe that makes an obligation fail for many inputs: only a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import z3

from harness.solve.evaluate import Memory
from harness.solve.throughout import Failure, Point, Recipe, Throughout, UndecidedError, literal
from harness.x86.terms import simplify

ROUNDEST = 3  # recipes for a symbol that needs a number of its own
Landmarks = Mapping[str, Sequence[z3.ExprRef]]
"""Terms over the inputs that a symbol may have to equal for a claim to fail, the best first."""


def recipes_for(claim: Throughout, failure: Failure, landmarks: Landmarks) -> list[Recipe]:
    """Recipes that all work for the failure's own input: one that is likely to work for more.

    If this failure needs numbers of its own, others at the same input are tried first.
    """
    found = _generalised(claim, failure, landmarks)
    for index in range(failure.obligation + 1, len(claim.violated)):
        if len(found) == 1:
            break
        other = claim.failure_at(failure.point, only=index)
        if other is not None:
            found = min(found, _generalised(claim, other, landmarks), key=len)
    return found


def _generalised(claim: Throughout, failure: Failure, landmarks: Landmarks) -> list[Recipe]:
    """Recipes that all work for the failure's own input.

    Each symbol becomes the first of its landmarks, 0 and the largest values (unsigned, signed)
    with which the obligation still fails there. If none does, it needs a number of its own: round
    ones, as such and as distances from landmarks, give some recipes. UndecidedError if evaluation
    does not confirm the failure.
    """
    symbols = claim.other[failure.obligation]
    recipe = _confirmed(claim, failure)
    stubborn: list[str] = []
    for name, symbol in symbols.items():
        ones = (1 << symbol.size()) - 1 if z3.is_bv(symbol) else 1
        ends = (literal(symbol, value) for value in (0, ones, ones >> 1))
        for term in (*landmarks.get(name, ()), *ends):
            attempt = _with(recipe, name, term)
            if claim.fails(attempt, failure.point):
                recipe = attempt
                break
        else:
            stubborn.append(name)
    numbers = [
        _with(recipe, name, term)
        for name in stubborn
        for term in _numbers(claim, failure.point, recipe, name, landmarks.get(name, ()))
    ]
    return numbers or [recipe]


def _numbers(
    claim: Throughout, point: Point, recipe: Recipe, name: str, landmarks: Sequence[z3.ExprRef]
) -> list[z3.ExprRef]:
    """A symbol as a number, or as a landmark and a number: some round ones that work there."""
    symbol = claim.other[recipe.obligation][name]
    if z3.is_bool(symbol):
        return [recipe.others[name]]
    size = 1 << symbol.size()
    others = {other: claim.value(term, point) for other, term in recipe.others.items()}
    now = others[name]

    def fails(value: int) -> bool:
        values = {**others, name: value % size}
        return claim.fails_with(recipe.obligation, point, values, recipe.byte)

    starts = [(z3.BitVecVal(0, symbol.size()), 0)]
    starts += [(landmark, claim.value(landmark, point)) for landmark in landmarks]
    near = [(sign * (now - at) % size, sign, term, at) for term, at in starts for sign in (1, -1)]
    near = [near[0], *sorted(near[1:], key=lambda one: _digits(one[0]))[:ROUNDEST]]
    found: dict[tuple[int, int], z3.ExprRef] = {}
    for apart, sign, term, at in near:
        for bit in reversed(range(apart.bit_length())):
            less = apart & ~(1 << bit)
            if fails(at + sign * less):
                apart = less
        found[_digits(apart), len(found)] = simplify(term + sign * apart)
    return [found[key] for key in sorted(found)][:ROUNDEST]


def _digits(value: int) -> int:
    """How many powers of two have to be added or subtracted to make the value."""
    return (value ^ 3 * value).bit_count()


def _confirmed(claim: Throughout, failure: Failure) -> Recipe:
    """The failure as a recipe, with the simplest memory; evaluation agrees that it fails."""
    symbols = claim.other[failure.obligation]
    others = {name: literal(symbol, failure.others[name]) for name, symbol in symbols.items()}
    for memory in (_memory({}, 0), _memory({}, 0xFF), _memory(failure.entry_bytes, 0)):
        recipe = Recipe(failure.obligation, others, *memory)
        if claim.fails(recipe, failure.point):
            return recipe
    raise UndecidedError("z3 gives a counterexample, but evaluating it does not confirm it")


def _with(recipe: Recipe, name: str, term: z3.ExprRef) -> Recipe:
    others = {**recipe.others, name: term}
    return Recipe(recipe.obligation, others, recipe.memory, recipe.byte)


def _memory(entry_bytes: Mapping[int, int], rest: int) -> tuple[z3.ArrayRef, Memory]:
    array = z3.K(z3.BitVecSort(64), z3.BitVecVal(rest, 8))
    for address, byte in sorted(entry_bytes.items()):
        array = z3.Store(array, address, z3.BitVecVal(byte, 8))
    return array, lambda address: entry_bytes.get(address, rest)
