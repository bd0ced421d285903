# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of a run, and the one normal form that the machine knows: *base + constant*.

All values are z3 bit-vectors. The base is not a free 64-bit value but the number V of a page,
shifted by 12. For an image that is started in real mode V is the vector of the SIPI, which has 8
bits (SDM 3A "MP Initialization Protocol").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial, wraps
from typing import NamedTuple, TypeVar, cast

import z3

from harness.x86.solver import check, fresh

RLIMIT = 10_000_000  # z3 resource units for the question whether a term is base + constant
VECTOR = "sipi_vector"
ENTRY = "entry"
"""Name of the symbol (8 bits) that says at which of several entries the CPU starts."""
INDEX = "iteration"  # index of an element of a range write, 64 bits
ENTRY_MEMORY = z3.Array("memory_at_entry", z3.BitVecSort(64), z3.BitVecSort(8))
"""Physical memory as the CPU finds it at its first instruction; nothing is assumed of it."""
OTHER_MEMORY = z3.Array("memory_at_entry_of_the_other", z3.BitVecSort(64), z3.BitVecSort(8))
"""The same for the second of two starts that a claim compares."""
OTHER = "of_the_other"
"""End of the name of each symbol of the second start."""

index_symbol = z3.BitVec(INDEX, 64)


@cache
def const(value: int, bits: int = 64) -> z3.BitVecRef:
    """`value` modulo 2**bits as a term."""
    return z3.BitVecVal(value, bits)


def number(term: z3.BitVecRef) -> int | None:
    """The value of a constant term, unsigned; None when it is not constant by syntax."""
    return term.as_long() if z3.is_bv_value(term) else None


Found = TypeVar("Found")


class _Key(NamedTuple):
    """A term to look up: the same one counts as equal, where == would make a new term."""

    term: z3.ExprRef

    def __hash__(self) -> int:
        return int(self.term.hash())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Key) or self.term.ctx is not other.term.ctx:
            return False
        return bool(self.term.eq(other.term))


def remembered(
    find: Callable[[z3.ExprRef], Found], last: int = 4096
) -> Callable[[z3.ExprRef], Found]:
    """A function of a term that remembers what it found out of the last terms, so many of them."""

    @lru_cache(maxsize=last)
    def find_out(key: _Key) -> Found:
        return find(key.term)

    @wraps(find)
    def look_up(term: z3.ExprRef) -> Found:
        return find_out(_Key(term))

    return look_up


Term = TypeVar("Term", bound=z3.ExprRef)


def simplify(term: Term) -> Term:
    """z3's rewriter, skipped for numbers and symbols of them. Of the same term it always makes the
    same one: z3 by itself does not, as it looks at who else holds a part, and at the age of parts.
    """
    plain = isinstance(term, z3.BitVecRef) and not term.num_args()
    return term if plain else cast(Term, _simplified(term))


@partial(remembered, last=1 << 17)
def _simplified(term: z3.ExprRef) -> z3.ExprRef:
    return z3.simplify(term)


@remembered
def simplify_products(term: z3.BitVecRef) -> z3.BitVecRef:
    """The same, and a multiple by a power of two becomes a concatenation."""
    return z3.simplify(term, mul2concat=True)


def low(term: z3.BitVecRef, bits: int) -> z3.BitVecRef:
    """The low `bits` of a term, zero-extended when it is narrower."""
    size = term.size()
    if size == bits:
        return term
    if size > bits:
        return simplify(z3.Extract(bits - 1, 0, term))
    return simplify(z3.ZeroExt(bits - size, term))


def subterms(*terms: z3.ExprRef) -> Iterator[z3.ExprRef]:
    """Every distinct term that occurs in these, themselves included, each once."""
    seen: set[int] = set()
    stack = list(terms)
    while stack:
        node = stack.pop()
        if node.get_id() not in seen:
            seen.add(node.get_id())
            yield node
            stack.extend(node.children())


@remembered
def variables(term: z3.ExprRef) -> Mapping[str, z3.ExprRef]:
    """The symbols that occur in a term, by name."""
    return {
        node.decl().name(): node
        for node in subterms(term)
        if z3.is_const(node) and node.decl().kind() == z3.Z3_OP_UNINTERPRETED
    }


def leaves(term: z3.BitVecRef, limit: int) -> frozenset[int]:
    """Constants among which if-then-elses in a term choose, at most `limit`.

    A help to guess values: some of these may never occur, and others may occur beside them.
    """
    found: dict[int, frozenset[int]] = {}

    def visit(node: z3.BitVecRef) -> frozenset[int]:
        key = node.get_id()
        if key not in found:
            found[key] = values(node)
        return found[key]

    def values(node: z3.BitVecRef) -> frozenset[int]:
        if (value := number(node)) is not None:
            return frozenset({value})
        kind, parts = node.decl().kind(), node.children()
        if kind == z3.Z3_OP_ITE:
            return visit(parts[1]) | visit(parts[2])
        if kind == z3.Z3_OP_EXTRACT:
            high, low = node.params()
            return frozenset(v >> low & (2 << high - low) - 1 for v in visit(parts[0]))
        if kind not in (z3.Z3_OP_CONCAT, z3.Z3_OP_BADD):
            return frozenset()
        total = frozenset({0})
        for part in parts:
            shift = part.size() if kind == z3.Z3_OP_CONCAT else 0
            choices = sorted(visit(part))[:limit]
            total = frozenset((head << shift) + v for head in total for v in choices)
            if len(total) > limit:
                return frozenset()
        return frozenset(v % (1 << node.size()) for v in total)

    return frozenset(sorted(visit(term))[:limit])


@dataclass
class Base:
    """The physical address that the image was copied to: symbolic, or one concrete page.

    `lowest` and `highest` are inclusive page-aligned physical addresses.
    """

    lowest: int
    highest: int
    term: z3.BitVecRef = field(init=False)
    _at: dict[tuple[int, int], z3.BitVecRef] = field(init=False, default_factory=dict)
    _offsets: dict[int, tuple[z3.ExprRef, int | None]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        bits = max(8, (self.highest >> 12).bit_length())
        self.vector = z3.BitVec(VECTOR, bits)
        if self.lowest == self.highest:
            self.vector = const(self.lowest >> 12, bits)
        self.term = z3.simplify(z3.Concat(const(0, 52 - bits), self.vector, const(0, 12)))

    @property
    def concrete(self) -> bool:
        """True when there is only one base."""
        return self.lowest == self.highest

    def in_range(self) -> z3.BoolRef:
        """The base is one of those that the contract allows."""
        return z3.And(
            z3.UGE(self.vector, self.lowest >> 12), z3.ULE(self.vector, self.highest >> 12)
        )

    def at(self, offset: int, bits: int = 64) -> z3.BitVecRef:
        """base + offset, modulo 2**bits, in normal form."""
        if (offset, bits) not in self._at:
            self._at[offset, bits] = low(simplify(self.term + const(offset)), bits)
        return self._at[offset, bits]

    def offset_of(self, term: z3.BitVecRef) -> int | None:
        """The constant c with term = base + c (term zero-extended to 64 bits) for every base.

        None when there is no such constant. The answer is proved, not guessed from the shape of
        the term: a candidate is read off at one base and z3 decides the equation for all.
        """
        if z3.is_bv_value(term):
            return term.as_long() - self.lowest if self.concrete else None
        if self.concrete:
            return None
        key = term.get_id()  # stable while the term is kept alive, so keep it beside the answer
        if key not in self._offsets:
            self._offsets[key] = (term, self._prove_offset(term))
        return self._offsets[key][1]

    def _prove_offset(self, term: z3.BitVecRef) -> int | None:
        if set(variables(term)) != {VECTOR}:
            return None
        wide = low(term, 64)
        sample: int = z3.simplify(
            z3.substitute(wide, (self.vector, const(self.lowest >> 12, self.vector.size())))
        ).as_long()
        offset = sample - self.lowest
        if term.eq(self.at(offset, term.size())):
            return offset
        solver = fresh((self.in_range(), wide != self.term + const(offset)), RLIMIT)
        return offset if check(solver) == z3.unsat else None

    def normal(self, term: z3.BitVecRef) -> z3.BitVecRef:
        """The same value, written as base + constant if it is that and is wide enough to be."""
        if self.concrete or term.num_args() == 0 or term.size() < 20:
            return term
        offset = self.offset_of(term)
        return term if offset is None else self.at(offset, term.size())
