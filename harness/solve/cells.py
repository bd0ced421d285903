# SPDX-License-Identifier: GPL-2.0-only
"""Write a partition of the inputs with few boxes, the same however it was found.

The limits of all boxes cut each coordinate into intervals; a *cell* has one interval of each. Cells
without inputs are left out, so that a box may reach over them. Limits that no part needs go first.
Then each part is covered by boxes that are as wide as possible. Nothing is proved here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import z3

from harness.solve.region import Box, Coordinate, box_of, either
from harness.solve.throughout import Throughout

MAX_BOXES = 50_000  # combinations of intervals to look at; a second or two
Cell = tuple[int, ...]
"""The number of an interval for each coordinate."""
Ranges = tuple[tuple[int, int], ...]
"""First and last interval for each coordinate."""


def few_boxes(
    claim: Throughout, coordinates: Sequence[Coordinate], parts: Sequence[Sequence[Box]]
) -> list[list[Box]]:
    """Each part (a union of boxes) anew. Together they cover the domain and do not overlap."""
    starts = [_starts(c, [box for part in parts for box in part]) for c in coordinates]
    cells = _cells(claim, coordinates, starts, parts)
    while (less := _without_one(coordinates, starts, cells)) is not None:
        starts, cells = less
    result = []
    for number in range(len(parts)):
        ranges = _cover(starts, cells, number)
        result.append([_box(coordinates, starts, ranges_of_box) for ranges_of_box in ranges])
    return result


def _starts(coordinate: Coordinate, boxes: Sequence[Box]) -> list[int]:
    """The first value of each interval, ascending."""
    bounds = [b for box in boxes for b in box.bounds if b.coordinate == coordinate]
    starts = {0, *(b.low for b in bounds), *(b.high + 1 for b in bounds)}
    return sorted(start for start in starts if start <= coordinate.top)


def _cells(
    claim: Throughout,
    coordinates: Sequence[Coordinate],
    starts: Sequence[Sequence[int]],
    parts: Sequence[Sequence[Box]],
) -> dict[Cell, int]:
    """The cells in which there are inputs, each with the number of its part."""
    found: dict[Cell, int] = {}
    boxes: list[Box] = []
    while (point := claim.member(z3.Not(either(boxes)))) is not None:
        values = {c.name: claim.value(c.term, point) for c in coordinates}
        cell = tuple(
            bisect_right(s, values[c.name]) - 1 for c, s in zip(coordinates, starts, strict=True)
        )
        found[cell] = next(
            number for number, part in enumerate(parts) if any(box.holds(values) for box in part)
        )
        boxes.append(_box(coordinates, starts, tuple((i, i) for i in cell)))
    return dict(sorted(found.items()))


def _box(coordinates: Sequence[Coordinate], starts: Sequence[Sequence[int]], ranges: Ranges) -> Box:
    limits = {
        c.name: (s[first], s[last + 1] - 1 if last + 1 < len(s) else c.top)
        for c, s, (first, last) in zip(coordinates, starts, ranges, strict=True)
    }
    return box_of(coordinates, limits)


def _without_one(
    coordinates: Sequence[Coordinate], starts: list[list[int]], cells: dict[Cell, int]
) -> tuple[list[list[int]], dict[Cell, int]] | None:
    """The cells without one limit that no part needs: the least round, of the last coordinate."""
    limits = [(at, number) for at, s in enumerate(starts) for number in range(1, len(s))]

    def digits(limit: tuple[int, int]) -> int:
        value = starts[limit[0]][limit[1]]
        return value.bit_length() - (value & -value).bit_length()

    for at, number in sorted(limits, key=lambda limit: (-digits(limit), -limit[0], limit[1])):
        merged: dict[Cell, int] = {}
        for cell, part in cells.items():
            index = cell[at] - (cell[at] >= number)
            if merged.setdefault((*cell[:at], index, *cell[at + 1 :]), part) != part:
                break
        else:
            kept = [[*s] for s in starts]
            del kept[at][number]
            return kept, dict(sorted(merged.items()))
    return None


def _cover(starts: Sequence[Sequence[int]], cells: dict[Cell, int], part: int) -> list[Ranges]:
    """Ranges that cover the cells of one part and no other, in a fixed order."""
    order = list(cells)
    wanted = sum(1 << i for i, cell in enumerate(order) if cells[cell] == part)
    widest = _widest(starts, order, wanted)
    chosen: list[int] = []
    left = wanted
    while left:
        mask = max(widest, key=lambda m: ((m & left).bit_count(), -_size(starts, widest[m])))
        chosen.append(mask)
        left &= ~mask
    for mask in reversed(chosen):
        others = [other for other in chosen if other != mask]
        union = 0
        for other in others:
            union |= other
        if wanted & ~union == 0:
            chosen = others
    return sorted(widest[mask] for mask in chosen)


def _widest(
    starts: Sequence[Sequence[int]], order: Sequence[Cell], wanted: int
) -> dict[int, Ranges]:
    """Sets of wanted cells (a bit for each) that boxes have and no larger box has, with the box."""
    found: dict[int, Ranges] = {}
    for count, (mask, ranges) in enumerate(_boxes(starts, order)):
        if count == MAX_BOXES:
            break
        if mask & ~wanted == 0:
            best = found.setdefault(mask, ranges)
            if _size(starts, ranges) < _size(starts, best):
                found[mask] = ranges
    largest: dict[int, Ranges] = {}
    for mask in sorted(found, key=lambda m: (-m.bit_count(), found[m])):
        if not any(mask & ~larger == 0 for larger in largest):
            largest[mask] = found[mask]
    return largest


def _boxes(starts: Sequence[Sequence[int]], order: Sequence[Cell]) -> Iterator[tuple[int, Ranges]]:
    """Every box on the grid that has a cell: single cells, then all others, the widest first."""
    everything = (1 << len(order)) - 1
    for i, cell in enumerate(order):
        yield 1 << i, tuple((index, index) for index in cell)
    choices: list[list[tuple[int, tuple[int, int]]]] = []
    for at, s in enumerate(starts):
        of = [sum(1 << i for i, cell in enumerate(order) if cell[at] == n) for n in range(len(s))]
        some = [
            (sum(of[first : last + 1]), (first, last))
            for first in range(len(s))
            for last in range(first, len(s))
        ]
        choices.append(sorted(some, key=lambda c: (c[1][0] - c[1][1], c[1][0])))

    def extend(at: int, mask: int, ranges: Ranges) -> Iterator[tuple[int, Ranges]]:
        if at == len(choices):
            yield mask, ranges
            return
        for of_range, limits in choices[at]:
            if mask & of_range:
                yield from extend(at + 1, mask & of_range, (*ranges, limits))

    yield from extend(0, everything, ())


def _size(starts: Sequence[Sequence[int]], ranges: Ranges) -> int:
    """How many numbers it takes to write a box."""
    return sum(
        (first > 0) + (last < len(s) - 1) for s, (first, last) in zip(starts, ranges, strict=True)
    )
