# SPDX-License-Identifier: GPL-2.0-only
"""One CPU and its memory, as instructions see them: segments, faults, recorded accesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import z3

from harness.x86.lift import FIELD
from harness.x86.memory import PAGE, RangeWrite, Record, Write, by_syntax, overlap, span_of
from harness.x86.pcode import Pointer
from harness.x86.run import Access
from harness.x86.terms import const, index_symbol, low, number, simplify
from harness.x86.translate import Translated
from models.descriptors import Segment, access_faults
from models.modes import Mode
from models.paging import Access as Kind

STATUS_SEEN = "status_seen"
"""Part of the name of each symbol for what a shared word holds when it is read."""
FEW = 8  # stores of a loop that are kept one by one


class Machine(Translated):
    """The port of `pcode.Plain`, and what system instructions are made of.

    `stack_access`: the kind of access that the instruction at hand makes to the stack, if any.
    """

    stack_access = ""

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
        linear = self.cpu.at(offset)
        if self.cpu.mode is not Mode.LONG64:
            linear = simplify(linear - self.cpu.segments["cs"].base)
        return low(linear, bits)

    def field(self, offset: int) -> z3.BitVecRef:
        """The 4 bytes that an instruction holds at an image offset: fetched, not loaded."""
        base = self.environment.base
        return base.normal(self.cpu.memory.read(self.cpu.at(offset), FIELD, self.possible))

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
        if any(number(segment.base) != 0 for segment in segments):
            raise self.refuse("a 32-bit memory access while DS, ES or SS is not flat")
        if not z3.is_true(self.cpu.segments["ss"].big):
            raise self.refuse("a 32-bit memory access while SS has a 16-bit stack pointer")
        alike = {_hidden_part(segment): segment for segment in segments}.values()
        faults = [access_faults(segment, low(address, 32), size, write) for segment in alike]
        if len(faults) > 1 and self.possible(z3.And(z3.Or(*faults), z3.Not(z3.And(*faults)))):
            raise self.refuse("a 32-bit memory access that not all of DS, ES and SS allow")
        self.fault_if(faults[0], "#GP or #SS: the segment does not allow the access")

    # --- physical memory behind a linear address

    def read(self, linear: z3.BitVecRef, size: int, kind: str) -> z3.BitVecRef:
        """Read at a linear address and record it."""
        linear = self.translate(linear, size, Kind.READ)
        seen = self._seen(linear, size)
        value = self._content(linear, size) if seen is None else seen
        self._record(kind, linear, size, value, seen=seen)
        return value

    def _content(self, linear: z3.BitVecRef, size: int) -> z3.BitVecRef:
        """What memory holds that only this CPU writes."""
        pages = self._pages(linear, size)
        constant = self.environment.base.offset_of(linear) is not None
        ask = self.possible if constant or pages is None else by_syntax
        value = self.cpu.memory.read(linear, size, ask, pages)
        if self.cpu.walked:
            self._refuse_entries(linear, size)
            value = self._with_accessed_bits(linear, size, value)
        return self.environment.base.normal(value)

    def _seen(self, linear: z3.BitVecRef, size: int) -> z3.BitVecRef | None:
        """What a word that others write holds now: anything. None for other memory."""
        for word in self.environment.shared:
            if self.environment.base.offset_of(linear) == word.start and size == len(word):
                return self.environment.unknown(STATUS_SEEN, 8 * size)
            if not self._misses(word, linear, size):
                raise self.refuse("a load of part of a shared word")
        return None

    def _misses(self, part: range, linear: z3.BitVecRef, size: int) -> bool:
        """An access lies apart from a small part of the image (offsets) for sure."""
        offset = self.environment.base.offset_of(linear)
        if offset is not None:
            return offset + size <= part.start or part.stop <= offset
        pages = self._pages(linear, size)
        if pages is not None and part.start & -PAGE not in pages:
            return True
        content = const(0, 8 * len(part))
        there = Write(self.environment.base.at(part.start), len(part), content)
        return not self.possible(overlap(there, linear, size))

    def is_shared(self, linear: z3.BitVecRef, size: int) -> bool:
        """Others may write one of these bytes."""
        return not all(self._misses(word, linear, size) for word in self.environment.shared)

    def compare_exchange(
        self, linear: z3.BitVecRef, expected: z3.BitVecRef, value: z3.BitVecRef
    ) -> z3.BitVecRef:
        """Write the value if memory holds what is expected, as one access. Gives what it held."""
        return self._locked(linear, value.size() // 8, lambda old: value, expected)

    def locked_update(
        self, linear: z3.BitVecRef, size: int, new: Callable[[z3.BitVecRef], z3.BitVecRef]
    ) -> z3.BitVecRef:
        """Write what `new` makes of what memory holds, as one access. Gives what it held."""
        return self._locked(linear, size, new, None)

    def read_block(self, linear: z3.BitVecRef, size: int) -> z3.BitVecRef:
        """Read any number of bytes that are mapped to themselves, and record it as one load."""
        if self.is_shared(linear, size):
            raise self.refuse("a load of part of a shared word")
        value = self._content(linear, size)
        self._record("load", linear, size, value)
        return value

    def write_block(self, linear: z3.BitVecRef, value: z3.BitVecRef, kind: str = "store") -> None:
        """Write any number of bytes that are mapped to themselves, and record it as one store."""
        size = value.size() // 8
        self._record(kind, linear, size, value)
        self._append(Write(linear, size, value, self._pages(linear, size)))

    def _locked(
        self,
        linear: z3.BitVecRef,
        size: int,
        new: Callable[[z3.BitVecRef], z3.BitVecRef],
        expected: z3.BitVecRef | None,
    ) -> z3.BitVecRef:
        linear = self.translate(linear, size, Kind.WRITE)
        seen = self._seen(linear, size)
        old = self._content(linear, size) if seen is None else seen
        value = simplify(new(old))
        self._record("locked", linear, size, value, seen=seen, expected=expected)
        after = value if expected is None else simplify(z3.If(old == expected, value, old))
        self._append(Write(linear, size, after, self._pages(linear, size)))
        return old

    def write(self, linear: z3.BitVecRef, value: z3.BitVecRef, kind: str = "store") -> None:
        """Write at a linear address and record it."""
        size = value.size() // 8
        linear = self.translate(linear, size, Kind.WRITE)
        self.write_block(linear, value, kind)

    def write_range(self, record: RangeWrite) -> None:
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
        if record.count <= FEW:  # single writes make for shorter reads
            for index in map(const, range(record.count)):
                address = self.environment.base.normal(simplify(first + index * record.stride))
                value = record.value_at(index)
                self._record("store", address, record.size, value)
                self._append(Write(address, record.size, value, self._pages(address, record.size)))
            return
        self._record("store", first, record.size, record.value, record.count, record.stride)
        self._append(record)

    def _record(
        self,
        kind: str,
        linear: z3.BitVecRef,
        size: int,
        value: z3.BitVecRef,
        count: int = 1,
        stride: int = 0,
        seen: z3.BitVecRef | None = None,
        expected: z3.BitVecRef | None = None,
    ) -> None:
        self.cpu.accesses = (
            *self.cpu.accesses,
            Access(
                kind, linear, size, value, self.cpu.mode, self.instruction,
                len(self.cpu.path), len(self.cpu.memory.records), kind == self.stack_access,
                count, stride, seen, expected,
            ),
        )  # fmt: skip

    def _append(self, record: Record) -> None:
        if self.cpu.paging:
            self._keep_translations(record)
            self.cpu.tables_fresh &= not self._may_change_tables(record)
        if self._may_change_code(record):
            self.cpu.hazards = (*self.cpu.hazards, record)
        self.cpu.memory = self.cpu.memory.append(record)

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


def _hidden_part(segment: Segment) -> tuple[int, ...]:
    """Equal for two living segments whose hidden parts are the same terms."""
    return tuple(
        term.get_id() for name, term in sorted(vars(segment).items()) if name != "selector"
    )
