# SPDX-License-Identifier: GPL-2.0-only
"""How long each night took, and how it ended, over the last nights."""

from __future__ import annotations

from collections.abc import Sequence

import drawsvg
from markupsafe import Markup

from reports.nights import Entry
from reports.svg import LINE, WIDTH, canvas, element, text, told

MOST = 30
HEIGHT = 90
ENDS = {0: "as expected", 1: "found or changed", 2: "not decided", 3: "contradicted"}
TONES = {0: "inside", 1: "known", 2: "unknown", 3: "outside"}


def trend(nights: Sequence[Entry]) -> Markup | None:
    """A bar for each of the last nights, as high as it took long; None before the second night."""
    shown = nights[-MOST:]
    if len(shown) < 2:
        return None
    longest = max(night.seconds for night in shown) or 1
    step = WIDTH / len(shown)
    drawing = canvas(HEIGHT + 3 * LINE)
    drawing.append(text(f"longest: {longest / 60:.0f} min", 0, 13))
    for number, night in enumerate(shown):
        height = max(HEIGHT * night.seconds / longest, 2)
        y = LINE + HEIGHT - height
        bar = drawsvg.Rectangle(
            step * number + 1, y, step - 2, height, class_=TONES.get(night.status, "unknown")
        )
        drawing.append(told(bar, _words(night)))
    for night, x, anchor in ((shown[0], 0, "start"), (shown[-1], WIDTH, "end")):
        drawing.append(text(night.name, x, HEIGHT + 2 * LINE, text_anchor=anchor))
    return element(drawing, "the last nights")


def _words(night: Entry) -> str:
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in night.verdicts.items())
    changed = "nothing to compare with"
    if night.changes is not None:
        changed = f"{len(night.changes)} changes"
    end = ENDS.get(night.status, f"status {night.status}")
    return f"{night.name}: {night.seconds / 60:.0f} min, {end}; {verdicts}; {changed}"
