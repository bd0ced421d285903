# SPDX-License-Identifier: GPL-2.0-only
"""Edges of a location as a table: which targets for which value read, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from models.process import Edge, Value


@dataclass(frozen=True)
class Table:
    """`usual`: the targets for every value but those in `special`."""

    usual: frozenset[int]
    special: dict[Value, frozenset[int]]


def table(rows: Iterable[tuple[Value | None, Iterable[int]]]) -> Table:
    """From (value read, targets); None stands for every value that is not named."""
    targets: dict[Value | None, set[int]] = {None: set()}
    for value, some in rows:
        targets.setdefault(value, set()).update(some)
    usual = frozenset(targets.pop(None))
    special = {v: frozenset(t) for v, t in targets.items() if v is not None and t != usual}
    return Table(usual, special)


def from_edges(edges: Iterable[Edge]) -> Table:
    """The table that the edges of a location stand for."""
    edges = tuple(edges)
    values = {value: None for edge in edges if edge.when for value in edge.when[1]}
    rows = [(value, [e.target for e in edges if _applies(e, value)]) for value in values]
    return table([*rows, (None, [e.target for e in edges if _applies(e, None)])])


def to_edges(entries: Table) -> tuple[Edge, ...]:
    """As few edges as possible, in the order of their targets."""
    edges: list[Edge] = []
    everywhere = entries.usual.union(*entries.special.values())
    for target in sorted(everywhere):
        reached = tuple(v for v, targets in entries.special.items() if target in targets)
        missed = tuple(v for v in entries.special if v not in reached)
        if target not in entries.usual:
            edges.append(Edge(target, ("is", reached)))
        else:
            edges.append(Edge(target, ("is not", missed) if missed else None))
    return tuple(edges)


def _applies(edge: Edge, value: Value | None) -> bool:
    if edge.when is None:
        return True
    word, values = edge.when
    return (value in values) == (word == "is")
