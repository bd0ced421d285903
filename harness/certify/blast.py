# SPDX-License-Identifier: GPL-2.0-only
"""Terms of bit-vectors and Booleans as gates, one operation at a time.

Bits of a term are listed from the lowest; a Boolean is one bit. What an operation means says
SMT-LIB's theory FixedSizeBitVectors (https://smt-lib.org/theories-FixedSizeBitVectors.shtml).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from itertools import combinations

import z3

from harness.certify.circuit import FALSE, TRUE, Circuit

Bits = tuple[int, ...]
"""Literals of a circuit."""


class NoRule(Exception):
    """An operation that is not translated."""


class Blaster:
    """Translates terms that share one circuit. `inputs`: the bits of each symbol, by its name."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.inputs: dict[str, Bits] = {}
        self.operations: list[z3.ExprRef] = []  # what was translated, each term once
        self._bits: dict[int, Bits] = {}
        self._kept: list[z3.ExprRef] = []  # an id names a term for as long as that is kept alive

    def bits(self, term: z3.ExprRef) -> Bits:
        """The bits of a term. Raises NoRule."""
        self._kept.append(term)
        stack = [term]
        while stack:
            top = stack[-1]
            missing = [part for part in top.children() if part.get_id() not in self._bits]
            if missing and top.get_id() not in self._bits:
                stack += missing
                continue
            stack.pop()
            if top.get_id() not in self._bits:
                self._bits[top.get_id()] = self._translated(top)
        return self._bits[term.get_id()]

    def _translated(self, term: z3.ExprRef) -> Bits:
        if z3.is_bv_value(term):
            return constant(term.as_long(), term.size())
        if term.decl().kind() == z3.Z3_OP_UNINTERPRETED and term.num_args() == 0:
            return self._symbol(term)
        self.operations.append(term)
        return apply(self.circuit, term, [self._bits[part.get_id()] for part in term.children()])

    def _symbol(self, term: z3.ExprRef) -> Bits:
        name = term.decl().name()
        if name in self.inputs:  # by another term: for z3 that is another symbol
            raise NoRule(f"two symbols of different sorts are called {name}")
        self.inputs[name] = tuple(self.circuit.input() for _ in range(width(term)))
        return self.inputs[name]


def width(term: z3.ExprRef) -> int:
    """How many bits a term has. Raises NoRule if it is none of bits."""
    if z3.is_bv(term):
        return int(term.size())
    if z3.is_bool(term):
        return 1
    raise NoRule(f"{term.decl().name()} is of sort {term.sort()}")


def constant(value: int, size: int) -> Bits:
    """A number's bits."""
    return tuple(TRUE if value >> place & 1 else FALSE for place in range(size))


def apply(circuit: Circuit, term: z3.ExprRef, operands: Sequence[Bits]) -> Bits:
    """The operation of a term on operands. Raises NoRule."""
    kind = term.decl().kind()
    if kind == z3.Z3_OP_BMUL:
        return _multiply(circuit, term, operands)
    if kind in _SHAPES:
        return _SHAPES[kind](term, operands)
    if kind in _OPERATIONS:
        return _OPERATIONS[kind](circuit, *operands)
    raise NoRule(f"{term.decl().name()} has no rule")


def _extract(term: z3.ExprRef, operands: Sequence[Bits]) -> Bits:
    high, low = term.params()
    return operands[0][low : high + 1]


def _extend(term: z3.ExprRef, operands: Sequence[Bits]) -> Bits:
    (bits,) = operands
    filled = bits[-1] if term.decl().kind() == z3.Z3_OP_SIGN_EXT else FALSE
    return bits + (filled,) * (width(term) - len(bits))


def _concat(term: z3.ExprRef, operands: Sequence[Bits]) -> Bits:
    return tuple(bit for bits in reversed(operands) for bit in bits)


def _gates(gate: Callable[[Circuit, int, int], int]) -> Operation:
    """A gate for each place."""

    def operation(circuit: Circuit, *operands: Bits) -> Bits:
        return tuple(reduce(partial(gate, circuit), place) for place in zip(*operands, strict=True))

    return operation


def _not(circuit: Circuit, a: Bits) -> Bits:
    return tuple(-bit for bit in a)


def _and(circuit: Circuit, *operands: Bits) -> Bits:
    return (circuit.all_of(bit for (bit,) in operands),)


def _or(circuit: Circuit, *operands: Bits) -> Bits:
    return (-circuit.all_of(-bit for (bit,) in operands),)


def _implies(circuit: Circuit, a: Bits, b: Bits) -> Bits:
    return (circuit.either(-a[0], b[0]),)


def _choose(circuit: Circuit, condition: Bits, a: Bits, b: Bits) -> Bits:
    return tuple(circuit.choose(condition[0], x, y) for x, y in zip(a, b, strict=True))


def _equal(circuit: Circuit, a: Bits, b: Bits) -> Bits:
    return (circuit.all_of(-circuit.differ(x, y) for x, y in zip(a, b, strict=True)),)


def _distinct(circuit: Circuit, *operands: Bits) -> Bits:
    pairs = combinations(operands, 2)
    return (circuit.all_of(-_equal(circuit, a, b)[0] for a, b in pairs),)


def _sum(circuit: Circuit, a: Bits, b: Bits, carry: int = FALSE) -> Bits:
    total = []
    for x, y in zip(a, b, strict=True):
        half = circuit.differ(x, y)
        total.append(circuit.differ(half, carry))
        carry = circuit.choose(half, carry, x)
    return tuple(total)


def _add(circuit: Circuit, *operands: Bits) -> Bits:
    return reduce(partial(_sum, circuit), operands)


def _subtract(circuit: Circuit, a: Bits, b: Bits) -> Bits:
    return _sum(circuit, a, _not(circuit, b), TRUE)


def _negate(circuit: Circuit, a: Bits) -> Bits:
    return _subtract(circuit, constant(0, len(a)), a)


def _multiply(circuit: Circuit, term: z3.ExprRef, operands: Sequence[Bits]) -> Bits:
    """Constants come last. One is what the term says is one: of just these `operations` proves the
    gates; bits that are constant for another reason are as any."""
    parts = zip(term.children(), operands, strict=True)
    first, *others = sorted(((z3.is_bv_value(part), bits) for part, bits in parts), key=_is_known)
    total = first[1]
    for known, bits in others:
        total = _product(circuit, total, _digits(bits) if known else bits)
    return total


def _is_known(part: tuple[bool, Bits]) -> bool:
    return part[0]


def _product(circuit: Circuit, a: Bits, digits: Sequence[int | None]) -> Bits:
    """The sum of `a` in each place where the other one has a digit; of a constant, few digits: 0, 1
    and -1, no two neighbours other than 0. (What is subtracted is multiplied by 11...1, often.)"""
    size = len(a)
    total = constant(0, size)
    for place, digit in enumerate(digits):
        row = (FALSE,) * place + a[: size - place]
        if digit is None:
            total = _subtract(circuit, total, row)
        elif digit != FALSE:
            total = _sum(circuit, total, tuple(circuit.both(digit, bit) for bit in row))
    return total


def _digits(bits: Bits) -> list[int | None]:
    """A constant, modulo 2^size, in digits: TRUE for 1, None for -1."""
    value = sum(1 << place for place, bit in enumerate(bits) if bit == TRUE)
    digits: list[int | None] = []
    for _ in bits:
        odd = value % 2
        digits.append((TRUE if value % 4 == 1 else None) if odd else FALSE)
        value = (value - (2 - value % 4) * odd) // 2
    return digits


def _below(circuit: Circuit, a: Bits, b: Bits) -> int:
    """a < b, unsigned: the highest place at which they differ decides."""
    result = FALSE
    for x, y in zip(a, b, strict=True):
        result = circuit.choose(circuit.differ(x, y), y, result)
    return result


def _compare(signed: bool, swapped: bool, negated: bool) -> Callable[[Circuit, Bits, Bits], Bits]:
    def operation(circuit: Circuit, a: Bits, b: Bits) -> Bits:
        if signed:  # as unsigned numbers that are 2^(size - 1) larger
            a, b = ((*bits[:-1], -bits[-1]) for bits in (a, b))
        result = _below(circuit, b, a) if swapped else _below(circuit, a, b)
        return (-result if negated else result,)

    return operation


def _shift(left: bool, signed: bool = False) -> Callable[[Circuit, Bits, Bits], Bits]:
    def operation(circuit: Circuit, a: Bits, by: Bits) -> Bits:
        size, filled = len(a), a[-1] if signed else FALSE
        result = a
        for place, bit in enumerate(by):
            fill = (filled,) * min(1 << place, size)
            kept = size - len(fill)
            moved = fill + result[:kept] if left else result[size - kept :] + fill
            result = _choose(circuit, (bit,), moved, result)
        return result

    return operation


Operation = Callable[..., Bits]
_SHAPES: Mapping[int, Callable[[z3.ExprRef, Sequence[Bits]], Bits]] = {
    z3.Z3_OP_EXTRACT: _extract,
    z3.Z3_OP_CONCAT: _concat,
    z3.Z3_OP_ZERO_EXT: _extend,
    z3.Z3_OP_SIGN_EXT: _extend,
}
"""Without gates."""
_OPERATIONS: Mapping[int, Operation] = {
    z3.Z3_OP_TRUE: lambda circuit: (TRUE,),
    z3.Z3_OP_FALSE: lambda circuit: (FALSE,),
    z3.Z3_OP_AND: _and,
    z3.Z3_OP_OR: _or,
    z3.Z3_OP_NOT: _not,
    z3.Z3_OP_XOR: _gates(Circuit.differ),
    z3.Z3_OP_IMPLIES: _implies,
    z3.Z3_OP_ITE: _choose,
    z3.Z3_OP_EQ: _equal,
    z3.Z3_OP_DISTINCT: _distinct,
    z3.Z3_OP_BNOT: _not,
    z3.Z3_OP_BAND: _gates(Circuit.both),
    z3.Z3_OP_BOR: _gates(Circuit.either),
    z3.Z3_OP_BXOR: _gates(Circuit.differ),
    z3.Z3_OP_BADD: _add,
    z3.Z3_OP_BSUB: _subtract,
    z3.Z3_OP_BNEG: _negate,
    z3.Z3_OP_BSHL: _shift(left=True),
    z3.Z3_OP_BLSHR: _shift(left=False),
    z3.Z3_OP_BASHR: _shift(left=False, signed=True),
    z3.Z3_OP_ULT: _compare(signed=False, swapped=False, negated=False),
    z3.Z3_OP_UGT: _compare(signed=False, swapped=True, negated=False),
    z3.Z3_OP_ULEQ: _compare(signed=False, swapped=True, negated=True),
    z3.Z3_OP_UGEQ: _compare(signed=False, swapped=False, negated=True),
    z3.Z3_OP_SLT: _compare(signed=True, swapped=False, negated=False),
    z3.Z3_OP_SGT: _compare(signed=True, swapped=True, negated=False),
    z3.Z3_OP_SLEQ: _compare(signed=True, swapped=True, negated=True),
    z3.Z3_OP_SGEQ: _compare(signed=True, swapped=False, negated=True),
}
