# SPDX-License-Identifier: GPL-2.0-only
"""One CPU and its memory, as instructions see them: segments, paging, faults, recorded accesses.

A fault ends a path: the IDT is empty, so the CPU shuts down. Each check asks whether the fault is
possible for some input of the path. Where it is, a path end takes those inputs and the run goes on
with the others; the two conditions exclude each other and leave nothing out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import z3

from harness.x86.cpu import Cpu
from harness.x86.errors import Unsupported
from harness.x86.memory import (
    PAGE,
    EntryImage,
    Pages,
    RangeWrite,
    Record,
    Write,
    by_syntax,
    overlap,
    span_of,
)
from harness.x86.pcode import Pointer
from harness.x86.prover import Prover
from harness.x86.run import Access, EndKind, PathEnd
from harness.x86.tables import EntryReader
from harness.x86.terms import Base, const, index_symbol, low, number, simplify
from models.cpuid import Features
from models.descriptors import access_faults
from models.modes import CR0_WP, EFER_NXE, Mode
from models.paging import Access as Kind
from models.paging import Paging, walk

ACCESSED_AND_DIRTY = 0x60
"""Bits 5 and 6 of a paging-structure entry: the CPU sets them whenever it likes (SDM 3A 4.8)."""


class PathOver(Exception):
    """No input is left on this path: all of them went to path ends."""


@dataclass
class Environment:
    """What all paths of one run share.

    `tables` is the image range that holds page tables, `known` the ranges of image bytes that are
    at entry as they were assembled. All are offsets in bytes.
    """

    base: Base
    image: EntryImage
    tables: range
    prover: Prover
    features: Features
    upper_halves_zero: bool
    known: tuple[range, ...]
    ends: list[PathEnd] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    fresh: int = 0

    def unknown(self, why: str, bits: int) -> z3.BitVecRef:
        """A new symbol for a value that the manual leaves open."""
        self.fresh += 1
        return z3.BitVec(f"{why}_{self.fresh}", bits)

    def unknown_flag(self, why: str) -> z3.BitVecRef:
        """The same for a flag, which is one byte that is 0 or 1."""
        return z3.ZeroExt(7, self.unknown(why, 1))


class Machine:
    """The port of `pcode.Plain`, and what system instructions are made of."""

    def __init__(self, environment: Environment, cpu: Cpu) -> None:
        self.environment = environment
        self.cpu = cpu
        self.registers = cpu.registers
        self.instruction = cpu.pc

    # --- asking and ending

    def refuse(self, what: str) -> Unsupported:
        """The refusal of the instruction at hand."""
        return Unsupported(self.instruction, what)

    def possible(self, condition: z3.BoolRef) -> bool:
        """The condition may hold for an input of this path."""
        return self.environment.prover.possible(self.cpu.path, condition)

    def assume(self, condition: z3.BoolRef) -> None:
        """Go on with the inputs that satisfy the condition."""
        condition = z3.simplify(condition)
        if not z3.is_true(condition):
            self.cpu.path = (*self.cpu.path, condition)

    def end(self, kind: EndKind, detail: str, *, rip: z3.BitVecRef | None = None) -> None:
        """Record that the path ends here."""
        cpu = self.cpu
        at = self.environment.base.at(self.instruction) if rip is None else rip
        self.environment.ends.append(
            PathEnd(
                kind=kind,
                detail=detail,
                instruction=self.instruction,
                mode=cpu.mode,
                path=cpu.path,
                state=cpu.final(at),
                memory=cpu.memory,
                accesses=cpu.accesses,
                trace=cpu.trace,
            )
        )

    def end_if(self, condition: z3.BoolRef, kind: EndKind, detail: str) -> None:
        """Inputs with the condition end here, the others go on. PathOver if there are none."""
        if not self.possible(condition):
            return
        path = self.cpu.path
        self.assume(condition)
        self.end(kind, detail)
        self.cpu.path = path
        if not self.possible(z3.Not(condition)):
            raise PathOver
        self.assume(z3.Not(condition))

    def fault_if(self, condition: z3.BoolRef, detail: str) -> None:
        """A fault: with the empty IDT it becomes a shutdown."""
        self.end_if(condition, EndKind.SHUTDOWN, detail)

    # --- the port of plain instructions

    def load(self, address: z3.BitVecRef | Pointer, size: int) -> z3.BitVecRef:
        """Read `size` bytes of data, with all checks, and record it."""
        linear = self.linear(address, size, write=False)
        return self.read(linear, size, "load")

    def store(self, address: z3.BitVecRef | Pointer, value: z3.BitVecRef) -> None:
        """Write data, with all checks, and record it."""
        linear = self.linear(address, value.size() // 8, write=True)
        self.write(linear, value)

    def special(self, name: str) -> z3.BitVecRef:
        """A selector or control register, read by a plain move."""
        if name.startswith("CR"):
            if name == "CR2":
                raise self.refuse("CR2")
            value: z3.BitVecRef = getattr(self.cpu.control, name.lower())
            return value
        return self.cpu.segments[name.lower()].selector

    def pc_relative(self, offset: int, bits: int) -> z3.BitVecRef:
        """The instruction pointer at an image offset: linear address less CS.base."""
        linear = self.environment.base.at(offset)
        if self.cpu.mode is not Mode.LONG64:
            linear = simplify(linear - self.cpu.segments["cs"].base)
        return low(linear, bits)

    # --- segmentation

    def linear(self, address: z3.BitVecRef | Pointer, size: int, write: bool) -> z3.BitVecRef:
        """The linear address of an operand, after the checks of its segment."""
        if isinstance(address, Pointer):
            name, offset = address.segment.lower(), address.offset
            segment = self.cpu.segments[name]
            self.fault_if(
                access_faults(segment, low(offset, 32), size, write),
                f"#GP or #SS: {name.upper()} does not allow the access",
            )
            linear = simplify(segment.base + low(offset, 64))
        else:
            if self.cpu.mode.bits == 16:
                raise self.refuse("a memory access without a segment in 16-bit code")
            if self.cpu.mode is not Mode.LONG64:
                self._flat(address, size, write)
            linear = simplify(low(address, 64))
        return self.environment.base.normal(linear)

    def _flat(self, address: z3.BitVecRef, size: int, write: bool) -> None:
        """32-bit p-code does not tell which segment it uses, so all must be flat and agree."""
        segments = [self.cpu.segments[name] for name in ("ds", "es", "ss")]
        if any(not z3.is_true(z3.simplify(segment.base == 0)) for segment in segments):
            raise self.refuse("a 32-bit memory access while DS, ES or SS is not flat")
        if not z3.is_true(self.cpu.segments["ss"].big):
            raise self.refuse("a 32-bit memory access while SS has a 16-bit stack pointer")
        faults = [access_faults(segment, low(address, 32), size, write) for segment in segments]
        if self.possible(z3.And(z3.Or(*faults), z3.Not(z3.And(*faults)))):
            raise self.refuse("a 32-bit memory access that not all of DS, ES and SS allow")
        self.fault_if(faults[0], "#GP or #SS: the segment does not allow the access")

    # --- physical memory behind a linear address

    def read(self, linear: z3.BitVecRef, size: int, kind: str) -> z3.BitVecRef:
        """Read at a linear address and record it."""
        self.translate(linear, size, Kind.READ)
        pages = self._pages(linear, size)
        constant = self.environment.base.offset_of(linear) is not None
        ask = self.possible if constant or pages is None else by_syntax
        value = self.cpu.memory.read(linear, size, ask, pages)
        if self.cpu.paging:
            value = self._with_accessed_bits(linear, size, value)
        value = self.environment.base.normal(value)
        self._record(kind, linear, size, value)
        return value

    def write(self, linear: z3.BitVecRef, value: z3.BitVecRef, kind: str = "store") -> None:
        """Write at a linear address and record it."""
        self.translate(linear, value.size() // 8, Kind.WRITE)
        self._record(kind, linear, value.size() // 8, value)
        size = value.size() // 8
        self._append(Write(linear, size, value, self._pages(linear, size)))

    def write_range(self, record: RangeWrite, mode: Mode) -> None:
        """The stores of a summarised loop."""
        first, last = (
            record.address,
            simplify(record.address + const(record.stride * (record.count - 1) + record.size - 1)),
        )
        pages = self._pages(first, span_of(record))
        if pages is None:
            anywhere = simplify(first + index_symbol * record.stride)
            pages = self._pages(anywhere, record.size, z3.ULT(index_symbol, record.count))
        record = replace(record, pages=pages)
        if self.cpu.paging:
            if pages is None or self.cpu.identity_slots is None:
                raise self.refuse("a loop that writes outside the image while paging is on")
        elif self.possible(z3.ULT(last, first)):
            raise self.refuse("a loop whose stores wrap around the address space")
        self.cpu.accesses = (
            *self.cpu.accesses,
            Access(
                "store", first, record.size, record.value, mode, self.instruction,
                len(self.cpu.path), len(self.cpu.memory.records), record.count, record.stride,
            ),
        )  # fmt: skip
        self._append(record)

    def _record(self, kind: str, linear: z3.BitVecRef, size: int, value: z3.BitVecRef) -> None:
        self.cpu.accesses = (
            *self.cpu.accesses,
            Access(
                kind, linear, size, value, self.cpu.mode, self.instruction,
                len(self.cpu.path), len(self.cpu.memory.records),
            ),
        )  # fmt: skip

    def _append(self, record: Record) -> None:
        if self.cpu.paging:
            self._keep_translations(record)
            self.cpu.tables_fresh &= not self._may_change_tables(record)
        if self._may_change_code(record):
            self.cpu.hazards = (*self.cpu.hazards, record)
        self.cpu.memory = self.cpu.memory.append(record)

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
        page, within = _split_page(linear)
        if within is not None and within + size <= PAGE:
            return self._locate(page, PAGE, given)
        return self._locate(linear, size, given)

    def _locate(self, linear: z3.BitVecRef, size: int, given: z3.BoolRef | None) -> Pages:
        """Image offsets of all pages that `size` bytes at an address may lie in."""
        key = (linear.get_id(), size, -1 if given is None else given.get_id())
        if key not in self.cpu.locations:
            distance = simplify(linear - self.environment.base.term)
            whole_pages = len(self.environment.image.data) // PAGE
            conditions = [*self.cpu.path] + ([] if given is None else [given])
            prover = self.environment.prover
            families = [f for *_, f in self.cpu.locations.values() if f is not None]
            where = simplify(distance & const(-PAGE))
            pages = prover.values(conditions, where, whole_pages, families)
            if pages is not None and (
                max(pages, default=0) >= whole_pages * PAGE
                or prover.possible(conditions, z3.UGT(distance & (PAGE - 1), PAGE - size))
            ):
                pages = None
            self.cpu.locations = {**self.cpu.locations, key: (linear, given, pages)}
        return self.cpu.locations[key][2]

    def _may_change_code(self, record: Record) -> bool:
        """The write may hit bytes of the image whose content is known, and so maybe code."""
        return any(self.may_hit(record, known) for known in self.environment.known)

    def may_hit(self, record: Record, part: range) -> bool:
        """The write may change a byte of this part of the image (offsets)."""
        base = self.environment.base
        start = base.offset_of(record.address)
        if start is not None:
            return start < part.stop and part.start < start + span_of(record)
        if record.pages is not None and not any(
            page < part.stop and part.start < page + PAGE for page in record.pages
        ):
            return False
        return self.possible(overlap(record, base.at(part.start), len(part)))

    # --- paging

    def paging(self) -> Paging:
        """What a walk depends on, from the control registers as they are now."""
        control, features = self.cpu.control, self.environment.features
        return Paging(
            cr3=control.cr3,
            levels=4,
            write_protect=z3.simplify(control.cr0 & CR0_WP != 0),
            no_execute=z3.simplify(control.efer & EFER_NXE != 0),
            gib_pages=features.gib_pages,
            maxphyaddr=features.maxphyaddr,
        )

    def translate(self, linear: z3.BitVecRef, size: int, access: Kind) -> None:
        """Make sure that the access reaches the physical address equal to the linear one."""
        if not self.cpu.paging or self._in_image(linear, size):
            return
        pages_may_differ = size > 1 and self.possible(
            z3.UGT(linear & (PAGE - 1), const(PAGE - size))
        )
        for byte in (0, size - 1) if pages_may_differ else (0,):
            self._walk(simplify(linear + byte), access)

    def _in_image(self, linear: z3.BitVecRef, size: int) -> bool:
        """The access lies in the image, and the image is known to be mapped to itself."""
        return self.cpu.identity_slots is not None and self._pages(linear, size) is not None

    def _walk(self, linear: z3.BitVecRef, access: Kind) -> None:
        if not self.cpu.tables_fresh:
            raise self.refuse("an access outside the image after a store that may change a table")
        if number(linear) is None and self.environment.base.offset_of(linear) is None:
            limit = self._identity_limit()
            if limit is not None:
                self.fault_if(
                    z3.UGE(linear, limit), f"#PF: {access.value} at an address that is not mapped"
                )
                return
        translation = walk(linear, access, self.paging(), self._read_entry)
        self.fault_if(translation.non_canonical, f"#GP: {access.value} at a non-canonical address")
        self.fault_if(translation.fault, f"#PF: {access.value} at an address that is not mapped")
        self.end_if(
            translation.physical != linear,
            EndKind.STRAY,
            f"{access.value} at an address that is mapped elsewhere",
        )

    def _identity_limit(self) -> int | None:
        """The power of two below which every address is mapped to itself and above which none is.

        Proved for all addresses and all kinds of access; None if there is no such number. It stands
        for a walk at a symbolic address, so that the path's condition stays readable.
        """
        linear = z3.BitVec("linear", 64)
        reader = EntryReader(self.cpu.memory, self.environment.prover, self.cpu.path)
        walks = [walk(linear, kind, self.paging(), reader) for kind in Kind]
        wrong = z3.Or(*(z3.Or(t.fault, t.physical != linear) for t in walks))
        low_bits, high_bits = 0, 48
        while high_bits - low_bits > 1:  # below 1 << low_bits all is well, at high_bits it is not
            middle = (low_bits + high_bits) // 2
            if self.possible(z3.And(z3.ULT(linear, 1 << middle), wrong)):
                high_bits = middle
            else:
                low_bits = middle
        limit = 1 << low_bits
        mapped = z3.Or(*(z3.Not(t.fault) for t in walks))
        if low_bits == 0 or self.possible(z3.And(z3.UGE(linear, limit), mapped)):
            return None
        return limit

    def map_image(self, *, flushed: bool) -> None:
        """Prove, if it is so, that every byte of the image is mapped to itself and writable.

        To be called after each write to a control register that a walk depends on; `flushed` says
        that the write also emptied the TLB (SDM 3A 4.10.4.1).

        Every later access inside the image then translates to itself until a store changes one of
        the entries that the walks use; `_keep_translations` looks after that.
        """
        self.cpu.identity_slots = None
        self.cpu.tables_fresh |= flushed
        base, memory = self.environment.base, self.cpu.memory
        first = walk(base.at(0), Kind.WRITE, self.paging(), self._read_entry)
        guide = [base.normal(simplify(entry.address)) for entry in first.entries]
        offset = z3.BitVec("image_offset", 64)
        inside = z3.ULT(offset, len(self.environment.image.data))
        linear = simplify(base.term + offset)
        entries: dict[int, z3.BitVecRef] = {}

        def read(address: z3.BitVecRef) -> z3.BitVecRef:
            """Where all of the image uses the same entry as its first byte, read that one."""
            key = address.get_id()  # the walk keeps the address alive
            if key not in entries:
                same = guide[len(entries)]
                differs = z3.And(inside, address != same)
                entries[key] = memory.read(address if self.possible(differs) else same, 8)
            return entries[key]

        walks = [walk(linear, kind, self.paging(), read) for kind in (Kind.WRITE, Kind.FETCH)]
        bad = z3.Or(*(z3.Or(t.fault, t.physical != linear) for t in walks))
        if self.possible(z3.And(inside, bad)):
            return
        slots: set[int] = set()
        for entry, same in zip(walks[0].entries, guide, strict=True):
            if not self.possible(z3.And(inside, entry.used)):
                continue
            slot = base.offset_of(same)
            if slot is None or self.possible(z3.And(inside, entry.used, entry.address != same)):
                return
            if slot not in self.environment.tables:
                raise self.refuse(f"paging through a table at {slot:#x}, outside [tables]")
            slots.add(slot)
        self.cpu.identity_slots = frozenset(slots)

    def _read_entry(self, address: z3.BitVecRef) -> z3.BitVecRef:
        return self.cpu.memory.read(self.environment.base.normal(simplify(address)), 8)

    def _keep_translations(self, record: Record) -> None:
        """A store while paging is on must leave the translations of the image as they are.

        Without an invalidation the CPU may use an entry as it was or as it is now, at each level
        apart (SDM 3A 4.10.3, 4.10.4.2). Both are the same if the store changes no more than the
        accessed and dirty flags of an entry in use; inputs for which it changes more end here.
        """
        if self.cpu.identity_slots is None:
            raise self.refuse("a store while paging is on and the image is not mapped to itself")
        memory, base = self.cpu.memory, self.environment.base
        after = memory.append(record)
        for slot in sorted(self.cpu.identity_slots):
            entry = base.at(slot)
            if record.pages is not None and slot & -PAGE not in record.pages:
                continue
            old = memory.read(entry, 8, pages=frozenset({slot & -PAGE}))
            new = after.read(entry, 8, pages=frozenset({slot & -PAGE}))
            self.end_if(
                (old ^ new) & const(~ACCESSED_AND_DIRTY) != 0,
                EndKind.TABLE_IN_USE,
                "a store changes a paging-structure entry that maps the image, and no "
                "invalidation follows",
            )

    def _may_change_tables(self, record: Record) -> bool:
        """All but writes to parts of the image that hold no tables."""
        base, tables = self.environment.base, self.environment.tables
        if record.pages is None:
            return True
        start = base.offset_of(record.address)
        if start is not None:
            return start < tables.stop and tables.start < start + span_of(record)
        return any(page < tables.stop and tables.start < page + PAGE for page in record.pages)

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


def _split_page(address: z3.BitVecRef) -> tuple[z3.BitVecRef, int | None]:
    """The page of an address, and the offset in it if that is constant by syntax, else None."""
    page = simplify(z3.Concat(z3.Extract(63, 12, address), const(0, 12)))
    return page, number(simplify(z3.Extract(11, 0, address)))
