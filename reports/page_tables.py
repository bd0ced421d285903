# SPDX-License-Identifier: GPL-2.0-only
"""What the page tables map when a start ends, drawn over all linear addresses."""

from __future__ import annotations

from markupsafe import Markup

from harness.record import MappingRecord, PictureRecord
from reports.svg import LINE, WIDTH, Addresses, canvas, element, text, told

FIRST = 12  # the axis begins at the end of the first page
BITS = 48
BITS_LA57 = 57
BAR = 12
ROW = 2 * LINE + 6


def page_tables(picture: PictureRecord) -> Markup:
    """A bar for each stretch of addresses, at the bits of them that are translated; green where an
    address is mapped to itself."""
    mapped = picture.mappings
    bits = BITS_LA57 if any(one.entries.startswith("PML5") for one in mapped) else BITS
    axis = Addresses(FIRST, bits, 20, WIDTH - 20)
    drawing = canvas(ROW * len(mapped) + 2 * LINE + 6)
    for number, one in enumerate(mapped):
        y, start = ROW * number, int(one.start, 16)
        low = start % (1 << bits)  # the bits above these are all as the highest of them
        high = low + int(one.end, 16) - start
        words = _words(one)
        tone = "same" if one.physical == one.start else "other"
        drawing.append(text(words, 20, y + 12))
        drawing.append(told(axis.bar(low, high, y + LINE, BAR, tone), words))
    drawing.extend(axis.ticks(ROW * len(mapped), 6))
    return element(drawing, "what the page tables map")


def _words(one: MappingRecord) -> str:
    where = "to itself" if one.physical == one.start else f"to {one.physical}"
    unit = {1 << 12: "4 KiB", 1 << 21: "2 MiB", 1 << 30: "1 GiB"}[one.page]
    last = int(one.end, 16) - 1
    return f"{one.start} to {last:#x} {where}, {one.rights}, pages of {unit}, by {one.entries}"
