# SPDX-License-Identifier: GPL-2.0-only
"""Boxes over inputs: what a safe set is made of, as conditions and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import z3

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@dataclass(frozen=True)
class Coordinate:
    """A quantity that people would use to describe a set of inputs; no other has its name.

    `term` has at most 64 bits and is unsigned, or is Boolean (0 or 1); its symbols are inputs.
    `decimal`: a count, which is written so; all else is written in hexadecimal. A Boolean's name is
    a sentence, and `otherwise` says that it is not so. `note` explains the name, where it must be.
    """

    name: str
    term: z3.ExprRef = field(compare=False)
    decimal: bool = False
    otherwise: str = ""
    note: str = field(default="", compare=False)

    @property
    def top(self) -> int:
        """The largest value that the term's width allows."""
        return 1 if z3.is_bool(self.term) else (1 << self.term.size()) - 1

    def number(self, value: int) -> str:
        """A value in words."""
        return str(value) if self.decimal else number_words(value)


@dataclass(frozen=True)
class Bound:
    """A coordinate lies between two numbers, both inclusive."""

    coordinate: Coordinate
    low: int
    high: int

    @property
    def condition(self) -> z3.BoolRef:
        """The bound as a term."""
        term = self.coordinate.term
        if z3.is_bool(term):
            allowed = [term == bool(value) for value in range(self.low, self.high + 1)]
            return z3.Or(*allowed)
        if self.low == self.high:
            return term == self.low
        parts = [z3.UGE(term, self.low)] if self.low > 0 else []
        parts += [z3.ULE(term, self.high)] if self.high < self.coordinate.top else []
        return z3.And(*parts)

    @property
    def words(self) -> str:
        """The bound for people."""
        name, number = self.coordinate.name, self.coordinate.number
        if z3.is_bool(self.coordinate.term):
            return name if self.low else self.coordinate.otherwise or f"not: {name}"
        if self.low == self.high:
            return f"{name} = {number(self.low)}"
        if self.low == 0:
            return f"{name} below {number(self.high + 1)}"
        if self.high == self.coordinate.top:
            return f"{name} at or above {number(self.low)}"
        return f"{name} at or above {number(self.low)} and below {number(self.high + 1)}"


@dataclass(frozen=True)
class Box:
    """Inputs whose coordinates lie within all bounds; at most one bound for each coordinate."""

    bounds: tuple[Bound, ...] = ()

    def condition(self) -> z3.BoolRef:
        """The box as a term over inputs."""
        return z3.And(*(bound.condition for bound in self.bounds))

    def words(self) -> str:
        """The box for people; the one without bounds is every input."""
        return ", ".join(bound.words for bound in self.bounds) or "every input"

    def limits(self) -> dict[str, tuple[int, int]]:
        """Lowest and highest value (inclusive) of each coordinate that is restricted, by name."""
        return {bound.coordinate.name: (bound.low, bound.high) for bound in self.bounds}

    def within(self, other: Box) -> bool:
        """Its bounds alone show that it lies in the other box."""
        mine = self.limits()
        return all(
            b.coordinate.name in mine
            and b.low <= mine[b.coordinate.name][0]
            and mine[b.coordinate.name][1] <= b.high
            for b in other.bounds
        )

    def holds(self, values: Mapping[str, int]) -> bool:
        """Do coordinates with these values, by name, lie in it?"""
        return all(b.low <= values[b.coordinate.name] <= b.high for b in self.bounds)

    def replaced(self, coordinate: Coordinate, low: int, high: int) -> Box:
        """The box with another range for one coordinate."""
        known = [bound.coordinate for bound in self.bounds]
        limits = self.limits() | {coordinate.name: (low, high)}
        return box_of(known if coordinate in known else [*known, coordinate], limits)


def box_of(coordinates: Sequence[Coordinate], limits: Mapping[str, tuple[int, int]]) -> Box:
    """The box with these limits; one that a coordinate's width implies is left out."""
    return Box(
        tuple(
            Bound(c, *limits[c.name])
            for c in coordinates
            if c.name in limits and limits[c.name] != (0, c.top)
        )
    )


def either(boxes: Sequence[Box]) -> z3.BoolRef:
    """The union of boxes as a term."""
    return z3.Or(*(box.condition() for box in boxes))


def number_words(value: int) -> str:
    """A number of bytes or an address: 0x80_0000_0000 (512 GiB)."""
    text, size, unit = f"{value:#_x}", value, ""
    for name in UNITS:
        if not size or size % 1024:
            break
        size, unit = size // 1024, name
    return f"{text} ({size} {unit})" if unit and size < 1 << 16 else text
