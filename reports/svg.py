# SPDX-License-Identifier: GPL-2.0-only
"""Drawings for the page: drawsvg's, with the page's colours, and an axis of addresses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import drawsvg
from markupsafe import Markup

WIDTH = 920
"""Of every drawing, in its own units; the page scales it."""
LINE = 18
"""Height of a line of text."""
UNITS = ("", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB")


def canvas(height: float) -> drawsvg.Drawing:
    """An empty drawing."""
    return drawsvg.Drawing(WIDTH, height)


def text(words: str, x: float, y: float, **style: str) -> drawsvg.Text:
    """Text that begins at x, on the line at y, and changes with the page's colours."""
    return drawsvg.Text(words, 12, x, y, **style)


def told(shape: drawsvg.DrawingElement, words: str) -> drawsvg.DrawingElement:
    """The shape, with words that show when it is pointed at."""
    shape.append_title(words)
    return shape


def element(drawing: drawsvg.Drawing, label: str) -> Markup:
    """For a page: without a head and without identifiers, with a name for who cannot see it."""
    drawn = drawing.as_svg(header="")
    drawn = re.sub(r'\s(id|xmlns|xmlns:xlink)="[^"]*"', "", drawn[drawn.index("<svg") :])
    named = Markup('<svg role="img" aria-label="{}"').format(label)
    return Markup(drawn.replace("<svg", named, 1))


class Addresses:
    """A logarithmic axis from 2^`first` to 2^`last`, between two places of a drawing.

    What lies below its beginning is drawn at its beginning.
    """

    def __init__(self, first: int, last: int, left: float, right: float) -> None:
        """Both ends in powers of two."""
        self._first, self._last = first, last
        self._left, self._right = left, right

    def x(self, address: int) -> float:
        """Where an address is."""
        power = min(max(math.log2(max(address, 1)), self._first), self._last)
        share = (power - self._first) / (self._last - self._first)
        return self._left + share * (self._right - self._left)

    def bar(self, low: int, end: int, y: float, height: float, name: str) -> drawsvg.Rectangle:
        """The addresses from `low` up to `end`, which is outside; never too small to be seen."""
        start = self.x(low)
        return drawsvg.Rectangle(start, y, max(self.x(end) - start, 2), height, class_=name)

    def ticks(self, y: float, height: float) -> Iterable[drawsvg.DrawingElement]:
        """Lines at powers of 1024 and at both ends, with their names below."""
        powers = {self._first, self._last, *range(0, self._last, 10)}
        for power in sorted(one for one in powers if one >= self._first):
            x = self.x(1 << power)
            anchor = "end" if power == self._last else "middle"
            name = f"{1 << power % 10}{UNITS[power // 10]}"
            yield drawsvg.Line(x, y, x, y + height, class_="axis")
            yield text(name, x, y + height + 14, text_anchor=anchor)
