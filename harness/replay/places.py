# SPDX-License-Identifier: GPL-2.0-only
"""Names for addresses of one concrete run: symbols of the image, entries of its page tables."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import z3

from harness.x86.terms import const, number, simplify
from models.modes import EFER_NXE
from models.paging import PAGE_SIZE, PRESENT, Access, Paging, Translation, walk
from trampoline.image import Image

PAGE = 0x1000
ENTRY = 8  # bytes of a paging-structure entry
TABLES = ("PML4", "PDPT", "PD", "PT")
FRAME = 0x000F_FFFF_FFFF_F000
"""Bits 51:12 of CR3 or of an entry: the physical address of a table."""


def symbol_before(image: Image, offset: int) -> str:
    """The symbol at an image offset, or the nearest one before it and the distance."""
    name, start = max(
        ((n, o) for n, o in image.symbols.items() if o <= offset),
        key=lambda item: item[1],
        default=("", 0),
    )
    return name if start == offset else f"{name}+{offset - start:#x}"


def source_of(image: Image, offset: int) -> str:
    """Source file and line of an image offset, empty without a line table."""
    index = bisect_right([start for start, _, _ in image.lines], offset) - 1
    if index < 0:
        return ""
    _, file, line = image.lines[index]
    return f"{file}:{line}"


class Places:
    """Names of physical addresses. `data` is the image in memory, once the path has ended.

    Page tables are found by following every entry from each of the values of CR3, the last one
    first; 4-level paging, as nothing else is modelled. Tables outside the image get no name.
    """

    def __init__(self, image: Image, base: int, data: bytes, roots: Iterable[int]) -> None:
        self.image = image
        self.base = base
        self.data = data
        self._tables: dict[int, str] = {}  # page of the image to name
        for root in roots:
            self._find_tables(root, "", 0)

    def _find_tables(self, physical: int, parent: str, level: int) -> None:
        page = (physical & FRAME) - self.base
        if not 0 <= page <= len(self.data) - PAGE or page in self._tables:
            return
        self._tables[page] = name = parent + TABLES[level]
        for index in range(PAGE // ENTRY if level + 1 < len(TABLES) else 0):
            entry = self.entry(self.base + page + ENTRY * index)
            assert entry is not None
            maps_page = level > 0 and entry >> PAGE_SIZE & 1
            if entry >> PRESENT & 1 and not maps_page:
                self._find_tables(entry, f"{name}[{index}].", level + 1)

    def entry(self, physical: int) -> int | None:
        """The 8 bytes at an address in the image; None outside of it."""
        offset = physical - self.base
        if not 0 <= offset <= len(self.data) - ENTRY:
            return None
        return int.from_bytes(self.data[offset : offset + ENTRY], "little")

    def symbol(self, physical: int) -> str:
        """Symbol and distance; "" outside the image."""
        offset = physical - self.base
        return symbol_before(self.image, offset) if 0 <= offset < len(self.data) else ""

    def table_entry(self, physical: int) -> str:
        """The way of a walk to the entry, such as PML4[0].PDPT[3]; "" where there is no table."""
        offset = physical - self.base
        table = self._tables.get(offset & -PAGE)
        if table is None:
            return ""
        index, byte = divmod(offset % PAGE, ENTRY)
        return f"{table}[{index}]" + (f" byte {byte}" if byte else "")

    def name(self, physical: int) -> str:
        """Table entry, symbol or, outside the image, the address alone."""
        where = self.table_entry(physical) or self.symbol(physical)
        return where or f"{physical:#x} (outside the image)"


def walk_words(
    places: Places, linear: int, cr3: int, efer: int, gib_pages: int, maxphyaddr: int
) -> str:
    """The entries that a walk for a linear address uses at the end of the path, and its outcome.

    Writing is judged as under CR0.WP. Values are those of the registers, 64 bits each.
    """
    paging = Paging(
        cr3=const(cr3),
        levels=4,
        write_protect=z3.BoolVal(True),
        no_execute=z3.BoolVal(bool(efer & EFER_NXE)),
        gib_pages=z3.BoolVal(bool(gib_pages)),
        maxphyaddr=const(maxphyaddr),
    )
    outside = []

    def read_entry(address: z3.BitVecRef) -> z3.BitVecRef:
        physical = number(simplify(address))
        assert physical is not None
        if (entry := places.entry(physical)) is None:
            outside.append(physical)
        return const(entry or 0)

    walks = {kind: walk(const(linear), kind, paging, read_entry) for kind in Access}
    reading = walks[Access.READ]
    used = [e for e in reading.entries if _true(e.used)]
    way = [f"{places.name(_int(e.address))} = {_int(e.value):#x}" for e in used]
    if any(_int(e.address) in outside for e in used):
        end = "through a table outside the image"
    else:
        end = ", ".join(_outcome(walks))
    return f"{linear:#x}: {', '.join((*way, end))}"


def _outcome(walks: dict[Access, Translation]) -> Iterator[str]:
    reading = walks[Access.READ]
    if _true(reading.non_canonical):
        yield "not canonical"
    elif _true(reading.not_present):
        yield "not present"
    elif _true(reading.reserved):
        yield "a reserved bit is set"
    else:
        yield f"mapped to {_int(reading.physical):#x}"
        yield from (f"no {kind.words}" for kind in Access if _true(walks[kind].rights))


def _true(condition: z3.BoolRef) -> bool:
    return bool(z3.is_true(simplify(condition)))


def _int(term: z3.BitVecRef) -> int:
    return int(simplify(term).as_long())
