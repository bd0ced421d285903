# SPDX-License-Identifier: GPL-2.0-only
"""A decision tree that separates safe samples from unsafe ones by few, round thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2

from harness.solve.region import Box, Coordinate, box_of


@dataclass(frozen=True)
class Sample:
    """An input: the values of all coordinates, and whether the claim seems to hold there."""

    values: tuple[int, ...]
    safe: bool


@dataclass(frozen=True)
class Leaf:
    """A box, and what its samples say: all safe (True), all unsafe (False), or both (None)."""

    box: Box
    safe: bool | None


@dataclass(frozen=True)
class _Split:
    gain: float  # bits that it saves, less bits that it takes to write
    coordinate: int
    threshold: int  # the first value of the upper part


class _Node:
    def __init__(self, limits: dict[int, tuple[int, int]], samples: list[Sample]) -> None:
        self.limits = limits
        self.samples = samples

    @property
    def safe(self) -> bool | None:
        said = {sample.safe for sample in self.samples}
        return said.pop() if len(said) == 1 else None


def grow(samples: Sequence[Sample], coordinates: Sequence[Coordinate], most: int) -> list[Leaf]:
    """At most `most` leaves, each with a sample. They cover all values of the coordinates."""
    nodes = [_Node({}, list(samples))]
    while len(nodes) < most:
        splits = [(_best(node, coordinates), node) for node in nodes if node.safe is None]
        possible = [(split, node) for split, node in splits if split is not None]
        if not possible:
            break
        split, node = max(possible, key=lambda pair: _cost(pair[1].samples))
        at = nodes.index(node)
        nodes[at : at + 1] = _cut(node, split, coordinates)
    return [Leaf(_box(node, coordinates), node.safe) for node in nodes]


def roundest(low: int, high: int) -> int:
    """The number in (low, high] with the most zero bits at its end."""
    shift = (low ^ high).bit_length() - 1
    return high >> shift << shift


def _box(node: _Node, coordinates: Sequence[Coordinate]) -> Box:
    return box_of(coordinates, {coordinates[i].name: limit for i, limit in node.limits.items()})


def _cut(node: _Node, split: _Split, coordinates: Sequence[Coordinate]) -> list[_Node]:
    at, threshold = split.coordinate, split.threshold
    low, high = node.limits.get(at, (0, coordinates[at].top))
    below = [sample for sample in node.samples if sample.values[at] < threshold]
    above = [sample for sample in node.samples if sample.values[at] >= threshold]
    return [
        _Node(node.limits | {at: (low, threshold - 1)}, below),
        _Node(node.limits | {at: (threshold, high)}, above),
    ]


def _cost(samples: Sequence[Sample]) -> float:
    """Bits to say which of the samples are safe."""
    return _bits(len(samples), sum(sample.safe for sample in samples))


def _bits(count: int, safe: int) -> float:
    parts = (safe, count - safe)
    return sum(part * log2(count / part) for part in parts if part)


def _best(node: _Node, coordinates: Sequence[Coordinate]) -> _Split | None:
    """The split that saves most; of equal ones that of the first coordinate."""
    best: _Split | None = None
    count, all_safe = len(node.samples), sum(sample.safe for sample in node.samples)
    whole = _bits(count, all_safe)
    for at in range(len(coordinates)):
        groups: dict[int, list[int]] = {}
        for sample in node.samples:
            groups.setdefault(sample.values[at], [0, 0])[sample.safe] += 1
        values = sorted(groups)
        seen, safe = 0, 0
        for low, high in pairwise(values):
            seen, safe = seen + sum(groups[low]), safe + groups[low][1]
            if not (groups[low][0] + groups[high][0] and groups[low][1] + groups[high][1]):
                continue  # both sides say the same: no border here
            threshold = roundest(low, high)
            digits = threshold.bit_length() - (threshold & -threshold).bit_length() + 1
            parts = _bits(seen, safe) + _bits(count - seen, all_safe - safe)
            split = _Split(whole - parts - digits, at, threshold)
            if best is None or split.gain > best.gain:
                best = split
    return best
