# SPDX-License-Identifier: GPL-2.0-only
"""An invariant as a text that people can read, and back.

Each lemma: a line that names its features, then lines "values: last values", one for each choice of
the features before the last, with all values that the last one may then have. What is not listed
cannot happen. Status words and what has a name in `models.protocol` stand there by name; a location
is a number. Lines that begin with "#" are for people only: the text's own say which location is
where in the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from harness.protocol.invariant import NAMES_A_CPU, Invariant, Lemma
from models.process import Location, Value
from models.protocol import (
    AFTER,
    ANOTHER,
    BEFORE,
    CURRENT,
    KERNEL,
    NO_VERDICT,
    NONE,
    OUTSIDE,
    TRACKED,
    VERDICT,
    WAITS,
    WORDS,
    Pair,
)

_TRUTH = {"no": False, "yes": True}
_ADDRESS = {"tracked": TRACKED, "another": ANOTHER}
_ATTEMPT = {"none": NONE, **_ADDRESS}
_NAMES: dict[str, dict[str, int]] = {
    "kernel": _ADDRESS,
    "boot_params": _ADDRESS,
    "phase": {"before": BEFORE, "current": CURRENT, "after": AFTER},
    "verdict": {"none": NO_VERDICT, **VERDICT},
    "cpu_at": {"outside": OUTSIDE, "waits": WAITS, "in the kernel": KERNEL},
    **dict.fromkeys(("cpu_kernel", "cpu_boot_params", "cpu_kick", "cpu_began"), _ATTEMPT),
}
_WORDS = {"no store": 0, **WORDS}
_RANGE = 10_000
"""A range of more values is a mistake."""
_OFFER = {"an offer": NAMES_A_CPU}


def text(invariant: Invariant, statuses: Mapping[str, int], pair: Pair | None = None) -> str:
    """The invariant in lines. `statuses`: names of status words, at least 0. `pair`: its locations
    are explained first."""
    lines = _legend(pair, statuses) if pair is not None else iter(())
    lemmas = (line for lemma in invariant.lemmas for line in _lines(lemma, statuses))
    return "".join(f"{line}\n" for line in (*lines, *lemmas))


def parse(lines: str, statuses: Mapping[str, int]) -> Invariant:
    """The invariant of a text. ValueError: it is none; the message has the line."""
    lemmas: list[Lemma] = []
    for number, line in enumerate(lines.splitlines(), 1):
        if line.startswith("#"):
            continue
        if not line.startswith("  "):
            lemmas.append(Lemma(tuple(line.split(", ")), ()))
            continue
        try:
            lemma = lemmas.pop()
            first, last = line.split(":")
            *before, behind = lemma.features
            chosen = tuple(filter(None, first.strip().split(", ")))
            values = tuple(
                _value(one, _names(name, statuses))
                for one, name in zip(chosen, before, strict=True)
            )
            rows = [
                (*values, value)
                for shown in last.strip().split(", ")
                for value in _values(shown, _names(behind, statuses))
            ]
        except (ValueError, IndexError):
            raise ValueError(f"line {number} of the invariant cannot be read: {line}") from None
        lemmas.append(Lemma(lemma.features, (*lemma.allowed, *rows)))
    empty = [lemma for lemma in lemmas if not lemma.allowed]
    if empty or not lemmas:
        what = f"nothing is allowed of {', '.join(empty[0].features)}" if empty else "no lemma"
        raise ValueError(f"the invariant is not whole: {what}")
    return Invariant(tuple(lemmas))


def _names(feature: str, statuses: Mapping[str, int]) -> Mapping[str, int]:
    if feature.endswith("_word"):
        return _WORDS
    if feature in ("owner", "status", "named"):
        return {**statuses, **_OFFER}
    if feature.endswith("_value"):  # of any word: small numbers may be attempts
        return {name: value for name, value in (*statuses.items(), *_OFFER.items()) if value}
    return _NAMES.get(feature, {})


def _lines(lemma: Lemma, statuses: Mapping[str, int]) -> Iterator[str]:
    yield ", ".join(lemma.features)
    names = [{v: n for n, v in _names(one, statuses).items()} for one in lemma.features]
    for first, rows in groupby(lemma.allowed, key=lambda row: row[:-1]):
        before = ", ".join(_shown(v, n) for v, n in zip(first, names[:-1], strict=True))
        yield f"  {before}: {', '.join(_several([row[-1] for row in rows], names[-1]))}"


def _several(values: Sequence[int], names: Mapping[int, str]) -> Iterator[str]:
    """Values, ascending; three and more numbers in a row as "first..last"."""
    place = 0
    while place < len(values):
        end = place
        while (
            end + 1 < len(values)
            and values[end + 1] == values[end] + 1
            and not any(isinstance(v, bool) or v in names for v in values[place : end + 2])
        ):
            end += 1
        if end - place >= 2:
            yield f"{values[place]}..{values[end]}"
        else:
            yield from (_shown(value, names) for value in values[place : end + 1])
        place = end + 1


def _shown(value: int, names: Mapping[int, str]) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return names.get(value) or (hex(value) if value > 0xFF else str(value))


def _values(shown: str, names: Mapping[str, int]) -> Sequence[int]:
    first, dots, last = shown.partition("..")
    if not dots:
        return (_value(shown, names),)
    if not 0 <= int(last) - int(first) < _RANGE:
        raise ValueError
    return range(int(first), int(last) + 1)


def _value(shown: str, names: Mapping[str, int]) -> int:
    if shown in _TRUTH:
        return _TRUTH[shown]
    return names[shown] if shown in names else int(shown, 0)


def _legend(pair: Pair, statuses: Mapping[str, int]) -> Iterator[str]:
    yield "# SPDX-License-Identifier: GPL-2.0-only"
    yield "# Which values go together in each state that can be reached; nothing else can happen."
    yield "#"
    for name, process in (("at", pair.host), ("cpu_at", pair.cpu)):
        yield f"# {name}: locations of the {process.name}"
        for number, location in enumerate(process.locations):
            yield f"#   {number}: {_action(location, statuses)}"
        yield "#"


def _action(location: Location, statuses: Mapping[str, int]) -> str:
    names = {value: name for name, value in statuses.items()}

    def shown(value: Value) -> str:
        return value if isinstance(value, str) else _shown(value, names)

    parts = [location.kind.value, location.word]
    if location.expected is not None:
        parts.append(f"{shown(location.expected)} ->")
    if location.value is not None:
        parts.append(shown(location.value))
    return ", ".join(filter(None, (" ".join(filter(None, parts)), location.place)))
