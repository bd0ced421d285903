# SPDX-License-Identifier: GPL-2.0-only
"""Conditions without arrays: each read of memory at entry becomes a byte that may hold anything.

An obligation reads arrays and never stores into one (the machine has resolved its writes). So
Ackermann's reduction does: put a new symbol for each distinct read, and demand that what is read at
equal addresses is equal. Whatever meets the conditions meets the new ones, too, when each symbol
has the value that was read. So if nothing meets those, nothing meets these: for this direction, the
only one that a certificate needs, any of the demands may be left out.

`check` does not believe the reduction: it puts the reads back and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import z3

from harness.x86.terms import simplify, subterms, variables

PREFIX = "byte_read_"


class NotReduced(Exception):
    """Conditions that hold more of arrays than reads, or a reduction that says something else."""


@dataclass(frozen=True)
class Read:
    """What an array holds at an address (a term in which earlier reads may occur), by a name."""

    symbol: z3.BitVecRef
    array: z3.ArrayRef
    address: z3.BitVecRef


@dataclass(frozen=True)
class Reduced:
    """Conditions without arrays. `demands`: the same is read at the same address."""

    conditions: tuple[z3.BoolRef, ...]
    reads: tuple[Read, ...]

    @property
    def demands(self) -> list[z3.BoolRef]:
        """For each two reads of one array whose addresses may be equal."""
        return [
            z3.Implies(same, a.symbol == b.symbol)
            for a, b in combinations(self.reads, 2)
            if a.array.eq(b.array) and not z3.is_false(simplify(same := a.address == b.address))
        ]


def without_arrays(conditions: Sequence[z3.BoolRef]) -> Reduced:
    """The reduction. Raises NotReduced where something else is done with an array than to read."""
    conditions, reads = list(conditions), list[Read]()
    used = {name for condition in conditions for name in variables(condition)}
    while found := [term for term in subterms(*conditions) if _is_plain_read(term)]:
        new = []
        for term in found:
            name = f"{PREFIX}{len(reads) + 1}"
            if name in used:
                raise NotReduced(f"a symbol is called {name}")
            reads.append(Read(z3.Const(name, term.sort()), term.arg(0), term.arg(1)))
            new.append((term, reads[-1].symbol))
        conditions = [z3.substitute(condition, *new) for condition in conditions]
    for term in subterms(*conditions):
        if z3.is_array(term):
            raise NotReduced(f"the array {term.decl().name()} is not only read")
    return Reduced(tuple(conditions), tuple(reads))


def check(
    conditions: Sequence[z3.BoolRef], reduced: Reduced, demands: Sequence[z3.BoolRef] = ()
) -> None:
    """With the reads put back, the reduced conditions are the conditions, and each demand says that
    a function gives equal values for equal arguments. Raises NotReduced."""
    if len(reduced.conditions) != len(conditions):
        raise NotReduced("there is not one reduced condition for each condition")
    for number, (was, now) in enumerate(zip(conditions, reduced.conditions, strict=True), start=1):
        if not _put_back(now, reduced.reads).eq(was):
            raise NotReduced(f"condition {number} is reduced to one about something else")
    for demand in demands:
        if not _is_congruence(_put_back(demand, reduced.reads)):
            raise NotReduced(f"not every memory meets this demand: {demand}")


def _put_back(term: z3.BoolRef, reads: Sequence[Read]) -> z3.BoolRef:
    for read in reversed(reads):  # what is put back may hold earlier ones
        term = z3.substitute(term, (read.symbol, z3.Select(read.array, read.address)))
    return term


def _is_plain_read(term: z3.ExprRef) -> bool:
    """A read of an unknown array at an address in which nothing is read."""
    return (
        z3.is_select(term)
        and z3.is_const(term.arg(0))
        and not any(z3.is_select(part) for part in subterms(term.arg(1)))
    )


def _is_congruence(term: z3.BoolRef) -> bool:
    """a = b implies array[a] = array[b]."""
    if not z3.is_implies(term) or not all(z3.is_eq(part) for part in term.children()):
        return False
    same, equal = term.children()
    return all(
        z3.is_select(read) and read.arg(0).eq(equal.arg(0).arg(0)) and read.arg(1).eq(address)
        for read, address in zip(equal.children(), same.children(), strict=True)
    )
