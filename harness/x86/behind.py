# SPDX-License-Identifier: GPL-2.0-only
"""A walk that begins in tables which the code has made, and goes on in tables of the host's."""

from __future__ import annotations

import z3

from harness.x86.memory import Memory
from harness.x86.promise import ENTRY, HostTables, misses
from harness.x86.prover import Conditions, Prover
from harness.x86.terms import const, simplify
from models.paging import LEVELS, Paging, leads_on

LARGE = 1 << 7
"""PS of a paging-structure entry (SDM 3A 4.5)."""


class NotTheHosts(Exception):
    """An entry of the walk lies neither at one known place nor among the host's."""


class MayBeDamaged(Exception):
    """A later write may have changed an entry of the code's own; `when` says for which inputs."""

    def __init__(self, when: z3.BoolRef) -> None:
        super().__init__()
        self.when = when


class EntriesBehind:
    """`read_entry` of a walk for one linear address: one call per level, from the top down.

    An entry that lies where none of the code's writes goes is read as memory was at entry, so that
    it is the very term that the promise speaks of. Any other one must lie at one place for every
    input: `slots` has these, by physical address, each with its level's index among the calls and
    its value. `given` is what is known of the address, and `paging` is what the walk goes by.
    """

    def __init__(
        self,
        tables: HostTables,
        memory: Memory,
        prover: Prover,
        path: Conditions,
        paging: Paging,
        given: z3.BoolRef,
    ) -> None:
        self._tables = tables
        self._memory = memory
        self._prover = prover
        self._path = path
        self._paging = paging
        self._levels = LEVELS[len(LEVELS) - paging.levels :]
        self._given = [given]
        self._read: list[tuple[z3.BitVecRef, z3.BitVecRef]] = []
        self._call = 0
        self.slots: dict[int, tuple[int, z3.BitVecRef]] = {}

    def __call__(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The entry at a physical address; anything where no walk uses it.

        Raises NotTheHosts, MayBeDamaged.
        """
        address = simplify(address)
        if self._call == len(self._read):
            self._read.append((address, self._next(address)))
        known, value = self._read[self._call]
        if not known.eq(address):
            raise ValueError("a walk of another address, or by other rules")
        self._call += 1
        return value

    def again(self) -> EntriesBehind:
        """This reader, for a walk of the same address by the same rules for another access."""
        self._call = 0
        return self

    def _next(self, address: z3.BitVecRef) -> z3.BitVecRef:
        value = self._entry(address, z3.And(*self._given))
        level = self._levels[len(self._given) - 1]
        maps_page = z3.And(level.large, value & LARGE != 0)
        # Only a good entry that maps no page leads to the next level.
        self._given.append(z3.And(leads_on(value, level, self._paging), z3.Not(maps_page)))
        return value

    def _entry(self, address: z3.BitVecRef, used: z3.BoolRef) -> z3.BitVecRef:
        elsewhere = z3.And(*(misses(address, ENTRY, part) for part in self._tables.apart))
        if not self._prover.possible(self._path, z3.And(used, z3.Not(elsewhere))):
            return self._tables.read_at_entry(address)
        place = self._prover.example_of(self._path, used, address)
        if place is None or self._prover.possible(self._path, z3.And(used, address != place)):
            raise NotTheHosts

        def possible(condition: z3.BoolRef) -> bool:
            return self._prover.possible(self._path, condition)

        hits = self._memory.written_after(const(place), ENTRY, possible)
        if hits:
            raise MayBeDamaged(z3.Or(*hits))
        value = self._memory.read(const(place), ENTRY, possible)
        self.slots[place] = len(self._given) - 1, value
        return value
