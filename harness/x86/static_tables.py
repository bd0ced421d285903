# SPDX-License-Identifier: GPL-2.0-only
"""Page tables that are assembled into the image, as writes at the begin of the log.

A walk reads entries at symbolic addresses. What the image holds there is known, and as writes it is
seen by such reads: equal steps become one range write, so that a static table costs one record.
"""

from __future__ import annotations

from harness.x86.memory import PAGE, Memory, RangeWrite, Write
from harness.x86.terms import const, index_symbol

ENTRY = 8  # bytes of a paging-structure entry


def static_tables(memory: Memory, tables: range) -> Memory:
    """The memory with the known entries in `tables` (image offsets) written out."""
    image = memory.image
    filled_in = {
        byte
        for start, word in image.words.items()
        for byte in range(start, start + word.size() // 8)
    }
    open_bytes = image.unknown | filled_in
    run: list[tuple[int, int]] = []  # (offset, entry), equal steps
    for offset in range(tables.start, tables.stop, ENTRY):
        if not open_bytes.isdisjoint(range(offset, offset + ENTRY)):
            memory, run = _write(memory, run), []
            continue
        entry = int.from_bytes(image.data[offset : offset + ENTRY], "little")
        if run and not _continues(run, offset, entry):
            memory, run = _write(memory, run), []
        run.append((offset, entry))
    return _write(memory, run)


def _continues(run: list[tuple[int, int]], offset: int, entry: int) -> bool:
    if offset != run[-1][0] + ENTRY:
        return False
    return len(run) == 1 or entry - run[-1][1] == run[1][1] - run[0][1]


def _write(memory: Memory, run: list[tuple[int, int]]) -> Memory:
    if not run:
        return memory
    (offset, first), count = run[0], len(run)
    pages = frozenset(range(offset & -PAGE, offset + count * ENTRY, PAGE))
    address = memory.base.at(offset)
    if count == 1:
        return memory.append(Write(address, ENTRY, const(first), pages))
    value = const(first) + index_symbol * const(run[1][1] - first)
    return memory.append(RangeWrite(address, ENTRY, value, count, ENTRY, pages))
