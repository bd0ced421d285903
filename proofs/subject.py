# SPDX-License-Identifier: GPL-2.0-only
"""What a claim is about: one trampoline, its run, and the words that claims are made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import z3

from harness.solve.obligation import Obligation
from harness.x86.execute import execute
from harness.x86.given import HAND_OVER, area_size, scratch
from harness.x86.lift import MAX_LENGTH, lift
from harness.x86.memory import stretches
from harness.x86.promise import Range, lies_in, misses
from harness.x86.prover import prover_of
from harness.x86.run import Access, EndKind, PathEnd, Run
from harness.x86.tables import LINEAR_MAX, AddressMap
from harness.x86.terms import index_symbol, simplify
from models.linux_entry import HandOff, conditions, in_64_bit_mode
from models.modes import Mode
from models.paging import Access as Kind
from trampoline.contract import Contract
from trampoline.image import STATUS_WORD_SIZE, Image
from trampoline.sections import Area, Status

ACCESSED_AND_DIRTY = 0x60
OFFSET = z3.BitVec("offset", 64)
"""A byte of a range, counted from its start."""
SIZE = z3.BitVec("kernel_size", 64)
"""The kernel's size in bytes, 1 to the contract's bound."""


class Subject:
    """One trampoline under proof. Sizes are in bytes, addresses have 64 bits."""

    def __init__(self, contract: Contract, image: Image, run: Run) -> None:
        self.contract = contract
        self.image = image
        self.run = run
        self.base = run.inputs["base"]
        self.kernel = run.kernel
        self.boot_params = run.boot_params
        self.maxphyaddr = run.inputs["maxphyaddr"]
        self._maps: dict[int, AddressMap] = {}

    @cached_property
    def from_any_registers(self) -> Subject:
        """The same trampoline, started in real mode with registers and flags that hold anything.

        A start in 64-bit mode finds such registers and flags in any case.
        """
        if all(entry.mode != "real" for entry in self.contract.entry):
            return self
        run = execute(self.contract, self.image, any_registers=True)
        return Subject(self.contract, self.image, run)

    @property
    def gaps(self) -> tuple[str, ...]:
        """What the machine refused on this run."""
        return tuple(end.detail for end in self.run.ends_of(EndKind.UNSUPPORTED))

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the machine refused on this run, and what it lost."""
        return (*self.gaps, self.run.lost) if self.run.lost else self.gaps

    @property
    def ends(self) -> tuple[PathEnd, ...]:
        """All paths."""
        return self.run.ends

    @property
    def decided(self) -> list[PathEnd]:
        """The paths that the machine followed to their end."""
        return [end for end in self.ends if end.kind is not EndKind.UNSUPPORTED]

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
        shown_by: Mapping[str, tuple[str, ...]] | None = None,
        because: tuple[z3.BoolRef, ...] = (),
    ) -> Obligation:
        """An obligation under the assumptions, a path's condition and further hypotheses."""
        path = end.path if end is not None else ()
        hypotheses = (*self.run.hypotheses, *path, *given)
        return Obligation(
            name, hypotheses, goals, chosen or {}, promises, probe, shown_by or {},
            self.run.any_registers, because,
        )  # fmt: skip

    def never(self, ends: list[PathEnd], otherwise: str) -> list[Obligation]:
        """No input ends as these paths do; `otherwise` says so where there are none."""
        if not ends:
            return [self.about("every path", None, {otherwise: z3.BoolVal(True)})]
        return [
            self.about(
                f"{self.of(end)}: {end.kind.value}",
                None,
                {f"no input ends with: {end.detail or end.kind.value}": z3.Not(end.condition)},
            )
            for end in ends
        ]

    # --- the hand-off

    def hand_off_state(self, end: PathEnd) -> dict[str, z3.BoolRef]:
        """The entry protocol's demands on the CPU, each as a sentence."""
        state = end.state
        demands = conditions
        if self.contract.hand_off.protocol == "long-64":
            demands = in_64_bit_mode
        return demands(
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
                read_physical=lambda address: end.memory.read(simplify(address), 8),
            ),
            self.kernel,
            self.boot_params,
        )

    def address_map(self, end: PathEnd) -> AddressMap:
        """The translations in force at the end of a path, also after the kernel has set CR0.WP."""
        key = self.ends.index(end)
        if key not in self._maps:
            self._maps[key] = AddressMap(self.run, end, write_protect=z3.BoolVal(True))
        return self._maps[key]

    def mapped_to_itself(self, end: PathEnd, linear: z3.BitVecRef, access: Kind) -> z3.BoolRef:
        """At the end of the path, the access reaches the equal physical address."""
        return self.address_map(end).identity(linear, access)

    # --- parts of the image, as offsets

    def part(self, start: str, end: str) -> range:
        """The image offsets from one symbol up to another."""
        return range(self.image.symbols[start], self.image.symbols[end])

    @property
    def tables(self) -> range:
        """Image offsets of the contract's [tables]; empty if it has none."""
        tables = self.contract.tables
        return self.part(tables.start, tables.end) if tables is not None else range(0)

    @cached_property
    def scratch(self) -> list[range]:
        """Image offsets that each start may write: the contract's [[scratch]] areas."""
        return stretches(scratch(self.contract, self.image, kept=True))

    def place(self, area: Area) -> Range:
        """An area outside the image."""
        size = area_size(area, self.image)
        return z3.BitVecVal(area.address, 64), z3.BitVecVal(size, 64)

    @property
    def outside(self) -> list[Range]:
        """What the code may read and write outside the image: areas, and the stack it is given."""
        areas = [self.place(area) for area in self.contract.area]
        return [*areas, self.stack] if self.stack is not None else areas

    @property
    def stack(self) -> Range | None:
        """The stack that a 64-bit entry finds in RSP, if the contract has one."""
        stack = self.contract.stack
        if stack is None or stack.below_rsp is None:
            return None
        rsp = z3.BitVec(f"rsp_at_{HAND_OVER}", 64)
        return rsp - stack.below_rsp, z3.BitVecVal(stack.below_rsp, 64)

    def lies_where_it_may(self, access: Access, parts: list[range]) -> z3.BoolRef:
        """Every byte of the access lies in one of these parts of the image, or in what the code
        may use outside of it."""
        first = access.linear + index_symbol * access.stride
        elsewhere = [lies_in(first, access.size, part) for part in self.outside]
        if not elsewhere:
            return self.lies_in(access, parts)
        counted = z3.ULT(index_symbol, access.count)
        return z3.Or(self.lies_in(access, parts), z3.Implies(counted, z3.Or(*elsewhere)))

    def places_of(self, part: range) -> list[z3.BitVecRef]:
        """Where a part of the image lies: in the image, and in copies that its code makes."""
        found = [self.base + part.start]
        for area in self.contract.area:
            if area.copy_of is not None:
                copied = self.part(*area.copy_of)
                if copied.start <= part.start and part.stop <= copied.stop:
                    found.append(z3.BitVecVal(area.address + part.start - copied.start, 64))
        return found

    def exclude_each_other(self, end: PathEnd, conditions: tuple[z3.BoolRef, ...]) -> bool:
        """No input of the path meets the conditions, which speak of another start."""
        return not prover_of(self.run).possible(end.path, z3.And(*conditions))

    def executes(self, end: PathEnd, mnemonic: str) -> bool:
        """One of the path's instructions is this one, as sleigh spells it."""
        data = self.image.data
        return any(
            lift(data[at : at + MAX_LENGTH], at, Mode[mode].bits).mnemonic == mnemonic
            for at, mode in end.trace
        )

    def lies_in(self, access: Access, parts: list[range]) -> z3.BoolRef:
        """Every byte of the access lies in one of these parts of the image."""
        offset = simplify(access.linear + index_symbol * access.stride - self.base)
        inside = z3.Or(
            *(
                z3.ULE(offset - part.start, len(part) - access.size)
                for part in parts
                if len(part) >= access.size
            )
        )
        return simplify(z3.Implies(z3.ULT(index_symbol, access.count), inside))

    # --- ranges of memory that the host names

    @property
    def kernel_size_max(self) -> int:
        """The size of the largest kernel, in bytes."""
        assert self.contract.kernel.size_max is not None  # else no claim speaks of it
        return self.contract.kernel.size_max

    @property
    def boot_params_range(self) -> Range:
        """Address and size of boot_params."""
        assert self.boot_params is not None and self.contract.boot_params is not None
        return self.boot_params, z3.BitVecVal(self.contract.boot_params.size, 64)

    def exists(self, start: z3.BitVecRef, size: z3.BitVecRef | int) -> z3.BoolRef:
        """The host's promise: [start, start + size) lies below 2^MAXPHYADDR, and below the end
        that the contract gives for the kernel's entry, if it gives one."""
        last = start + size - 1
        below = self.contract.kernel.below
        bounded = z3.ULT(last, below) if below is not None else z3.BoolVal(True)
        return z3.And(z3.ULE(start, last), z3.LShR(last, self.maxphyaddr) == 0, bounded)

    def beside_the_image(self, start: z3.BitVecRef, size: z3.BitVecRef | int) -> z3.BoolRef:
        """[start, start + size) and the image have no byte in common."""
        length = len(self.image.data)
        return z3.And(z3.UGE(start - self.base, length), z3.UGE(self.base - start, size))

    def usable(self, start: z3.BitVecRef, size: int) -> z3.BoolRef:
        """A range that code can map to itself with 4-level paging on this CPU, beside the image.

        It starts below 2^MAXPHYADDR; what of it lies below that lies below 2^47, too, and outside
        the image.
        """
        top = (z3.BitVecVal(1, 64) << self.maxphyaddr) - 1
        last = z3.If(z3.UGT(start + size - 1, top), top, start + size - 1)
        apart = z3.Or(z3.UGE(start, self.base + len(self.image.data)), z3.ULT(last, self.base))
        return z3.And(z3.ULE(start, top), z3.ULT(last, LINEAR_MAX), apart)

    @cached_property
    def refusals(self) -> dict[str, tuple[int, z3.BoolRef]]:
        """Each refusal that the contract allows: status value, and when it is justified."""
        refused = self.contract.status.refused if self.contract.status is not None else None
        if refused is None:
            return {}
        result: dict[str, tuple[int, z3.BoolRef]] = {}
        if (size := self.contract.kernel.size_max) is not None:
            result["the kernel"] = (refused.kernel, z3.Not(self.usable(self.kernel, size)))
        if self.boot_params is not None and self.contract.boot_params is not None:
            usable = self.usable(self.boot_params, self.contract.boot_params.size)
            result["boot_params"] = (refused.boot_params, z3.Not(usable))
        if refused.cpu is not None:
            result["the CPU"] = (refused.cpu, z3.Not(self.run.features.long_mode))
        return result

    @property
    def park_reasons(self) -> list[z3.BoolRef]:
        """When a CPU may park without saying why in a status word."""
        reasons = {"no-long-mode": z3.Not(self.run.features.long_mode)}
        return [reasons[reason] for reason in self.contract.parks]

    # --- accesses

    @property
    def status(self) -> Status:
        """The contract's [status]."""
        assert self.contract.status is not None  # else no claim speaks of it
        return self.contract.status

    @property
    def status_offset(self) -> int:
        """Image offset of the status word, which has 4 bytes."""
        return self.image.symbols[self.status.word]

    def status_word(self, end: PathEnd, records: int | None = None) -> z3.BitVecRef:
        """The status word, 32 bits: at the end of a path, or after that many of its writes."""
        memory = end.memory if records is None else end.memory.before(records)
        return memory.read(memory.base.at(self.status_offset), 4)

    def reads_mailbox(self, access: Access) -> bool:
        """The access may read a mailbox word: it does unless it is known to lie elsewhere."""
        if access.kind in ("store", "accessed"):
            return False
        offset = simplify(access.linear - self.base)
        if not z3.is_bv_value(offset):
            return True
        mailbox, first = self.contract.mailbox, offset.as_long()
        symbols = (symbol for symbol in (mailbox.kernel, mailbox.boot_params) if symbol is not None)
        words = (self.image.symbols[symbol] for symbol in symbols)
        return any(word - access.size < first < word + 8 for word in words)

    def spares_status(self, access: Access) -> z3.BoolRef:
        """No byte of the access (of any of its stores) is one of the status word."""
        word = self.base + self.status_offset
        return self.spares(access, (word, z3.BitVecVal(STATUS_WORD_SIZE, 64)))

    def spares(self, access: Access, part: Range) -> z3.BoolRef:
        """No byte of the access (of any of its stores) lies in the range."""
        first = access.linear + index_symbol * access.stride
        counted = z3.ULT(index_symbol, access.count)
        return z3.Implies(counted, misses(first, access.size, part))

    def writes(self, end: PathEnd) -> list[Access]:
        """All accesses of a path that change memory."""
        return [access for access in end.accesses if access.writes]
