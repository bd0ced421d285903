# SPDX-License-Identifier: GPL-2.0-only
"""A schedule as a sequence chart: host, CPUs and memory, time from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import drawsvg
from markupsafe import Markup

from harness.record import EventRecord
from reports.svg import LINE, WIDTH, canvas, element, text, told

MEMORY = "memory"
VISIBLE = "a store becomes visible"
TO_MEMORY = (VISIBLE, "xchg", "lock cmpxchg")
STORE = "store"
FROM_MEMORY = ("load",)
TO_CPU = ("INIT", "SIPI")
"""As they stand in an event; what else follows says that it does not reach the CPU."""
BEGIN = "begin: "
"""Begins an attempt, and names the CPU that it is for."""
LAST = {"font_weight": "bold"}
"""The last step, after which the claim is broken, whatever comes then."""


def sequence(events: Sequence[EventRecord]) -> Markup:
    """Each event beside the line of who does it; an arrow for what reaches memory, comes from
    there, or is sent to a CPU. A line begins each further attempt; with the last
    step the claim is broken."""
    targets = [one.what.removeprefix(BEGIN) for one in events if one.what.startswith(BEGIN)]
    who = list(dict.fromkeys((*(one.who for one in events), *targets, MEMORY)))
    who.sort(key=lambda name: (name != "host", name == MEMORY, name))
    step = WIDTH / len(who)
    lane = {name: step * (number + 0.5) for number, name in enumerate(who)}
    top, height = LINE + 8, LINE + 4
    bottom = top + height * len(events) + 6
    drawing = canvas(bottom + 4)
    for name, x in lane.items():
        drawing.append(text(name, x, 14, text_anchor="middle", font_weight="bold"))
        drawing.append(drawsvg.Line(x, top - 4, x, bottom, class_="axis"))
    target, attempts = "", Counter[str]()
    buffered = {one.who for one in events if one.what.startswith(VISIBLE)}
    for number, one in enumerate(events):
        y, x = top + height * number + LINE, lane[one.who]
        if one.what.startswith(BEGIN):
            target = one.what.removeprefix(BEGIN)
            attempts[target] += 1
            if attempts.total() > 1:
                drawing.append(drawsvg.Line(0, y - LINE, WIDTH, y - LINE, class_="axis"))
        other = _other(one, target, one.who in buffered)
        if other in lane:
            back = one.what.startswith(FROM_MEMORY)
            start, end = (lane[other], x) if back else (x, lane[other])
            drawing.extend(_arrow(start, end, y))
        else:
            drawing.append(drawsvg.Circle(x, y - 4, 3, class_="event"))
        words = f"{number + 1}. {one.what}"
        if one.what.startswith(BEGIN):
            words += f" (attempt {attempts[target]})"
        shown = text(words, x + 8, y - 6, **(LAST if number + 1 == len(events) else {}))
        drawing.append(told(shown, f"{words} {one.where}".rstrip()))
    return element(drawing, "sequence chart of the schedule")


def _other(one: EventRecord, target: str, buffered: bool) -> str:
    """Whom an event has to do with beside who does it; "" if nobody. `buffered`: its stores go into
    a store buffer, and later events tell when they reach memory."""
    if one.what.startswith(TO_MEMORY + FROM_MEMORY):
        return MEMORY
    if one.what.startswith(STORE) and not buffered:
        return MEMORY
    if one.who == "host" and one.what in TO_CPU:
        return target
    return ""


def _arrow(start: float, end: float, y: float) -> tuple[drawsvg.DrawingElement, ...]:
    back = -6 if end > start else 6
    head = drawsvg.Lines(end, y, end + back, y - 4, end + back, y + 4, close=True, class_="event")
    return drawsvg.Line(start, y, end, y, class_="event"), head
