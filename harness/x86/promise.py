# SPDX-License-Identifier: GPL-2.0-only
"""Page tables that the host has made: nothing is known of them but what it promises.

The promise speaks of every linear address. An instance of it, for one address, is a condition on
memory at entry; whoever asks about that address may take it for granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import z3

from harness.x86.memory import Memory
from harness.x86.terms import simplify
from models.paging import ANY_ACCESS, Paging, walk

Range = tuple[z3.BitVecRef, z3.BitVecRef]
"""First address and number of bytes, 64 bits each; it does not wrap."""
ENTRY = 8  # bytes of a paging-structure entry
_ANY = z3.BitVec("promised_address", 64)


@dataclass(frozen=True)
class HostTables:
    """Tables that are in force with this CR3, CR4.LA57 and EFER.NXE. `memory`: as it is at entry.

    They map what lies in one of the ranges `covers` to itself, for every access, also under CR0.WP.
    Of the entries that the walk of any address uses none lies in one of the ranges `apart`.
    """

    sentence: str
    cr3: z3.BitVecRef
    five_level: z3.BoolRef
    no_execute: z3.BoolRef
    gib_pages: z3.BoolRef
    maxphyaddr: z3.BitVecRef
    memory: Memory
    covers: tuple[Range, ...]
    apart: tuple[Range, ...]

    def read_at_entry(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The 8 bytes that memory holds at entry at a physical address."""
        return self.memory.read(self.memory.base.normal(simplify(address)), ENTRY)

    def covered(self, linear: z3.BitVecRef) -> z3.BoolRef:
        """The address is mapped to itself by promise."""
        return z3.Or(*(lies_in(linear, 1, part) for part in self.covers))

    def spared_by(self, first: z3.BitVecRef, size: int) -> z3.BoolRef:
        """A write of `size` bytes from `first` on changes none of the entries."""
        return z3.Or(*(lies_in(first, size, part) for part in self.apart))

    def paging(self, levels: int, write_protect: z3.BoolRef) -> Paging:
        """What walks of these tables depend on."""
        return Paging(
            cr3=self.cr3,
            levels=levels,
            write_protect=write_protect,
            no_execute=self.no_execute,
            gib_pages=self.gib_pages,
            maxphyaddr=self.maxphyaddr,
        )

    def instance(self, linear: z3.BitVecRef) -> z3.BoolRef:
        """What the promise says of one linear address (64 bits)."""
        kinds = ((4, z3.Not(self.five_level)), (5, self.five_level))
        return z3.And(*(z3.Implies(when, self.with_(levels, linear)) for levels, when in kinds))

    def with_(self, levels: int, linear: z3.BitVecRef) -> z3.BoolRef:
        """The same, where the tables are known to have so many levels."""
        if levels not in self._of_any:
            self._of_any[levels] = self._with(levels, _ANY)
        return z3.substitute(self._of_any[levels], (_ANY, linear))

    @cached_property
    def _of_any(self) -> dict[int, z3.BoolRef]:
        """What the promise says of `_ANY`, by levels."""
        return {}

    def _with(self, levels: int, linear: z3.BitVecRef) -> z3.BoolRef:
        paging = self.paging(levels, z3.BoolVal(True))
        translation = walk(linear, ANY_ACCESS, paging, self.read_at_entry)
        itself = z3.And(z3.Not(translation.fault), translation.physical == linear)
        elsewhere = [
            z3.Implies(entry.used, misses(entry.address, ENTRY, part))
            for entry in translation.entries
            for part in self.apart
        ]
        return z3.And(z3.Implies(self.covered(linear), itself), *elsewhere)


def lies_in(first: z3.BitVecRef, size: int, part: Range) -> z3.BoolRef:
    """All of the `size` bytes from `first` on lie in the range."""
    start, length = part
    return z3.And(z3.UGE(length, size), z3.ULE(first - start, length - size))


def misses(first: z3.BitVecRef, size: int | z3.BitVecRef, part: Range) -> z3.BoolRef:
    """None of the `size` bytes from `first` on, one or more, lies in the range."""
    start, length = part
    apart = z3.And(z3.UGE(first - start, length), z3.UGE(start - first, size))
    return z3.Or(length == 0, apart)
