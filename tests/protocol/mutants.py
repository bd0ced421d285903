# SPDX-License-Identifier: GPL-2.0-only
"""Changes of a pair, one at a time: a fence left out, a check not made, a lock dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from models.process import Edge, Kind, Location, Process
from models.protocol import Pair


def of(pair: Pair) -> Iterator[tuple[str, Pair]]:
    """Each with its name."""
    for name, host in _processes(pair.host):
        yield name, replace(pair, host=host)
    for name, cpu in _processes(pair.cpu):
        yield name, replace(pair, cpu=cpu)


def _processes(process: Process) -> Iterator[tuple[str, Process]]:
    for number, location in enumerate(process.locations):
        where = f"{process.name} {number}, {location.kind.value} {location.word}".strip()
        if location.kind is Kind.FENCE:
            yield f"{where}: left out", _without(process, number)
        if location.kind is Kind.EXCHANGE:
            store = replace(location, kind=Kind.STORE)
            yield f"{where}: a plain store", _with(process, number, store)
        if location.kind is Kind.COMPARE_EXCHANGE:
            yield f"{where}: a load and a store", _plain(process, number)
        if location.kind is Kind.STORE and not location.edges[0].when:
            yield f"{where}: left out", _without(process, number)
        conditions = [edge for edge in location.edges if edge.when is not None]
        if len({edge.target for edge in location.edges}) == 1:
            conditions = []  # not a check: it goes on in one way
        for edge in conditions:
            only = replace(location, edges=(Edge(edge.target),))
            yield f"{where}: always to {edge.target}", _with(process, number, only)


def _with(process: Process, number: int, location: Location, *more: Location) -> Process:
    before, after = process.locations[:number], process.locations[number + 1 :]
    return replace(process, locations=(*before, location, *after, *more))


def _without(process: Process, number: int) -> Process:
    """What led to the location leads to where it led; it had one way on, or several alike."""
    ways = process.locations[number].edges
    locations = tuple(
        replace(
            location,
            edges=tuple(
                replace(edge, target=way.target) if edge.target == number else edge
                for edge in location.edges
                for way in (ways if edge.target == number else (edge,))
            ),
        )
        for location in process.locations
    )
    return replace(process, locations=locations)


def _plain(process: Process, number: int) -> Process:
    location = process.locations[number]
    assert location.expected is not None
    done = next(edge.target for edge in location.edges if edge.when and edge.when[0] == "is")
    failed = tuple(e for e in location.edges if e.when and e.when[0] == "is not")
    store = Location(Kind.STORE, (Edge(done),), location.word, location.value, paged=location.paged)
    wins = Edge(len(process.locations), ("is", (location.expected,)))
    load = replace(location, kind=Kind.LOAD, value=None, expected=None, edges=(wins, *failed))
    if not failed:  # both ways lead to one place
        load = replace(load, edges=(wins, Edge(done, ("is not", (location.expected,)))))
    return _with(process, number, load, store)
