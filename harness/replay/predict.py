# SPDX-License-Identifier: GPL-2.0-only
"""What a Run says of one concrete input, worked out by plain evaluation: no solver is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import z3

from harness.solve.evaluate import Function, compile_term
from harness.solve.obligation import Witness
from harness.x86.execute import scratch
from harness.x86.memory import RangeWrite, Record, stretches
from harness.x86.run import EndKind, PathEnd, Run
from harness.x86.tables import AddressMap, linear_address
from harness.x86.terms import INDEX, VECTOR, variables
from models.paging import Access
from trampoline.contract import Contract
from trampoline.image import Image

PAGE = 0x1000


@dataclass(frozen=True)
class Input:
    """Values of all symbols, and of bytes at entry that nothing is known of.

    `unknown` gives some of them by physical address. The others are 0 outside the image; inside
    it they repeat `garbage`.
    """

    values: Mapping[str, int]
    unknown: Mapping[int, int]
    garbage: bytes = b"\0"

    @property
    def base(self) -> int:
        """Physical address of the image."""
        return self.values[VECTOR] << 12


class Values(dict[str, int]):
    """Symbols that a prediction does not depend on are 0."""

    def __missing__(self, key: str) -> int:
        return 0


class Prediction:
    """The path that an input takes, and what it leaves behind."""

    def __init__(self, predictor: Predictor, given: Input) -> None:
        self.given = given
        self.values = Values(given.values)
        self.entry = predictor.entry_bytes(given)
        self.memory = predictor.memory_of(given)
        self._predictor = predictor
        taken = [
            compiled
            for compiled in predictor.ends
            if all(condition(self.values, self.memory) for condition in compiled.path)
        ]
        if len(taken) != 1:
            raise ValueError(f"{len(taken)} paths for one input: {dict(given.values)}")
        self._end = taken[0]

    @property
    def end(self) -> PathEnd:
        """The path's end."""
        return self._end.end

    def registers(self) -> dict[str, int]:
        """Registers at the end that are the same on every CPU: see `_CompiledEnd.state`."""
        return {name: term(self.values, self.memory) for name, term in self._end.state.items()}

    def accessed_flags(self) -> list[int]:
        """Image offsets of the bytes in which the CPU sets a descriptor's accessed flag."""
        return [term(self.values, self.memory) - self.given.base for term in self._end.accessed]

    @cached_property
    def image_after(self) -> bytes:
        """The image's bytes at the end of the path."""
        return self.image_before(len(self._end.records))

    def image_before(self, count: int) -> bytes:
        """The image's bytes when the path's memory log had `count` records."""
        window = bytearray(self.entry)
        for record in self._end.records[:count]:
            record.apply(window, self.given.base, self.values, self.memory)
        return bytes(window)

    def mapped(self, linear: int, access: Access) -> bool:
        """At the end of the path, the byte at `linear` is mapped to itself for this access."""
        values = Values({**self.values, str(linear_address): linear})
        return bool(self._end.identity(access)(values, self.memory))


class Predictor:
    """Compiles a run once; then each prediction takes about a millisecond."""

    def __init__(self, contract: Contract, image: Image, run: Run) -> None:
        self.image = image
        self._words = {
            image.symbols[contract.mailbox.kernel]: "kernel_phys_addr",
            image.symbols[contract.mailbox.boot_params]: "boot_params_phys_addr",
        }
        self._unknown = stretches(scratch(contract, image))
        self.ends = [_CompiledEnd(run, end) for end in run.ends]

    def predict(self, given: Input) -> Prediction:
        """The prediction for one input. ValueError if not exactly one path takes it."""
        return Prediction(self, given)

    def predict_witness(self, witness: Witness) -> Prediction:
        """The prediction for a witness as it stands."""
        return self.predict(Input(Values(witness.values), witness.entry_bytes))

    def entry_bytes(self, given: Input) -> bytes:
        """The image as the CPU finds it: mailbox filled in, unknown bytes as the input says."""
        data = bytearray(self.image.data)
        for part in self._unknown:
            copies = -(-len(part) // len(given.garbage))
            data[part.start : part.stop] = (given.garbage * copies)[: len(part)]
        for address, byte in given.unknown.items():
            if any(address - given.base in part for part in self._unknown):
                data[address - given.base] = byte
        for offset, name in self._words.items():
            data[offset : offset + 8] = given.values[name].to_bytes(8, "little")
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
            return unknown.get(address, 0)

        return byte


class _CompiledEnd:
    """One path with its terms as functions."""

    def __init__(self, run: Run, end: PathEnd) -> None:
        self._run = run
        self.end = end
        self.path = [compile_term(condition) for condition in end.path]
        self._identity: dict[Access, Function] = {}

    @cached_property
    def state(self) -> dict[str, Function]:
        """Final registers whose terms contain nothing that differs from CPU to CPU."""
        state, control = self.end.state, self.end.state.control
        terms: dict[str, z3.BitVecRef] = {
            **state.registers,
            **{"rip": state.rip, "cr0": control.cr0, "cr3": control.cr3, "cr4": control.cr4},
            **{"efer": control.efer, "gdtr_base": state.gdtr_base},
            **{"gdtr_limit": state.gdtr_limit},
            **{name: segment.selector for name, segment in state.segments.items()},
        }
        return {
            name: compile_term(term)
            for name, term in terms.items()
            if not any(_differs(symbol) for symbol in variables(term))
        }

    @cached_property
    def records(self) -> list[_CompiledRecord]:
        """The writes of the path, in order."""
        return [_CompiledRecord(record) for record in self.end.memory.records]

    @cached_property
    def accessed(self) -> list[Function]:
        """Where the CPU sets the accessed flag of a descriptor."""
        return [compile_term(a.linear) for a in self.end.accesses if a.kind == "accessed"]

    @cached_property
    def _map(self) -> AddressMap:
        return AddressMap(self._run, self.end)

    def identity(self, access: Access) -> Function:
        """Whether `linear_address` is mapped to itself, as a function."""
        if access not in self._identity:
            if self.end.kind is not EndKind.HAND_OFF:
                raise ValueError("translations are asked for at the hand-off only")
            self._identity[access] = compile_term(self._map.identity(linear_address, access))
        return self._identity[access]


def _differs(symbol: str) -> bool:
    """The symbol's value differs from CPU to CPU or from moment to moment."""
    return symbol.startswith(("cpuid_", "accessed_dirty", "rdx_at_entry", "cr0_at_entry")) or (
        "undefined" in symbol
    )


class _CompiledRecord:
    """One write as functions of the input."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.address = compile_term(record.address)
        self.value = compile_term(record.value)
        self.constant = INDEX not in variables(record.value)

    def apply(
        self, window: bytearray, base: int, values: Values, memory: Callable[[int], int]
    ) -> None:
        """Write to the window of memory that begins at `base`; what lies outside is left out."""
        record, start = self.record, self.address(values, memory) - base
        size = record.size
        if not isinstance(record, RangeWrite):
            _put(window, start, self.value(values, memory), size)
            return
        indexed = Values(values)
        fixed = self.value(indexed, memory) if self.constant else 0
        if self.constant and record.stride == size and start >= 0:
            length = min(record.count * size, len(window) - start)
            window[start : start + length] = (fixed.to_bytes(size, "little") * record.count)[
                :length
            ]
            return
        for index in range(record.count):
            indexed[INDEX] = index
            value = fixed if self.constant else self.value(indexed, memory)
            _put(window, start + index * record.stride, value, size)


def _put(window: bytearray, start: int, value: int, size: int) -> None:
    data = value.to_bytes(size, "little")
    for position, byte in enumerate(data, start):
        if 0 <= position < len(window):
            window[position] = byte
