# SPDX-License-Identifier: GPL-2.0-only
"""Make a process small: locations that do the same, now and ever after, become one.

That is bisimulation, by refining a partition (Moore); nothing that can be observed is lost.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from harness.host.edges import Table, from_edges, table, to_edges
from models.process import Location, Process


def minimise(process: Process) -> Process:
    """The smallest process that behaves the same, numbered in the order of a walk from the start.

    Of locations that become one the first gives the place, and each its addresses.
    """
    tables = [from_edges(location.edges) for location in process.locations]
    blocks = [0] * len(tables)
    while True:
        numbers: dict[Hashable, int] = {}
        finer = [
            numbers.setdefault((_action(location), _renamed(entries, blocks)), len(numbers))
            for location, entries in zip(process.locations, tables, strict=True)
        ]
        if len(numbers) == len(set(blocks)):
            break
        blocks = finer
    return _quotient(process, tables, blocks)


def _action(location: Location) -> Hashable:
    return replace(location, edges=(), place="")


def _renamed(entries: Table, blocks: list[int]) -> Hashable:
    """The table with blocks for targets, whatever the order of its values."""
    moved = _moved(entries, blocks)
    return moved.usual, frozenset(moved.special.items())


def _moved(entries: Table, number: list[int]) -> Table:
    rows = [(value, [number[t] for t in targets]) for value, targets in entries.special.items()]
    return table([*rows, (None, [number[t] for t in entries.usual])])


def _quotient(process: Process, tables: list[Table], blocks: list[int]) -> Process:
    first: dict[int, int] = {}
    for old, block in enumerate(blocks):
        first.setdefault(block, old)
    order: dict[int, int] = {}
    waiting = [blocks[0]]
    while waiting:
        block = waiting.pop(0)
        if block in order:
            continue
        order[block] = len(order)
        edges = to_edges(tables[first[block]])
        waiting += [blocks[edge.target] for edge in edges]
    number = [order.get(block, 0) for block in blocks]
    addresses: dict[int, set[int]] = {}
    for location, block in zip(process.locations, blocks, strict=True):
        addresses.setdefault(block, set()).update(location.addresses)
    locations = tuple(
        replace(
            process.locations[first[block]],
            addresses=tuple(sorted(addresses[block])),
            edges=to_edges(_moved(tables[first[block]], number)),
        )
        for block in order
    )
    return Process(process.name, locations)
