# SPDX-License-Identifier: GPL-2.0-only
"""What a Run says of one concrete input, worked out by plain evaluation: no solver is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import z3

from harness.replay.translation import PagingState, is_identity
from harness.replay.writes import CompiledWrite, Values
from harness.solve.evaluate import Function, compile_term
from harness.solve.obligation import Witness
from harness.x86.execute import APIC_ID
from harness.x86.given import HAND_OVER, unknown
from harness.x86.memory import stretches
from harness.x86.run import EndKind, PathEnd, Run
from harness.x86.terms import ENTRY, VECTOR, simplify, variables
from harness.x86.translate import HOSTS
from models.modes import CR0_WP, CR4_LA57, EFER_NXE
from models.paging import Access
from trampoline.contract import Contract
from trampoline.image import LOCK_WORD_SIZE, STATUS_WORD_SIZE, Image
from trampoline.sections import Entry

PAGE = 0x1000


@dataclass(frozen=True)
class Input:
    """Values of all symbols, and of bytes at entry that nothing is known of.

    `unknown` gives some of them by physical address, `blocks` (address and bytes) many at once. The
    others are 0 outside the image; inside it they repeat `garbage`.
    """

    values: Mapping[str, int]
    unknown: Mapping[int, int]
    garbage: bytes = b"\0"
    blocks: tuple[tuple[int, bytes], ...] = ()

    @property
    def base(self) -> int:
        """Physical address of the image."""
        return self.values[VECTOR] << 12

    def in_block(self, address: int) -> int | None:
        """The byte at a physical address, if a block has it."""
        for start, data in self.blocks:
            if 0 <= address - start < len(data):
                return data[address - start]
        return None


OUTSIDE_MAX = 0x4000
"""Bytes written outside the image, at most, that a prediction lists."""


class Prediction:
    """The path that an input takes, and what it leaves behind, if nobody else writes the image.

    Bytes outside the image that the path writes and does not read first may hold anything at entry:
    here they hold something else than what is written, so that the write can be seen.
    """

    def __init__(self, predictor: Predictor, given: Input) -> None:
        self.given = given
        self._kernel = predictor.kernel
        self._entry = predictor.entry_of(given.values)
        self._ends_inside = predictor.contract.kernel.symbol is not None
        self.values = Values(given.values)
        self.entry = predictor.entry_bytes(given)
        self._unknown = dict(given.unknown)
        self._asked: set[int] = set()
        taken = []
        for compiled in predictor.ends:
            values = compiled.alone(self.values, self.memory)
            if all(condition(values, self.memory) for condition in compiled.path):
                taken.append((compiled, values))
        if len(taken) != 1:
            raise ValueError(f"{len(taken)} paths for one input: {dict(given.values)}")
        self._end, self.values = taken[0]
        self._starts = [write.start(self.values, self.memory) for write in self._end.writes]
        self.outside = self._outside()
        """Bytes outside the image that the path writes, by physical address, at its end. Empty if
        there are more than OUTSIDE_MAX: see `outside_size`."""
        for address in self.outside.keys() - self._asked - self._unknown.keys():
            self._unknown[address] = self.outside[address] ^ 0xFF

    def memory(self, address: int) -> int:
        """The byte of physical memory at entry. Addresses outside of image and blocks are
        remembered."""
        inside = 0 <= address - self.given.base < len(self.entry)
        if not inside and self.given.in_block(address) is None:
            self._asked.add(address)
        return self._byte(address)

    def _byte(self, address: int) -> int:
        offset = address - self.given.base
        if 0 <= offset < len(self.entry):
            return self.entry[offset]
        known = self.given.in_block(address)
        return self._unknown.get(address, 0) if known is None else known

    def outside_at_entry(self) -> dict[int, int]:
        """Bytes outside the image on which this prediction rests, by physical address.

        Those of the input, those that path and writes depend on, and those that are written.
        """
        return {address: self._unknown.get(address, 0) for address in self._asked} | {
            address: byte
            for address, byte in self._unknown.items()
            if not 0 <= address - self.given.base < len(self.entry)
        }

    @property
    def end(self) -> PathEnd:
        """The path's end."""
        return self._end.end

    @property
    def real_mode(self) -> bool:
        """The CPU starts in real mode."""
        return self._entry.mode == "real"

    @property
    def left_open(self) -> str:
        """Why nobody can say what follows the end of the path; empty if that can be said."""
        return end_left_open(self._end.end)

    @property
    def inside(self) -> int | None:
        """The address at which the trampoline shall end, if that is in the image."""
        return self.kernel if self._ends_inside else None

    @property
    def kernel(self) -> int:
        """The address at which the trampoline shall end."""
        return self._kernel(self.values, self.memory)

    def registers(self) -> dict[str, int]:
        """Registers at the end that are the same on every CPU: see `_CompiledEnd.state`."""
        return {name: term(self.values, self.memory) for name, term in self._end.state.items()}

    def accessed_flags(self) -> list[int]:
        """Addresses of the bytes in which the CPU sets a descriptor's accessed flag."""
        return [term(self.values, self.memory) for term in self._end.accessed]

    @cached_property
    def outside_size(self) -> int:
        """How many bytes outside the image the path may write."""
        return sum(write.span for write, _ in self._leaving)

    def writes_to(self, part: range) -> bool:
        """The path writes to these physical addresses. What lies between the first and the last
        byte of a write counts as written."""
        return any(
            start < part.stop and part.start < start + write.span
            for write, start in zip(self._end.writes, self._starts, strict=True)
        )

    @cached_property
    def _leaving(self) -> list[tuple[CompiledWrite, int]]:
        """The writes that do not lie in the image, each with its address."""
        first, last = self.given.base, self.given.base + len(self.entry)
        return [
            (write, start)
            for write, start in zip(self._end.writes, self._starts, strict=True)
            if start < first or start + write.span > last
        ]

    def _outside(self) -> dict[int, int]:
        if self.outside_size > OUTSIDE_MAX:
            return {}
        written: dict[int, int] = {}
        for write, start in self._leaving:
            for address, data in write.stores(start, self.values, self.memory):
                written.update(enumerate(data, address))
        inside = range(self.given.base, self.given.base + len(self.entry))
        return {address: byte for address, byte in written.items() if address not in inside}

    @cached_property
    def image_after(self) -> bytes:
        """The image's bytes at the end of the path."""
        return self.image_before(len(self._end.writes))

    def image_before(self, count: int) -> bytes:
        """The image's bytes when the path's memory log had `count` records."""
        window = bytearray(self.entry)
        writes = zip(self._end.writes[:count], self._starts, strict=False)
        for write, start in writes:
            write.apply(window, start - self.given.base, self.values, self.memory)
        return bytes(window)

    def mapped(self, linear: int, access: Access) -> bool:
        """At the end of the path, the byte at `linear` is mapped to itself for this access: the
        tables that lie in memory then are walked."""
        state = self._paging
        if state is None:
            raise ValueError("translations are asked for at the hand-off only")
        return is_identity(linear, access, state, self.byte_at_end)

    @cached_property
    def _paging(self) -> PagingState | None:
        """What a walk at the end depends on beside memory; None if the path hands nothing over."""
        return self._end.paging_state(self.values, self.memory)

    def byte_at_end(self, address: int) -> int:
        """The byte at a physical address at the end of the path."""
        offset = address - self.given.base
        if 0 <= offset < len(self.entry):
            return self.image_after[offset]
        for write, start in reversed(self._leaving):
            byte = write.byte(address - start, self.values, self.memory)
            if byte is not None:
                return byte
        return self._byte(address)


def end_left_open(end: PathEnd) -> str:
    """Why nobody can say what follows an end; empty if that can be said."""
    damaged = end.kind is EndKind.TABLE_IN_USE and HOSTS in end.detail
    if end.kind is EndKind.UNPROMISED or damaged:
        return "what follows depends on page tables that the host has made"
    if end.kind is EndKind.OVERWRITTEN and "descriptor" in end.detail:
        return "what was written over a descriptor may be one, too"
    return ""


class Predictor:
    """Compiles a run once; then each prediction takes about a millisecond."""

    def __init__(self, contract: Contract, image: Image, run: Run) -> None:
        self.contract = contract
        self.image = image
        self.run = run
        self.kernel = compile_term(run.kernel)
        """The address at which the trampoline shall end."""
        self._status = contract.status
        words = run.ends[0].memory.image.words if run.ends else {}
        self._words = [
            (offset, word.size() // 8, compile_term(word)) for offset, word in words.items()
        ]
        self._unknown = stretches(unknown(contract, image))
        self.ends = [_CompiledEnd(run, end) for end in run.ends]

    def predict(self, given: Input) -> Prediction:
        """The prediction for one input. ValueError if not exactly one path takes it."""
        return Prediction(self, given)

    def entry_of(self, values: Mapping[str, int]) -> Entry:
        """The entry at which an input starts."""
        return self.contract.entry[values.get(ENTRY, 0)]

    def predict_witness(self, witness: Witness) -> Prediction:
        """The prediction for a witness as it stands."""
        return self.predict(Input(Values(witness.values), witness.entry_bytes))

    def entry_bytes(self, given: Input) -> bytes:
        """The image as the CPU finds it: mailbox filled in, unknown bytes as the input says."""
        data = bytearray(self.image.data)
        for part in self._unknown:
            copies = -(-len(part) // len(given.garbage))
            data[part.start : part.stop] = (given.garbage * copies)[: len(part)]
        if self._status is not None and self._status.handshake is not None:
            # The host offers the area to this CPU.
            offer = self._status.handshake.offered + given.values.get(APIC_ID, 0)
            status = self.image.symbols[self._status.word]
            data[status : status + STATUS_WORD_SIZE] = offer.to_bytes(STATUS_WORD_SIZE, "little")
        if self.contract.lock is not None:  # nobody holds it
            lock = self.image.symbols[self.contract.lock.word]
            data[lock : lock + LOCK_WORD_SIZE] = bytes(LOCK_WORD_SIZE)
        for address, byte in given.unknown.items():
            if any(address - given.base in part for part in self._unknown):
                data[address - given.base] = byte
        for start, block in given.blocks:
            if 0 <= start - given.base <= len(data) - len(block):
                data[start - given.base : start - given.base + len(block)] = block
        for offset, size, word in self._words:
            content = word(given.values, lambda address: 0)  # no word depends on memory
            data[offset : offset + size] = content.to_bytes(size, "little")
        return bytes(data)

    def memory_at_entry(
        self, values: Mapping[str, int], unknown: Mapping[int, int]
    ) -> Callable[[int], int]:
        """Byte by physical address: the image where it lies, else what is unknown, else 0."""
        return self.memory_of(Input(Values(values), unknown))

    def memory_of(self, given: Input) -> Callable[[int], int]:
        """The same for a whole input."""
        entry, base, unknown = self.entry_bytes(given), given.base, given.unknown

        def byte(address: int) -> int:
            if 0 <= address - base < len(entry):
                return entry[address - base]
            known = given.in_block(address)
            return unknown.get(address, 0) if known is None else known

        return byte


class _CompiledEnd:
    """One path with its terms as functions."""

    def __init__(self, run: Run, end: PathEnd) -> None:
        self._run = run
        self.end = end
        self.path = [compile_term(condition) for condition in end.path]

    @cached_property
    def _seen(self) -> list[tuple[str, Function]]:
        """What each read of the status word finds if only this CPU writes it, by its symbol."""
        memory = self.end.memory
        return [
            (str(a.seen), compile_term(memory.before(a.records).read(a.linear, a.size)))
            for a in self.end.accesses
            if a.seen is not None
        ]

    def alone(self, values: Values, memory: Callable[[int], int]) -> Values:
        """The values with those of the symbols that stand for reads of the status word."""
        values = Values(values)
        for name, content in self._seen:
            values[name] = content(values, memory)
        return values

    @cached_property
    def state(self) -> dict[str, Function]:
        """Final registers whose terms contain nothing that differs from CPU to CPU."""
        state, control = self.end.state, self.end.state.control
        terms: dict[str, z3.BitVecRef] = {
            **state.registers,
            **{"rip": state.rip, "cr0": control.cr0, "cr3": control.cr3, "cr4": control.cr4},
            **{"efer": control.efer, "gdtr_base": state.gdtr_base},
            **{"gdtr_limit": state.gdtr_limit, "idtr_base": state.idtr_base},
            **{"idtr_limit": state.idtr_limit, "if": simplify(z3.Extract(9, 9, state.rflags))},
            "df": simplify(z3.Extract(10, 10, state.rflags)),
            **{name: segment.selector for name, segment in state.segments.items()},
        }
        return {
            name: compile_term(term)
            for name, term in terms.items()
            if not any(differs(symbol) for symbol in variables(term))
        }

    @cached_property
    def writes(self) -> list[CompiledWrite]:
        """The writes of the path, in order."""
        return [CompiledWrite(record) for record in self.end.memory.records]

    @cached_property
    def accessed(self) -> list[Function]:
        """Where the CPU sets the accessed flag of a descriptor."""
        return [compile_term(a.linear) for a in self.end.accesses if a.kind == "accessed"]

    @cached_property
    def _paging(self) -> dict[str, Function]:
        """The terms of a PagingState."""
        control, run = self.end.state.control, self._run
        terms: dict[str, z3.ExprRef] = {
            "cr3": control.cr3,
            "five_levels": control.cr4 & CR4_LA57 != 0,
            "write_protect": control.cr0 & CR0_WP != 0,
            "no_execute": control.efer & EFER_NXE != 0,
            "gib_pages": run.features.gib_pages,
            "maxphyaddr": run.inputs["maxphyaddr"],
        }
        return {name: compile_term(simplify(term)) for name, term in terms.items()}

    def paging_state(self, values: Values, memory: Callable[[int], int]) -> PagingState | None:
        """What a walk at the hand-off depends on beside memory; None if there is no hand-off."""
        if self.end.kind is not EndKind.HAND_OFF:
            return None
        return PagingState(**{name: term(values, memory) for name, term in self._paging.items()})


OPEN = (
    *("cpuid_", "accessed_dirty", "rdx_at_entry", "cr0_at_entry"),
    *(
        f"{name}_at_{HAND_OVER}"
        for name in ("gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit", "fs", "gs")
    ),
)
"""Beginnings of the names of symbols for what no prediction fixes."""


def differs(symbol: str) -> bool:
    """The symbol's value differs from CPU to CPU or from moment to moment."""
    return symbol.startswith(OPEN) or "undefined" in symbol
