# SPDX-License-Identifier: GPL-2.0-only
"""Plain evaluation against z3's own rewriter: every operator, several widths, random values."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import z3

from harness.solve.evaluate import compile_term, evaluate
from harness.x86.terms import ENTRY_MEMORY, OTHER_MEMORY

WIDTHS = (1, 3, 8, 16, 33, 64)
Term = Any  # z3 has no types
VECTOR_OPERATORS: dict[str, Callable[[Term, Term], Term]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "negate": lambda a, b: -a,
    "not": lambda a, b: ~a,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": lambda a, b: a << b,
    "lshr": z3.LShR,
    "ashr": lambda a, b: a >> b,
    "concat": z3.Concat,
    "concat 3": lambda a, b: z3.Concat(a, b, a),
    "zero extend": lambda a, b: z3.ZeroExt(5, a),
    "sign extend": lambda a, b: z3.SignExt(7, a),
    "extract low": lambda a, b: z3.Extract(a.size() // 2, 0, a),
    "extract high": lambda a, b: z3.Extract(a.size() - 1, a.size() // 2, a),
    "if": lambda a, b: z3.If(z3.ULT(a, b), a, b),
}
PREDICATES: dict[str, Callable[[Term, Term], Term]] = {
    "=": lambda a, b: a == b,
    "distinct": lambda a, b: z3.Distinct(a, b, a ^ b),
    "ule": z3.ULE,
    "ult": z3.ULT,
    "uge": z3.UGE,
    "ugt": z3.UGT,
    "sle": lambda a, b: a <= b,
    "slt": lambda a, b: a < b,
    "sge": lambda a, b: a >= b,
    "sgt": lambda a, b: a > b,
}
CONNECTIVES: dict[str, Callable[[Term, Term], Term]] = {
    "and": z3.And,
    "or": z3.Or,
    "xor": z3.Xor,
    "implies": z3.Implies,
    "not": lambda a, b: z3.Not(a),
    "iff": lambda a, b: a == b,
    "if": lambda a, b: z3.If(a, b, z3.Not(b)),
}


def no_memory(address: int) -> int:
    raise AssertionError("no memory is read")


def by_z3(term: Term, values: Mapping[str, int], symbols: list[Term]) -> int:
    def constant(symbol: Term) -> Term:
        value = values[symbol.decl().name()]
        if z3.is_bool(symbol):
            return z3.BoolVal(bool(value))
        return z3.BitVecVal(value, symbol.size())

    result = z3.simplify(z3.substitute(term, *((s, constant(s)) for s in symbols)))
    return int(z3.is_true(result)) if z3.is_bool(result) else result.as_long()


def interesting(rng: random.Random, width: int) -> int:
    """Borders, shift distances around the width, or anything."""
    top = (1 << width) - 1
    near = (0, 1, top, top >> 1, (top >> 1) + 1, width - 1, width, width + 1)
    return rng.choice((*near, rng.randint(0, top), rng.randint(0, top))) & top


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [*VECTOR_OPERATORS, *PREDICATES])
def test_an_operator_means_what_z3_means_by_it(name: str, width: int) -> None:
    a, b = z3.BitVecs("a b", width)
    term = {**VECTOR_OPERATORS, **PREDICATES}[name](a, b)
    function = compile_term(term)
    rng = random.Random(f"{name} {width}")
    for _ in range(40):
        values = {"a": interesting(rng, width), "b": interesting(rng, width)}
        assert function(values, no_memory) == by_z3(term, values, [a, b]), values


@pytest.mark.parametrize("name", CONNECTIVES)
def test_a_connective_means_what_z3_means_by_it(name: str) -> None:
    a, b = z3.Bools("a b")
    term = CONNECTIVES[name](a, b)
    for number in range(4):
        values = {"a": number & 1, "b": number >> 1}
        assert evaluate(term, values, no_memory) == by_z3(term, values, [a, b]), values


@pytest.mark.parametrize(("term", "value"), [(z3.And(), 1), (z3.Or(), 0), (z3.Not(z3.Or()), 1)])
def test_a_connective_of_nothing_has_a_value(term: Term, value: int) -> None:
    assert evaluate(term, {}, lambda address: 0) == value


@pytest.mark.parametrize("seed", range(40))
def test_deep_random_terms_agree(seed: int) -> None:
    rng = random.Random(seed)
    symbols: list[Term] = [*z3.BitVecs("a b c", 16), *z3.Bools("p q")]
    vectors, truths = symbols[:3], symbols[3:]
    for _ in range(40):
        one, other = rng.choice(vectors), rng.choice(vectors)
        kind = rng.randrange(4)
        if kind == 0:
            truths.append(rng.choice(list(PREDICATES.values()))(one, other))
        elif kind == 1:
            pair = rng.choice(truths), rng.choice(truths)
            truths.append(rng.choice(list(CONNECTIVES.values()))(*pair))
        elif kind == 2:
            vectors.append(z3.If(rng.choice(truths), one, other))
        else:
            made = rng.choice(list(VECTOR_OPERATORS.values()))(one, other)
            size = made.size()
            vectors.append(z3.Extract(15, 0, made) if size > 16 else z3.ZeroExt(16 - size, made))
    for term in (vectors[-1], truths[-1]):
        for _ in range(5):
            values = {s.decl().name(): interesting(rng, 16) for s in symbols[:3]}
            values |= {"p": rng.randrange(2), "q": rng.randrange(2)}
            assert evaluate(term, values, no_memory) == by_z3(term, values, symbols)


@pytest.mark.parametrize("distance", [63, 64, 65, 1 << 40, (1 << 64) - 1])
def test_a_shift_by_the_width_or_more_leaves_nothing_of_the_value(distance: int) -> None:
    a, b = z3.BitVecs("a b", 64)
    top = 1 << 63
    gone = distance >= 64
    cases = ((a << b, top if distance == 0 else 0), (z3.LShR(a, b), 0 if gone else 1))
    for term, wanted in (*cases, (a >> b, (1 << 64) - 1)):
        assert evaluate(term, {"a": top, "b": distance}, no_memory) == wanted


def test_bytes_of_memory_are_asked_for_by_address() -> None:
    a = z3.BitVec("a", 64)
    term = z3.Concat(z3.Select(ENTRY_MEMORY, a + 1), z3.Select(ENTRY_MEMORY, a))
    assert (
        evaluate(term, {"a": (1 << 64) - 1}, {(1 << 64) - 1: 0x34, 0: 0x12}.__getitem__) == 0x1234
    )


def test_two_starts_that_are_compared_find_the_same_memory() -> None:
    """So what differs between them is never the memory that they find."""
    address = z3.BitVecVal(7, 64)
    same = z3.Select(ENTRY_MEMORY, address) == z3.Select(OTHER_MEMORY, address)
    assert evaluate(same, {}, {7: 0x12}.__getitem__) == 1
    assert evaluate(z3.Select(OTHER_MEMORY, address), {}, {7: 0x12}.__getitem__) == 0x12


def test_a_symbol_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        evaluate(z3.BitVec("a", 8) + 1, {}, no_memory)


A, B = z3.BitVecs("a b", 8)
STORED = z3.Store(ENTRY_MEMORY, z3.BitVecVal(1, 64), z3.BitVecVal(2, 8))


@pytest.mark.parametrize(
    "term",
    [
        z3.UDiv(A, B),
        z3.URem(A, B),
        A / B,
        z3.RotateLeft(A, 3),
        z3.Select(STORED, z3.ZeroExt(56, A)),
    ],
    ids=["udiv", "urem", "sdiv", "rotate", "other array"],
)
def test_a_term_without_a_rule_is_refused_and_not_guessed(term: Term) -> None:
    with pytest.raises(ValueError, match="no rule"):
        evaluate(term, {"a": 1, "b": 2}, lambda address: 0)
