# SPDX-License-Identifier: GPL-2.0-only
"""Linear addresses under paging: where they lead, and that they go on leading there.

The machine goes on only where an access reaches the physical address equal to the linear one.
"""

from __future__ import annotations

from bisect import bisect_left

import z3

from harness.x86.behind import EntriesBehind, MayBeDamaged, NotTheHosts
from harness.x86.memory import PAGE, Pages, Record, Write, overlap, span_of
from harness.x86.path import Path
from harness.x86.promise import HostTables, lies_in, misses
from harness.x86.run import EndKind
from harness.x86.tables import EntryReader
from harness.x86.terms import const, number, simplify, variables
from models.modes import CR0_WP, CR4_LA57, EFER_NXE
from models.paging import ANY_ACCESS, LEVELS, Paging, leads_on, walk
from models.paging import Access as Kind

HOSTS = "page tables of the host's"
"""Part of the detail of a path end: which tables a store may have changed."""
UPPER_HALF = "upper_half"
"""Part of the name of each symbol for an upper half that the manual leaves undefined."""
TABLE_ADDRESS = 0x000F_FFFF_FFFF_F000
"""Bits 51:12 of CR3 and of an entry: a table's physical address (SDM 3A 4.5)."""
ACCESSED_AND_DIRTY = 0x60
"""Bits 5 and 6 of a paging-structure entry: the CPU sets them whenever it likes (SDM 3A 4.8)."""


class Translated(Path):
    """What `machine.Machine` knows of pages and page tables."""

    def levels(self) -> int:
        """Levels of the page tables in force: 4, or 5 with CR4.LA57."""
        return 5 if self.decide(self.cpu.control.cr4 & CR4_LA57 != 0) else 4

    def paging(self) -> Paging:
        """What a walk depends on, from the control registers as they are now."""
        control, features = self.cpu.control, self.environment.features
        return Paging(
            cr3=control.cr3,
            levels=self.levels(),
            write_protect=simplify(control.cr0 & CR0_WP != 0),
            no_execute=simplify(control.efer & EFER_NXE != 0),
            gib_pages=features.gib_pages,
            maxphyaddr=features.maxphyaddr,
        )

    def translate(self, linear: z3.BitVecRef, size: int, access: Kind) -> z3.BitVecRef:
        """Make sure that the access reaches the physical address equal to the linear one.

        Gives the address back, maybe as a simpler term.
        """
        if not self.cpu.paging or self._in_image(linear, size):
            return linear
        if self.environment.host_tables:
            self._reach(linear, size, access)
            return self._settle(linear)
        pages_may_differ = size > 1 and self.possible(
            z3.UGT(linear & (PAGE - 1), const(PAGE - size))
        )
        for byte in (0, size - 1) if pages_may_differ else (0,):
            self._walk(simplify(linear + byte), access)
        return self._settle(linear)

    def _settle(self, linear: z3.BitVecRef) -> z3.BitVecRef:
        """Write 0 for undefined upper halves in the address that can only be 0 on this path."""
        prover, path = self.environment.prover, self.cpu.path
        zeros = [
            (symbol, const(0, 32))
            for name, symbol in sorted(variables(linear).items())
            if UPPER_HALF in name and prover.holds(path, symbol == 0)
        ]
        if not zeros:
            return linear
        normal, values = self.environment.base.normal, self.registers.values
        for name, value in values.items():
            values[name] = normal(simplify(z3.substitute(value, *zeros)))
        return normal(simplify(z3.substitute(linear, *zeros)))

    def _in_image(self, linear: z3.BitVecRef, size: int) -> bool:
        """The access lies in the image, and the image is known to be mapped to itself."""
        if self.environment.host_tables:
            return False
        return self.cpu.identity_slots is not None and self._pages(linear, size) is not None

    def _reach(self, linear: z3.BitVecRef, size: int, access: Kind) -> None:
        """On the host's tables: each byte of the access is one that the host maps to itself."""
        tables = self.cpu.host_tables
        if tables is None:
            what = f"{access.words} through page tables that are not as the host promises"
            self.end_if(z3.BoolVal(True), EndKind.UNPROMISED, what)
        assert tables is not None  # else no input is left
        covered = z3.Or(*(lies_in(linear, size, part) for part in tables.covers))
        what = f"{access.words} at an address that the host does not promise to map"
        self.end_if(z3.Not(covered), EndKind.UNPROMISED, what)

    def _on_host_tables(self) -> None:
        """Find out which of the host's tables are in force, alone or behind tables of the code's.

        That is so if the control registers are as the host promises; or if the tables in force lead
        every address that is covered to itself, by the host's entries and by entries at a few
        places. Inputs for which a write may have changed one of the host's entries end here.
        """
        for tables in self.environment.host_tables:
            slots = () if self._as_promised(tables) else self._leads_to(tables)
            if slots is not None:
                for record in self.cpu.memory.records:
                    self._spare(tables, record)
                self.cpu.host_tables, self.cpu.identity_slots = tables, slots
                self.cpu.proved_in = self.cpu.memory
                return

    def _as_promised(self, tables: HostTables) -> bool:
        control = self.cpu.control
        same = z3.And(
            (control.cr3 ^ tables.cr3) & TABLE_ADDRESS == 0,
            (control.cr4 & CR4_LA57 != 0) == tables.five_level,
            (control.efer & EFER_NXE != 0) == tables.no_execute,
        )
        return self.environment.prover.holds(self.cpu.path, same)

    def _leads_to(self, tables: HostTables) -> tuple[z3.BitVecRef, ...] | None:
        """The addresses of the entries in front of the host's tables; None if it is not proved that
        they lead there."""
        linear, prover = z3.BitVec("linear", 64), self.environment.prover
        promise = tables.instance(linear)
        for levels, when in ((4, z3.Not(tables.five_level)), (5, tables.five_level)):
            if prover.holds(self.cpu.path, when):
                promise = tables.with_(levels, linear)
        given = z3.And(tables.covered(linear), promise)
        paging, wrong = self.paging(), z3.BoolVal(True)
        for _ in range(len(self.cpu.memory.records) + 1):  # each turn leaves out a damaged entry
            path = self.cpu.path
            reader = EntriesBehind(tables, self.cpu.memory, prover, path, paging, given)
            try:
                translation = walk(linear, ANY_ACCESS, paging, reader)
                wrong = z3.Or(translation.fault, translation.physical != linear)
                break
            except NotTheHosts:
                return None
            except MayBeDamaged as damage:
                what = "a store that may change a table of the code's own"
                self.end_if(damage.when, EndKind.TABLE_IN_USE, what)
        of_levels = LEVELS[len(LEVELS) - paging.levels :]
        for index, value in reader.slots.values():
            level = of_levels[index]
            leads = leads_on(value, level, paging)
            self.fault_if(z3.Not(leads), f"#PF: a {level.entry} of the code's own is no good")
        return None if self.possible(z3.And(given, wrong)) else tuple(map(const, reader.slots))

    def _spare(self, tables: HostTables, record: Record) -> None:
        """Inputs for which the write may change an entry of these tables end here."""
        spared = tables.spared_by(record.address, span_of(record))
        what = f"a store that may change {HOSTS}"
        self.end_if(z3.Not(spared), EndKind.TABLE_IN_USE, what)

    def _walk(self, linear: z3.BitVecRef, access: Kind) -> None:
        if not self.cpu.tables_fresh:
            raise self.refuse("an access outside the image after a store that may change a table")
        before = self.cpu.path
        if number(linear) is None and self.environment.base.offset_of(linear) is None:
            limit = self._identity_limit()
            if limit is not None:
                what = f"#PF: {access.words} at an address that is not mapped"
                self.fault_if(z3.UGE(linear, limit), what, linear)
                return
        translation = walk(linear, access, self.paging(), self._read_entry)
        self.fault_if(translation.non_canonical, f"#GP: {access.words} at a non-canonical address")
        what = f"#PF: {access.words} at an address that is not mapped"
        self.fault_if(translation.fault, what, linear)
        self.end_if(
            translation.physical != linear,
            EndKind.STRAY,
            f"{access.words} at an address that is mapped elsewhere",
        )
        if self.cpu.identity_slots is None and self.cpu.path is not before:
            self.map_image(flushed=False)  # some inputs went to path ends: it may hold for the rest

    def _identity_limit(self) -> int | None:
        """The power of two below which every address is mapped to itself and above which none is.

        Proved for all addresses and all kinds of access; None if there is no such number. It stands
        for a walk at a symbolic address, so that the path's condition stays readable.
        """
        prover, path = self.environment.prover, self.cpu.path
        linear = z3.BitVec("linear", 64)
        reader = EntryReader(self.cpu.memory, prover, path)
        translation = walk(linear, ANY_ACCESS, self.paging(), reader)
        wrong = z3.Or(translation.fault, translation.physical != linear)

        def wrong_at(bits: int) -> bool:
            return prover.in_example(path, z3.substitute(wrong, (linear, const(1 << bits))))

        # One input of the path shows which power of two it is, if there is one for all inputs.
        limit = 1 << bisect_left(range(linear.size() - 1), True, key=wrong_at)
        mapped = z3.Not(walk(linear, Kind.READ, self.paging(), reader).fault)
        if self.possible(z3.If(z3.ULT(linear, limit), wrong, mapped)):
            return None
        return limit

    def map_image(self, *, flushed: bool) -> None:
        """Prove, if it is so, that every byte of the image is mapped to itself and writable.

        To be called after each write to a control register that a walk depends on; `flushed` says
        that the TLB is empty: the write emptied it, or INIT did and paging is on for the first time
        since (SDM 3A 4.10.4.1, 9.1).

        Every later access inside the image then translates to itself until a store changes one of
        the entries that the walks use; `_keep_translations` looks after that.
        """
        self.cpu.identity_slots = None
        self.cpu.tables_fresh |= flushed
        base, memory = self.environment.base, self.cpu.memory
        if self.environment.host_tables:
            self.cpu.host_tables = None
            if self.cpu.tables_fresh:
                self._on_host_tables()
            return
        offset = z3.BitVec("image_offset", 64)
        inside = z3.ULT(offset, len(self.environment.image.data))
        linear = simplify(base.term + offset)
        of_first_byte: list[z3.BitVecRef] = []

        def read(address: z3.BitVecRef) -> z3.BitVecRef:
            """Where all of the image uses the same entry as its first byte, read that one."""
            same = base.normal(simplify(z3.substitute(address, (offset, const(0)))))
            of_first_byte.append(same)
            differs = z3.And(inside, address != same)
            return memory.read(address if self.possible(differs) else same, 8)

        translation = walk(linear, ANY_ACCESS, self.paging(), read)
        bad = z3.Or(translation.fault, translation.physical != linear)
        if self.possible(z3.And(inside, bad)):
            return
        slots: dict[int, z3.BitVecRef] = {}
        for entry, same in zip(translation.entries, of_first_byte, strict=True):
            if not self.possible(z3.And(inside, entry.used)):
                continue
            slot = base.offset_of(same)
            if slot is None or self.possible(z3.And(inside, entry.used, entry.address != same)):
                return
            if slot not in self.environment.tables:
                raise self.refuse(f"paging through a table at {slot:#x}, outside [tables]")
            slots[slot] = same
        self.cpu.identity_slots, self.cpu.proved_in = tuple(slots.values()), memory

    def _read_entry(self, address: z3.BitVecRef) -> z3.BitVecRef:
        return self.cpu.memory.read(self.environment.base.normal(simplify(address)), 8)

    def _keep_translations(self, record: Record) -> None:
        """A store while paging is on must leave the translations of the image as they are.

        Without an invalidation the CPU may use an entry as it was or as it is now, at each level
        apart (SDM 3A 4.10.3, 4.10.4.2). Both are the same if the store changes no more than the
        accessed and dirty flags of an entry in use; inputs for which it changes more end here. So
        for those that go on the entries are still, but for these flags, as in `proved_in`, which is
        what the store is compared with: its terms are much shorter than those of memory now.
        """
        if self.cpu.identity_slots is None:
            raise self.refuse("a store while paging is on and the image is not mapped to itself")
        if self.cpu.host_tables is not None:
            self._spare(self.cpu.host_tables, record)
        before, base = self.cpu.proved_in, self.environment.base
        after = before.append(record)
        for entry in self.cpu.identity_slots:
            slot, pages = base.offset_of(entry), None
            if slot is not None:
                pages = frozenset({slot & -PAGE})
                if record.pages is not None and not pages & record.pages:
                    continue
            old, new = (memory.read(entry, 8, pages=pages) for memory in (before, after))
            if record.size == 8 and isinstance(record, Write) and before.aligned(record.address, 8):
                hit, new = record.address == entry, record.value
            else:
                hit = overlap(record, entry, 8)
            self.end_if(
                z3.And(hit, (old ^ new) & const(~ACCESSED_AND_DIRTY) != 0),
                EndKind.TABLE_IN_USE,
                "a store changes a paging-structure entry that maps the image, and no "
                "invalidation follows",
            )

    def _may_change_tables(self, record: Record) -> bool:
        """All but writes to parts of the image that hold no tables. Of the host's tables none is
        changed on a path that goes on."""
        if self.cpu.host_tables is not None:
            return False
        base, tables = self.environment.base, self.environment.tables
        if record.pages is None:
            return True
        start = base.offset_of(record.address)
        if start is not None:
            return start < tables.stop and tables.start < start + span_of(record)
        return any(page < tables.stop and tables.start < page + PAGE for page in record.pages)

    def _refuse_entries(self, linear: z3.BitVecRef, size: int) -> None:
        """In entries that lie outside [tables] the CPU sets flags, too: which is not followed."""
        own = self.cpu.identity_slots or () if self.environment.host_tables else ()
        for part in (*self.environment.entries, *((slot, const(8)) for slot in own)):
            if self.possible(z3.Not(misses(linear, size, part))):
                raise self.refuse("a load of a paging-structure entry that is not in [tables]")

    def _with_accessed_bits(
        self, linear: z3.BitVecRef, size: int, value: z3.BitVecRef
    ) -> z3.BitVecRef:
        """A load of a present entry of tables in use may see its accessed and dirty flags set."""
        tables = self.environment.tables
        pages = self._pages(linear, size)
        if pages is not None and not any(page in tables for page in pages):
            return value
        begin, end = self.environment.base.at(tables.start), self.environment.base.at(tables.stop)
        last = simplify(linear + (size - 1))
        if pages is None and not self.possible(z3.And(z3.UGE(last, begin), z3.ULT(linear, end))):
            return value
        if size not in (4, 8) or self.possible(z3.Extract(2, 0, linear) != 0):
            raise self.refuse("a load of part of a paging-structure entry")
        flags = self.environment.unknown("accessed_dirty", 8) & ACCESSED_AND_DIRTY
        first = z3.Extract(7, 0, value)
        first = z3.If(first & 1 == 1, first | flags, first)
        return simplify(z3.Concat(z3.Extract(8 * size - 1, 8, value), first))

    def _pages(self, linear: z3.BitVecRef, size: int, given: z3.BoolRef | None = None) -> Pages:
        """The pages of the image in which an access lies, proved; None if it may lie outside.

        The pages are enumerated: z3 gives an address, its page is excluded, until there is none.
        """
        base, length = self.environment.base, len(self.environment.image.data)
        offset = base.offset_of(linear)
        if offset is not None:
            if not 0 <= offset <= length - size:
                return None
            return frozenset(range(offset & -PAGE, offset + size, PAGE))
        if size > PAGE:  # the pages of its first byte would not be all
            return None
        page, within = _split_page(linear)
        if within is not None and within + size <= PAGE:
            return self._locate(page, PAGE, given)
        return self._locate(linear, size, given)

    def _locate(self, linear: z3.BitVecRef, size: int, given: z3.BoolRef | None) -> Pages:
        """Image offsets of all pages that `size` bytes, a page at most, may lie in."""
        key = (linear.get_id(), size, -1 if given is None else given.get_id())
        if key not in self.cpu.locations:
            distance = simplify(linear - self.environment.base.term)
            among = range(0, len(self.environment.image.data) & -PAGE, PAGE)
            conditions = [*self.cpu.path] + ([] if given is None else [given])
            prover = self.environment.prover
            families = [f for *_, f in self.cpu.locations.values() if f is not None]
            where = simplify(_split_page(linear)[0] - self.environment.base.term)
            pages = prover.values(conditions, where, among, families)
            fits = size & (size - 1) == 0 and self.cpu.memory.aligned(linear, size)
            if pages is not None and not fits:
                crosses = z3.UGT(distance & (PAGE - 1), PAGE - size)
                if prover.possible(conditions, crosses):
                    pages = None
            self.cpu.locations = {**self.cpu.locations, key: (linear, given, pages)}
        return self.cpu.locations[key][2]


def _split_page(address: z3.BitVecRef) -> tuple[z3.BitVecRef, int | None]:
    """The page of an address, and the offset in it if that is constant by syntax, else None."""
    page = simplify(z3.Concat(z3.Extract(63, 12, address), const(0, 12)))
    return page, number(simplify(z3.Extract(11, 0, address)))
