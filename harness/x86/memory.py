# SPDX-License-Identifier: GPL-2.0-only
"""Physical memory as a log of writes over the memory found at entry. Nothing is ever concretised.

A read walks the log back from the newest write. Where a write and a read are at a constant distance
from each other, what they share is decided by arithmetic; otherwise the answer becomes an
if-then-else over the addresses. Such a term is exact, so it serves the machine while it runs and
the proofs afterwards alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import z3

from harness.x86.terms import ENTRY_MEMORY, Base, const, index_symbol, number, simplify


def stretches(numbers: Iterable[int]) -> list[range]:
    """Numbers, of which none occurs twice, as the fewest ranges, in ascending order."""
    found: list[range] = []
    for value in sorted(numbers):
        if found and found[-1].stop == value:
            found[-1] = range(found[-1].start, value + 1)
        else:
            found.append(range(value, value + 1))
    return found


Possible = Callable[[z3.BoolRef], bool]
"""May this condition hold? False only when it is proved that it cannot."""


def by_syntax(condition: z3.BoolRef) -> bool:
    """A `Possible` that asks no solver: False only when the rewriter reduces it to false."""
    return not z3.is_false(simplify(condition))


PAGE = 0x1000
Pages = frozenset[int] | None
"""Image offsets of the pages in which an address is proved to lie; None if nothing is known."""


@dataclass(frozen=True)
class Write:
    """One store: `value` (8 * size bits, little-endian) at a physical address."""

    address: z3.BitVecRef
    size: int
    value: z3.BitVecRef
    pages: Pages = None


@dataclass(frozen=True)
class RangeWrite:
    """`count` stores of `size` bytes each, `stride` bytes apart, the first at `address`.

    `value` may contain `index_symbol`, the number of the store, from 0 to count - 1. The stride is
    a power of two and not smaller than the size, so no store overlaps another one.
    """

    address: z3.BitVecRef
    size: int
    value: z3.BitVecRef
    count: int
    stride: int
    pages: Pages = None

    def value_at(self, index: z3.BitVecRef) -> z3.BitVecRef:
        """The value of store number `index` (64 bits)."""
        return simplify(z3.substitute(self.value, (index_symbol, index)))


Record = Write | RangeWrite


@dataclass(frozen=True)
class EntryImage:
    """The image's bytes as the target CPU finds them.

    `data` is what the host copied; offsets in `unknown` hold anything; `words` are what the host
    filled in, offset to term of whole bytes.
    """

    data: bytes
    unknown: frozenset[int]
    words: Mapping[int, z3.BitVecRef]


class Memory:
    """A log of records over the memory at entry. Appending gives a new Memory."""

    def __init__(self, base: Base, image: EntryImage, records: tuple[Record, ...] = ()) -> None:
        self.base = base
        self.image = image
        self.records = records

    def append(self, record: Record) -> Memory:
        """The memory after one more write."""
        return Memory(self.base, self.image, (*self.records, record))

    def before(self, length: int) -> Memory:
        """The memory as it was when the log had `length` records."""
        return Memory(self.base, self.image, self.records[:length])

    def read(
        self,
        address: z3.BitVecRef,
        size: int,
        possible: Possible = by_syntax,
        pages: Pages = None,
    ) -> z3.BitVecRef:
        """The `size` bytes at a 64-bit physical address, little-endian, as an 8 * size bit term.

        `pages`, if given, are those in which all of these bytes lie for sure.
        """
        return simplify(self._read(address, size, len(self.records), possible, pages))

    def written_after(
        self, address: z3.BitVecRef, size: int, possible: Possible
    ) -> list[z3.BoolRef]:
        """When each of the writes that follow the last one to just these bytes may meet them."""
        found = []
        for record in reversed(self.records):
            if isinstance(record, Write) and record.size == size and record.address.eq(address):
                break
            if possible(hit := overlap(record, address, size)):
                found.append(hit)
        return found

    def _read(
        self, address: z3.BitVecRef, size: int, top: int, ask: Possible, pages: Pages
    ) -> z3.BitVecRef:
        offset = self.base.offset_of(address)
        for position in reversed(range(top)):
            record = self.records[position]
            start = self.base.offset_of(record.address)
            if pages is not None and record.pages is not None and not pages & record.pages:
                continue
            if offset is not None and start is not None:
                found = _by_distance(record, offset - start, size)
            elif z3.is_bv_value(apart := simplify(address - record.address)):
                found = _by_distance(record, apart.as_signed_long(), size)
            else:
                found = self._by_term(record, address, size, ask, apart)
            if found is None:
                continue
            if found is _SPLIT:
                half = size // 2
                return z3.Concat(
                    self._read(simplify(address + half), size - half, position + 1, ask, pages),
                    self._read(address, half, position + 1, ask, pages),
                )
            assert isinstance(found, tuple)
            hit, value = found
            if hit is None or self._fills(record, start, pages) or not ask(z3.Not(hit)):
                return value
            return z3.If(hit, value, self._read(address, size, position, ask, pages))
        return self._at_entry(address, offset, size)

    def _by_term(
        self,
        record: Record,
        address: z3.BitVecRef,
        size: int,
        ask: Possible,
        distance: z3.BitVecRef,
    ) -> tuple[z3.BoolRef | None, z3.BitVecRef] | _Split | None:
        """What a record gives to a read when their distance is not constant."""
        if ask is not by_syntax and not ask(overlap(record, address, size)):
            return None
        fits = size & (size - 1) == 0 and size <= record.size and record.size % size == 0
        if size > 1 and not (
            fits and self.aligned(address, size, ask) and self.aligned(record.address, size, ask)
        ):
            return _SPLIT
        if isinstance(record, Write):
            if size == record.size:  # both aligned: the same or apart
                return simplify(address == record.address), record.value
            hit = z3.ULT(distance, const(record.size))
            return hit, _lane(record.value, distance, size)
        lane = simplify(distance & const(record.stride - 1))
        hit = z3.ULT(distance, const(record.count * record.stride))
        if record.size < record.stride:
            hit = z3.And(hit, z3.ULT(lane, const(record.size)))
        index = simplify(z3.LShR(distance, const(record.stride.bit_length() - 1)))
        return hit, _lane(record.value_at(index), lane, size)

    @staticmethod
    def _fills(record: Record, start: int | None, pages: Pages) -> bool:
        """The record writes every byte of all these pages."""
        if pages is None or start is None or not isinstance(record, RangeWrite):
            return False
        dense = record.stride == record.size
        return dense and all(
            start <= page and page + PAGE <= start + span_of(record) for page in pages
        )

    def aligned(self, address: z3.BitVecRef, size: int, ask: Possible = by_syntax) -> bool:
        """The address is for sure a multiple of `size`, a power of two."""
        offset = self.base.offset_of(address)
        if offset is not None:
            return offset % size == 0  # the base is page aligned
        if size == 1:
            return True
        bits = size.bit_length() - 1
        rest = simplify(z3.Extract(bits - 1, 0, address))
        return number(rest) == 0 or not ask(rest != 0)

    def _at_entry(self, address: z3.BitVecRef, offset: int | None, size: int) -> z3.BitVecRef:
        word = self.image.words.get(offset) if offset is not None else None
        if word is not None and word.size() == 8 * size:
            return word
        if offset is not None and self._constant_at_entry(range(offset, offset + size)):
            content = self.image.data[offset : offset + size]
            return const(int.from_bytes(content, "little"), 8 * size)
        parts = [
            self._byte_at_entry(simplify(address + i), None if offset is None else offset + i)
            for i in reversed(range(size))
        ]
        return z3.Concat(*parts) if size > 1 else parts[0]

    def _constant_at_entry(self, part: range) -> bool:
        """All these offsets are bytes of the image whose content is known."""
        inside = part.start >= 0 and part.stop <= len(self.image.data)
        mailbox = any(word < part.stop and part.start < word + 8 for word in self.image.words)
        return inside and not mailbox and self.image.unknown.isdisjoint(part)

    def _byte_at_entry(self, address: z3.BitVecRef, offset: int | None) -> z3.BitVecRef:
        if offset is not None and 0 <= offset < len(self.image.data):
            for start, word in self.image.words.items():
                if start <= offset < start + word.size() // 8:
                    low = 8 * (offset - start)
                    return z3.Extract(low + 7, low, word)
            if offset not in self.image.unknown:
                return const(self.image.data[offset], 8)
        return z3.Select(ENTRY_MEMORY, address)


class _Split:
    """Says that a read must be cut in halves before this record can be applied to it."""


_SPLIT = _Split()


def span_of(record: Record) -> int:
    """Bytes from the first one written to the last, both included."""
    if isinstance(record, RangeWrite):
        return record.stride * (record.count - 1) + record.size
    return record.size


def overlap(record: Record, address: z3.BitVecRef, size: int) -> z3.BoolRef:
    """The record may write one of the `size` bytes at `address` (gaps of a stride count too)."""
    length = span_of(record)
    distance = address - record.address
    return z3.Or(z3.ULT(distance, const(length)), z3.ULT(-distance, const(size)))


def _by_distance(
    record: Record, distance: int, size: int
) -> tuple[None, z3.BitVecRef] | _Split | None:
    """What a record gives to a read that begins so many bytes behind it, or before it."""
    if isinstance(record, Write):
        if distance >= record.size or distance + size <= 0:
            return None
        if distance >= 0 and distance + size <= record.size:
            return None, _extract(record.value, distance, size)
        return _SPLIT
    if distance >= span_of(record) or distance + size <= 0:
        return None
    index, lane = divmod(distance, record.stride)
    if distance >= 0 and lane + size <= record.size:
        return None, _extract(record.value_at(const(index)), lane, size)
    if lane >= record.size and lane + size <= record.stride:
        return None
    return _SPLIT


def _extract(value: z3.BitVecRef, byte: int, size: int) -> z3.BitVecRef:
    if byte == 0 and 8 * size == value.size():
        return value
    return z3.Extract(8 * (byte + size) - 1, 8 * byte, value)


def _lane(value: z3.BitVecRef, distance: z3.BitVecRef, size: int) -> z3.BitVecRef:
    """The `size` bytes of a value that begin `distance` bytes into it."""
    result = _extract(value, 0, size)
    for byte in range(size, value.size() // 8, size):
        result = z3.If(distance == byte, _extract(value, byte, size), result)
    return result
