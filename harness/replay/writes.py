# SPDX-License-Identifier: GPL-2.0-only
"""The writes of a path as functions of the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from harness.solve.evaluate import compile_term
from harness.x86.memory import RangeWrite, Record, span_of
from harness.x86.terms import INDEX, variables


class Values(dict[str, int]):
    """Symbols that a prediction does not depend on are 0."""

    def __missing__(self, key: str) -> int:
        return 0


class CompiledWrite:
    """One record of a memory log: a store, or a range of equal stores."""

    def __init__(self, record: Record) -> None:
        self.start = compile_term(record.address)
        """Physical address of the first byte, for an input."""
        self.span = span_of(record)
        """Bytes from the first one written to the last, both included."""
        self._record = record
        self._value = compile_term(record.value)
        self._constant = INDEX not in variables(record.value)

    def apply(
        self,
        window: bytearray,
        start: int,
        values: Mapping[str, int],
        memory: Callable[[int], int],
    ) -> None:
        """Write to a window, the first byte at index `start`; what lies outside is left out."""
        record, size = self._record, self._record.size
        dense = isinstance(record, RangeWrite) and record.stride == size
        if self._constant and dense and isinstance(record, RangeWrite) and start >= 0:
            data = self._value(values, memory).to_bytes(size, "little") * record.count
            length = max(min(len(data), len(window) - start), 0)
            window[start : start + length] = data[:length]
            return
        inside = start >= 0 and start + self.span <= len(window)
        for position, data in self.stores(start, values, memory):
            if inside:
                window[position : position + size] = data
                continue
            for index, byte in enumerate(data, position):
                if 0 <= index < len(window):
                    window[index] = byte

    def stores(
        self, start: int, values: Mapping[str, int], memory: Callable[[int], int]
    ) -> Iterator[tuple[int, bytes]]:
        """Address and bytes of each store, if the first one is at `start`."""
        record, size, count, stride = self._record, self._record.size, 1, 0
        if isinstance(record, RangeWrite):
            count, stride = record.count, record.stride
        indexed = Values(values)
        fixed = self._value(indexed, memory) if self._constant else 0
        for index in range(count):
            indexed[INDEX] = index
            value = fixed if self._constant else self._value(indexed, memory)
            yield start + index * stride, value.to_bytes(size, "little")

    def byte(
        self, offset: int, values: Mapping[str, int], memory: Callable[[int], int]
    ) -> int | None:
        """What is written to the byte `offset` bytes behind the first one; None if nothing is."""
        record = self._record
        stride = record.stride if isinstance(record, RangeWrite) else self.span
        if not 0 <= offset < self.span or offset % stride >= record.size:
            return None
        value = self._value(Values({**values, INDEX: offset // stride}), memory)
        return value >> 8 * (offset % stride) & 0xFF
