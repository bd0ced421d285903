# SPDX-License-Identifier: GPL-2.0-only
"""The memory that one start touches: a row for each page, a lane for what is done, a colour for
the mode of the code that does it."""

from __future__ import annotations

import drawsvg
from markupsafe import Markup

from harness.record import PictureRecord, StretchRecord
from reports.svg import LINE, WIDTH, canvas, element, text, told

PAGE = 0x1000
LANES = ("fetched", "read", "written")
LANE = 7  # height
ROW = LANE * len(LANES) + 9
LEFT = 250
SCALE = (WIDTH - LEFT - 5) / PAGE


def memory_map(picture: PictureRecord) -> Markup:
    """The drawing; it tells addresses and names where it is pointed at."""
    modes = list(dict.fromkeys(one.mode for one in picture.modes))
    pages = [int(one.start, 16) for one in picture.pages]
    top = LINE * (len(modes) + 1) + 8
    drawing = canvas(top + ROW * len(pages) + LINE)
    for number, mode in enumerate(modes):
        y = LINE * number
        drawing.append(drawsvg.Rectangle(0, y + 3, 24, 10, class_=f"mode{number}"))
        count = sum(one.instructions for one in picture.modes if one.mode == mode)
        drawing.append(text(f"{mode}, instructions: {count}", 32, y + 13))
    said = f"in each row from the top: {', '.join(LANES)}; a row is a page of 4 KiB"
    drawing.append(text(said, 0, LINE * len(modes) + 14))
    for number, row in enumerate(picture.pages):
        y = top + ROW * number
        named = row.where or "outside the image"
        drawing.append(text(f"{row.start} {named}", 0, y + LANE * 2 + 2))
        drawing.append(drawsvg.Rectangle(LEFT, y, PAGE * SCALE, LANE * len(LANES), class_="empty"))
    for one in picture.stretches:
        start, end = int(one.start, 16), int(one.end, 16)
        for page in _pages(one):
            low, high = max(start, page), min(end, page + PAGE)
            x = LEFT + (low - page) * SCALE
            y = top + ROW * pages.index(page) + LANE * LANES.index(one.what)
            bar = drawsvg.Rectangle(
                x, y, max((high - low) * SCALE, 2), LANE, class_=f"mode{modes.index(one.mode)}"
            )
            words = f"{one.start} to {end - 1:#x} {one.what} in {one.mode} {one.where}".rstrip()
            drawing.append(told(bar, words))
    return element(drawing, "memory that one start touches")


def _pages(one: StretchRecord) -> range:
    """The addresses of the pages in which it lies."""
    return range(int(one.start, 16) & -PAGE, int(one.end, 16), PAGE)
