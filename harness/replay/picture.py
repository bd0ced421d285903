# SPDX-License-Identifier: GPL-2.0-only
"""What one everyday start does to memory, for the report's pictures: nothing is proved with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import NamedTuple

from harness.record import (
    MappingRecord,
    ModeRecord,
    PageRecord,
    PictureRecord,
    StretchRecord,
)
from harness.replay.changes import Concrete
from harness.replay.places import ENTRY, FRAME, PAGE, symbol_before
from harness.replay.predict import Prediction, Predictor
from harness.x86.lift import MAX_LENGTH, lift
from models.modes import CR4_LA57, Mode
from models.paging import EXECUTE_DISABLE, PAGE_SIZE, PRESENT, WRITABLE

TABLES = ("PT", "PD", "PDPT", "PML4", "PML5")
"""By level, from the last one on (SDM vol. 3A 4.5)."""
ENTRIES = PAGE // ENTRY
TABLES_MAX = 64  # tables that are looked into
FETCHED, READ, WRITTEN = "fetched", "read", "written"
_KINDS = {
    "load": (READ,),
    "descriptor": (READ,),
    "store": (WRITTEN,),
    "accessed": (WRITTEN,),
    "locked": (READ, WRITTEN),
}
"""What a kind of access does (run.Access)."""


class _Leaf(NamedTuple):
    """One translation: linear addresses, the physical one of the first, the entry's place."""

    start: int
    size: int
    physical: int
    level: int
    way: tuple[int, ...]  # indices, the top level's first
    rights: str


def picture(
    predictor: Predictor, prediction: Prediction, inputs: Mapping[str, str]
) -> PictureRecord:
    """The modes that a start goes through, the memory that it touches, and what is mapped at its
    end. `inputs`: what the host has chosen for it, to be told."""
    end, cut_off = prediction.end, False
    leaves: list[_Leaf] = []
    if end.paged:
        registers = prediction.registers()
        levels = 5 if registers["cr4"] & CR4_LA57 else 4
        leaves, cut_off = _leaves(registers["cr3"], levels, prediction.byte_at_end)
    modes = [Mode[name] for _, name in end.trace]
    base, image = prediction.given.base, predictor.image
    stretches = tuple(_stretches(predictor, prediction))
    touched = {
        page
        for one in stretches
        for page in range(int(one.start, 16) & -PAGE, int(one.end, 16), PAGE)
    }
    return PictureRecord(
        inputs=dict(inputs),
        pages=tuple(
            PageRecord(
                start=f"{page:#x}",
                where=symbol_before(image, page - base)
                if 0 <= page - base < len(image.data)
                else "",
            )
            for page in sorted(touched)
        ),
        own_tables=end.paged and end.host_tables is None,
        modes=tuple(
            ModeRecord(mode=mode.value, instructions=len(list(group)))
            for mode, group in groupby(modes)
        ),
        base=f"{base:#x}",
        size=len(prediction.entry),
        stretches=stretches,
        mappings=tuple(_mappings(leaves)),
        cut_off=cut_off,
    )


def _stretches(predictor: Predictor, prediction: Prediction) -> Iterator[StretchRecord]:
    """What is fetched, read and written, by which mode, in order of address."""
    end, concrete = prediction.end, Concrete(prediction)
    data = predictor.image.data
    touched: dict[tuple[str, str], list[range]] = {}
    for number, (offset, name) in enumerate(end.trace):
        mode, origin = Mode[name], concrete.value(end.history[number].origin)
        length = lift(data[offset : offset + MAX_LENGTH], offset, mode.bits).length
        start = origin + offset
        touched.setdefault((FETCHED, mode.value), []).append(range(start, start + length))
    for access in end.accesses:
        first = concrete.value(access.linear)
        parts = [
            range(at, at + access.size)
            for at in (first + access.stride * number for number in range(access.count))
        ]
        for what in _KINDS[access.kind]:
            touched.setdefault((what, access.mode.value), []).extend(parts)
    found = [
        (part, what, mode) for (what, mode), parts in touched.items() for part in _merged(parts)
    ]
    for part, what, by in sorted(found, key=lambda one: (one[0].start, one[0].stop, one[1])):
        inside = 0 <= part.start - prediction.given.base < len(data)
        at = symbol_before(predictor.image, part.start - prediction.given.base) if inside else ""
        yield StretchRecord(
            start=f"{part.start:#x}", end=f"{part.stop:#x}", what=what, mode=by, where=at
        )


def _merged(parts: Sequence[range]) -> list[range]:
    """The same bytes as few ranges, in order."""
    found: list[range] = []
    for part in sorted(parts, key=lambda one: one.start):
        if found and part.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, part.stop))
        else:
            found.append(part)
    return found


def _mappings(leaves: Sequence[_Leaf]) -> Iterator[MappingRecord]:
    """What the tables map when the path ends, neighbours of one kind as one."""
    runs: list[list[_Leaf]] = []
    for leaf in sorted(leaves):
        if runs and _continues(runs[-1][-1], leaf):
            runs[-1].append(leaf)
        else:
            runs.append([leaf])
    for run in runs:
        first, last = run[0], run[-1]
        yield MappingRecord(
            start=f"{first.start:#x}",
            end=f"{last.start + last.size:#x}",
            physical=f"{first.physical:#x}",
            page=first.size,
            rights=first.rights,
            entries=_way(first, last),
        )


def _continues(before: _Leaf, leaf: _Leaf) -> bool:
    return (
        leaf.start == before.start + before.size
        and leaf.physical == before.physical + before.size
        and (leaf.level, leaf.rights) == (before.level, before.rights)
    )


def _leaves(
    cr3: int, levels: int, byte: Callable[[int], int], most: int = TABLES_MAX
) -> tuple[list[_Leaf], bool]:
    """Every present entry that maps a page, level by level from the lowest address on; and whether
    there are more tables than are looked into. Reserved bits are not looked at."""
    found: list[_Leaf] = []
    left: deque[tuple[int, int, tuple[int, ...], int, str]] = deque()
    left.append((cr3 & FRAME, levels, (), 0, "wx"))
    for _ in range(most):
        if not left:
            break
        table, level, way, base, rights = left.popleft()
        shift = 12 + 9 * (level - 1)
        for index in range(ENTRIES):
            at = table + ENTRY * index
            entry = int.from_bytes(bytes(byte(at + i) for i in range(ENTRY)), "little")
            if not entry >> PRESENT & 1:
                continue
            held = "".join(
                right
                for right, denied in (
                    ("w", not entry >> WRITABLE & 1),
                    ("x", entry >> EXECUTE_DISABLE & 1),
                )
                if right in rights and not denied
            )
            start, here = base + (index << shift), (*way, index)
            if level == 1 or (level <= 3 and entry >> PAGE_SIZE & 1):
                size = 1 << shift
                physical = entry & FRAME & -size
                linear = _canonical(start, levels)
                found.append(_Leaf(linear, size, physical, level, here, "r" + held))
            else:
                left.append((entry & FRAME, level - 1, here, start, held))
    return found, bool(left)


def _canonical(linear: int, levels: int) -> int:
    """With the bits above the translated ones as the highest of these (SDM vol. 1 3.3.7.1)."""
    bits = 12 + 9 * levels
    return linear | (((1 << 64) - (1 << bits)) if linear >> (bits - 1) else 0)


def _way(first: _Leaf, last: _Leaf) -> str:
    """The entries that lead to the first one, and to the last, as far as these are others: such as
    "PML4[0].PDPT[0].PD[0] to PDPT[3].PD[511]"."""
    top = first.level + len(first.way) - 1
    names = [TABLES[top - 1 - depth] for depth in range(len(first.way))]
    ways = [
        [f"{name}[{index}]" for name, index in zip(names, leaf.way, strict=True)]
        for leaf in (first, last)
    ]
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ways, strict=True)))
    other = ".".join(ways[1][same:])
    return ".".join(ways[0]) + (f" to {other}" if other else "")
