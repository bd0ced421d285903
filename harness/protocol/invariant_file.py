# SPDX-License-Identifier: GPL-2.0-only
"""An invariant as a text that people can read, and back.

Each lemma: a line that names its features, then lines "values: last values", one for each choice of
the features before the last, with all values that the last one may then have. What is not listed
cannot happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from harness.protocol.invariant import Invariant, Lemma

_TRUTH = {"yes": True, "no": False}


def text(invariant: Invariant) -> str:
    """The invariant in lines."""
    return "".join(f"{line}\n" for lemma in invariant.lemmas for line in _lines(lemma))


def parse(lines: str) -> Invariant:
    """The invariant of a text. ValueError: it is none; the message has the line."""
    lemmas: list[Lemma] = []
    for number, line in enumerate(lines.splitlines(), 1):
        if not line.startswith("  "):
            lemmas.append(Lemma(tuple(line.split(", ")), ()))
            continue
        try:
            first, last = line.split(":")
            values = tuple(map(_value, filter(None, first.strip().split(", "))))
            rows = [(*values, _value(one)) for one in last.strip().split(", ")]
            lemma = lemmas.pop()
        except (ValueError, IndexError):
            raise ValueError(f"line {number} of the invariant cannot be read: {line}") from None
        if any(len(row) != len(lemma.features) for row in rows):
            raise ValueError(f"line {number} has not one value for each feature: {line}")
        lemmas.append(Lemma(lemma.features, (*lemma.allowed, *rows)))
    return Invariant(tuple(lemmas))


def _lines(lemma: Lemma) -> Iterator[str]:
    yield ", ".join(lemma.features)
    for first, rows in groupby(lemma.allowed, key=lambda row: row[:-1]):
        last = ", ".join(_shown(row[-1]) for row in rows)
        yield f"  {', '.join(map(_shown, first))}: {last}"


def _shown(value: int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return hex(value) if value > 0xFF else str(value)


def _value(shown: str) -> int:
    return _TRUTH[shown] if shown in _TRUTH else int(shown, 0)
