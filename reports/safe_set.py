# SPDX-License-Identifier: GPL-2.0-only
"""A safe set drawn over the address space: what each of its boxes leaves of an address."""

from __future__ import annotations

from itertools import groupby

import drawsvg
from markupsafe import Markup

from harness.record import RangeRecord, SafeSetRecord
from reports.svg import LINE, WIDTH, Addresses, canvas, element, text, told

FIRST, BITS = 12, 64
LEFT = 130
LEGEND = "a row for each part; pale: on further conditions; the axis is logarithmic"
PARTS = {"inside": "holds", "outside": "fails", "unknown": "not known"}


def safe_set(found: SafeSetRecord) -> Markup | None:
    """For each address that a box restricts one axis, and on it a bar for each box that does; pale
    where the box restricts something else, too. None if no box restricts an address."""
    restricting = [one for one in found.ranges if one.alone or not _is_everything(one)]
    groups = [
        (quantity, list(ranges))
        for quantity, ranges in groupby(restricting, key=lambda one: one.quantity)
    ]
    if not groups:
        return None
    drawing = canvas(LINE + sum(LINE * (len(ranges) + 3) for _, ranges in groups))
    drawing.append(text(LEGEND, 0, 13))
    axis = Addresses(FIRST, BITS, LEFT, WIDTH - 20)
    y = LINE
    for quantity, ranges in groups:
        drawing.append(text(quantity, 0, y + 13, font_weight="bold"))
        for one in ranges:
            y += LINE
            drawing.append(text(PARTS[one.part], 0, y + 13))
            drawing.append(told(_bar(axis, one, y + 3), _words(one)))
        drawing.extend(axis.ticks(y + LINE, 6))
        y += 3 * LINE
    return element(drawing, "the safe set over the address space")


def _is_everything(one: RangeRecord) -> bool:
    return int(one.low, 16) == 0 and int(one.high, 16) == (1 << BITS) - 1


def _bar(axis: Addresses, one: RangeRecord, y: float) -> drawsvg.Rectangle:
    name = one.part if one.alone else f"{one.part} partly"
    return axis.bar(int(one.low, 16), int(one.high, 16) + 1, y, 12, name)


def _words(one: RangeRecord) -> str:
    more = "" if one.alone else ", and on a further condition"
    return f"{PARTS[one.part]}: {one.quantity} from {one.low} to {one.high}{more}"
