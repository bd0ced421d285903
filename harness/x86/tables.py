# SPDX-License-Identifier: GPL-2.0-only
"""The page tables that a path leaves behind, as short terms.

A walk reads an entry at each level at an address that depends on the linear address. Which pages
those addresses can lie in is found out once, for all linear addresses; each read then looks only
at the writes to these pages.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache

import z3

from harness.x86.behind import EntriesBehind, MayBeDamaged, NotTheHosts
from harness.x86.memory import PAGE, Memory, Write
from harness.x86.prover import Prover, prover_of
from harness.x86.run import PathEnd, Run
from harness.x86.terms import const, simplify
from models.modes import CR0_WP, CR4_LA57, EFER_NXE
from models.paging import Access, Paging, Translation, walk

LINEAR_MAX = 1 << 47
"""First linear address that 4-level paging cannot map to itself (SDM vol. 1, 3.3.7.1)."""
linear_address = z3.BitVec("linear_address", 64)
"""The address that `AddressMap.walk` translates."""


class AddressMap:
    """Translations in force at the end of a path, for every linear address (64 bits).

    `write_protect` replaces CR0.WP: a kernel may set it while it still runs on these tables. Where
    tables of the host's are in force, the walk is right for what their promise allows.
    """

    def __init__(self, run: Run, end: PathEnd, write_protect: z3.BoolRef | None = None) -> None:
        if write_protect is None:
            write_protect = simplify(end.state.control.cr0 & CR0_WP != 0)
        self._entries = _entries_of(run, end)
        self._paging = replace(self._entries.paging, write_protect=write_protect)
        self._walks: dict[Access, Translation] = {}

    def walk(self, access: Access) -> Translation:
        """The walk for the symbol `linear_address`."""
        if access not in self._walks:
            self._walks[access] = self._walk_behind(access)
        return self._walks[access]

    def _walk_behind(self, access: Access) -> Translation:
        """Where the host's tables are in force, their entries are read as they were at entry.

        The walk is then of addresses below 2^47; others count as a fault.
        """
        entries = self._entries
        if entries.behind is not None:
            with suppress(NotTheHosts, MayBeDamaged):
                found = walk(linear_address, access, self._paging, entries.behind.again())
                beyond = z3.UGE(linear_address, LINEAR_MAX)
                return replace(found, fault=z3.Or(beyond, found.fault))
        return walk(linear_address, access, self._paging, entries.reader)

    def promise(self, linear: z3.BitVecRef) -> z3.BoolRef:
        """What the host promises as to this address of those of its tables that are in force.

        It is made of the same terms as the walk, which z3 then need not find out.
        """
        return z3.substitute(self._entries.promise, (linear_address, linear))

    def within(self, tables: range) -> z3.BoolRef:
        """Every entry that a walk for `linear_address` uses lies in these image offsets."""
        base = self._entries.reader.memory.base.term
        return z3.And(
            *(
                z3.Implies(entry.used, z3.ULT(entry.address - base - tables.start, len(tables)))
                for entry in self.walk(Access.READ).entries
            )
        )

    def nothing_else(self) -> dict[str, z3.BoolRef]:
        """What is mapped at `linear_address` is mapped to itself; no reserved bit is met."""
        translation = self.walk(Access.READ)
        itself = translation.physical == linear_address
        return {
            "what is mapped is mapped to itself": z3.Or(translation.fault, itself),
            "no walk meets a reserved bit": z3.Not(translation.reserved),
        }

    def identity(self, linear: z3.BitVecRef, access: Access) -> z3.BoolRef:
        """The access does not fault and reaches the physical address `linear`."""
        translation = self.walk(access)
        itself = z3.And(z3.Not(translation.fault), translation.physical == linear_address)
        return z3.substitute(itself, (linear_address, linear))


class _Entries:
    """The entries that walks at the end of a path read. `paging`: what they depend on, under
    CR0.WP, which changes rights only."""

    def __init__(self, run: Run, end: PathEnd) -> None:
        control = end.state.control
        self.paging = Paging(
            cr3=control.cr3,
            levels=5 if _has_five_levels(run, end) else 4,
            write_protect=z3.BoolVal(True),
            no_execute=simplify(control.efer & EFER_NXE != 0),
            gib_pages=run.features.gib_pages,
            maxphyaddr=run.inputs["maxphyaddr"],
        )
        self._end, self._prover = end, prover_of(run)
        self.reader = EntryReader(end.memory, self._prover, end.path)

    @cached_property
    def behind(self) -> EntriesBehind | None:
        """Reads the host's tables, if they are in force."""
        end, tables = self._end, self._end.host_tables
        if tables is None:
            return None
        given = z3.And(self.promise, z3.ULT(linear_address, LINEAR_MAX))
        return EntriesBehind(tables, end.memory, self._prover, end.path, self.paging, given)

    @cached_property
    def promise(self) -> z3.BoolRef:
        """What the host promises of `linear_address`."""
        tables = self._end.host_tables
        if tables is None:
            return z3.BoolVal(True)
        for levels, when in ((4, z3.Not(tables.five_level)), (5, tables.five_level)):
            if self._prover.holds(self._end.path, when):
                return tables.with_(levels, linear_address)
        return tables.instance(linear_address)


@lru_cache(maxsize=256)
def _entries_of(run: Run, end: PathEnd) -> _Entries:
    """One object for all maps of a path: what it finds out by z3 it finds out once."""
    return _Entries(run, end)


def _has_five_levels(run: Run, end: PathEnd) -> bool:
    """CR4.LA57 at the end of a path, which is the same for all of its inputs."""
    five = simplify(end.state.control.cr4 & CR4_LA57 != 0)
    if z3.is_true(five) or z3.is_false(five):
        return bool(z3.is_true(five))
    prover = prover_of(run)
    if prover.holds(end.path, five):
        return True
    if prover.holds(end.path, z3.Not(five)):
        return False
    raise ValueError("the path does not decide how many levels its page tables have")


class EntryReader:
    """`read_entry` of a walk: one call per level, from the top down."""

    def __init__(self, memory: Memory, prover: Prover, conditions: tuple[z3.BoolRef, ...]) -> None:
        self.memory = memory
        self.prover = prover
        self.conditions = conditions
        self._read: dict[int, tuple[z3.BitVecRef, z3.BitVecRef]] = {}

    def __call__(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The entry at a physical address; anything where no walk reads it.

        Walks for other kinds of access ask for the same addresses and get the same answers.
        """
        key = address.get_id()
        if key not in self._read:
            self._read[key] = (address, self._entry(address))
        return self._read[key][1]

    def _entry(self, address: z3.BitVecRef) -> z3.BitVecRef:
        base, image = self.memory.base, self.memory.image
        if not self.prover.possible(self.conditions, z3.BoolVal(True)):
            return const(0)
        distance = simplify(address - base.term)
        pages = None
        if not self.prover.possible(self.conditions, z3.UGT(distance, len(image.data) - 8)):
            where = simplify(distance & const(-PAGE))
            records = self.memory.records
            families = [r.pages for r in records if isinstance(r, Write) and r.pages]
            among = range(0, len(image.data), PAGE)
            pages = self.prover.values(self.conditions, where, among, families)
        value = self.memory.read(base.normal(simplify(address)), 8, pages=pages)
        # Only a present entry without PS leads to the next level.
        self.conditions = (*self.conditions, simplify(value & 0x81 == 1))
        return value
