# SPDX-License-Identifier: GPL-2.0-only
"""What a claim is about: one trampoline, its run, and the words that claims are made of."""

from __future__ import annotations

from functools import cached_property

import z3

from harness.solve.obligation import Obligation
from harness.x86.run import Access, EndKind, PathEnd, Run
from harness.x86.tables import AddressMap
from harness.x86.terms import index_symbol
from models.linux_entry import HandOff, conditions
from models.paging import Access as Kind
from trampoline.contract import Contract
from trampoline.image import Image

LINEAR_MAX = 1 << 47
"""First linear address that 4-level paging cannot map to itself (SDM vol. 1, 3.3.7.1)."""
ACCESSED_AND_DIRTY = 0x60


class Subject:
    """One trampoline under proof. Sizes are in bytes, addresses have 64 bits."""

    def __init__(self, contract: Contract, image: Image, run: Run) -> None:
        self.contract = contract
        self.image = image
        self.run = run
        self.base = run.inputs["base"]
        self.kernel = run.inputs["kernel_phys_addr"]
        self.boot_params = run.inputs["boot_params_phys_addr"]
        self.maxphyaddr = run.inputs["maxphyaddr"]
        self._maps: dict[int, AddressMap] = {}

    @property
    def ends(self) -> tuple[PathEnd, ...]:
        """All paths."""
        return self.run.ends

    @property
    def hand_offs(self) -> tuple[PathEnd, ...]:
        """The paths that jump out of the image in 64-bit mode."""
        return self.run.ends_of(EndKind.HAND_OFF)

    def of(self, end: PathEnd) -> str:
        """A name for a path in the names of obligations."""
        return f"path {self.ends.index(end) + 1}"

    def about(
        self,
        name: str,
        end: PathEnd | None,
        goals: dict[str, z3.BoolRef],
        *given: z3.BoolRef,
        chosen: dict[str, int] | None = None,
        promises: tuple[str, ...] = (),
        probe: z3.BitVecRef | None = None,
    ) -> Obligation:
        """An obligation under the assumptions, a path's condition and further hypotheses."""
        path = end.path if end is not None else ()
        hypotheses = (*self.run.hypotheses, *path, *given)
        return Obligation(name, hypotheses, goals, chosen or {}, promises, probe)

    # --- words

    def hand_off_state(self, end: PathEnd) -> dict[str, z3.BoolRef]:
        """The entry protocol's demands on the CPU, each as a sentence."""
        state = end.state
        return conditions(
            HandOff(
                rip=state.rip,
                rsi=state.registers["rsi"],
                rflags=state.rflags,
                cr0=state.control.cr0,
                cr3=state.control.cr3,
                cr4=state.control.cr4,
                efer=state.control.efer,
                segments=state.segments,
                gdtr_base=state.gdtr_base,
                gdtr_limit=state.gdtr_limit,
                read_physical=lambda address: end.memory.read(z3.simplify(address), 8),
            ),
            self.kernel,
            self.boot_params,
        )

    def mapped_to_itself(self, end: PathEnd, linear: z3.BitVecRef, *kinds: Kind) -> z3.BoolRef:
        """At the end of the path, accesses of these kinds reach the equal physical address.

        Also after the kernel has set CR0.WP.
        """
        return self._map(end).identity(linear, *kinds)

    def walks_stay_in_tables(self, end: PathEnd) -> z3.BoolRef:
        """Every entry that any walk uses at the end of the path lies in the contract's [tables]."""
        return self._map(end).within(self.tables)

    def maps_nothing_else(self, end: PathEnd) -> dict[str, z3.BoolRef]:
        """At the end of the path, for every linear address: mapped to itself, or not mapped."""
        return self._map(end).nothing_else()

    @property
    def tables(self) -> range:
        """Image offsets of the contract's [tables]."""
        symbols, tables = self.image.symbols, self.contract.tables
        return range(symbols[tables.start], symbols[tables.end])

    def _map(self, end: PathEnd) -> AddressMap:
        key = self.ends.index(end)
        if key not in self._maps:
            self._maps[key] = AddressMap(self.run, end, write_protect=z3.BoolVal(True))
        return self._maps[key]

    def exists(self, start: z3.BitVecRef, size: z3.BitVecRef | int) -> z3.BoolRef:
        """The host's promise: [start, start + size) lies below 2^MAXPHYADDR."""
        last = start + size - 1
        return z3.And(z3.ULE(start, last), z3.LShR(last, self.maxphyaddr) == 0)

    def addressable(self, start: z3.BitVecRef, size: int) -> z3.BoolRef:
        """A range that code can map to itself with 4-level paging on this CPU.

        It starts below 2^MAXPHYADDR, and what of it lies below that lies below 2^47, too.
        """
        top = (z3.BitVecVal(1, 64) << self.maxphyaddr) - 1
        last = z3.If(z3.UGT(start + size - 1, top), top, start + size - 1)
        return z3.And(z3.ULE(start, top), z3.ULT(last, LINEAR_MAX))

    @cached_property
    def refusals(self) -> dict[str, tuple[int, z3.BoolRef]]:
        """Each refusal that the contract allows: status value, and when it is justified."""
        refused = self.contract.status.refused
        if refused is None:
            return {}
        kernel = self.addressable(self.kernel, self.contract.kernel.size_max)
        boot_params = self.addressable(self.boot_params, self.contract.boot_params.size)
        return {
            "the kernel": (refused.kernel, z3.Not(kernel)),
            "boot_params": (refused.boot_params, z3.Not(boot_params)),
        }

    def status_word(self, end: PathEnd) -> z3.BitVecRef:
        """The status word at the end of a path, 32 bits."""
        offset = self.image.symbols[self.contract.status.word]
        return end.memory.read(end.memory.base.at(offset), 4)

    def writes(self, end: PathEnd) -> list[Access]:
        """All accesses of a path that change memory."""
        return [access for access in end.accesses if access.kind in ("store", "accessed")]

    def in_image(self, access: Access) -> z3.BoolRef:
        """Every byte of the access lies in the image."""
        offset = z3.simplify(access.linear + index_symbol * access.stride - self.base)
        inside = z3.ULE(offset, len(self.image.data) - access.size)
        return z3.Implies(z3.ULT(index_symbol, access.count), inside)

    def keeps_translations(self, end: PathEnd, access: Access) -> z3.BoolRef:
        """The store, made while paging is on, changes no present paging-structure entry.

        Only accessed and dirty flags may change. The CPU may hold the old entry in a TLB. A store
        that is not aligned reaches two entries.
        """
        memory = end.memory.before(access.records)
        after = end.memory.before(access.records + 1)
        first = access.linear + index_symbol * access.stride
        entries = {z3.simplify(byte & -8) for byte in (first, first + (access.size - 1))}
        kept = []
        for entry in entries:
            old, new = (m.read(entry, 8, pages=self._pages(end, access)) for m in (memory, after))
            same = (old ^ new) & ~ACCESSED_AND_DIRTY == 0
            kept.append(z3.Or(old & 1 == 0, same))
        return z3.Implies(z3.ULT(index_symbol, access.count), z3.And(*kept))

    @staticmethod
    def _pages(end: PathEnd, access: Access) -> frozenset[int] | None:
        return end.memory.records[access.records].pages

    def table_stores(self, end: PathEnd) -> list[Access]:
        """The stores, made while paging is on, that may reach page tables."""
        part = self.tables
        result = []
        for access in self.writes(end):
            pages = self._pages(end, access)
            apart = pages is not None and not any(page in part for page in pages)
            if access.paged and not apart:
                result.append(access)
        return result
