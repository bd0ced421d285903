# SPDX-License-Identifier: GPL-2.0-only
"""Small processes by hand: one action after the other, with a lock before them, or none."""

from __future__ import annotations

from models.at_once import OneImage
from models.process import Edge, Kind, Location, Process

STORE, LOAD = (Kind.STORE, "image"), (Kind.LOAD, "image")
FENCE, JUMP, PARK = (Kind.FENCE, ""), (Kind.JUMP, ""), (Kind.PARK, "")
GIVE_BACK, UNLOCK = (Kind.EXCHANGE, "lock"), (Kind.STORE, "lock")  # with the value 0
Action = tuple[Kind, str]

WAITS, FINDS = ("is", (1,)), ("is", (0,))


def spin(at: int) -> list[Location]:
    """Takes the lock by an exchange, again and again."""
    return [
        Location(Kind.EXCHANGE, (Edge(at, WAITS), Edge(at + 1, FINDS)), "lock", 1, addresses=(at,))
    ]


def compare_exchange(at: int) -> list[Location]:
    """Takes the lock by a compare-exchange, again and again."""
    edges = (Edge(at, WAITS), Edge(at + 1, FINDS))
    return [Location(Kind.COMPARE_EXCHANGE, edges, "lock", 1, 0, addresses=(at,))]


def look_and_store(at: int) -> list[Location]:
    """Looks, and if the lock is free stores to it: two instructions."""
    return [
        Location(Kind.LOAD, (Edge(at, WAITS), Edge(at + 1, FINDS)), "lock", addresses=(at,)),
        Location(Kind.STORE, (Edge(at + 2),), "lock", 1, addresses=(at + 1,)),
    ]


def straight(at: int, actions: tuple[Action, ...]) -> list[Location]:
    """One action after the other; the last one is a jump, or a halt."""
    found = []
    for number, (kind, word) in enumerate(actions, at):
        edges = () if kind in (Kind.JUMP, Kind.PARK) else (Edge(number + 1),)
        value = 0 if word == "lock" else None
        found.append(Location(kind, edges, word, value, addresses=(number,)))
    return found


def image(*parts: list[Location] | tuple[Action, ...], lock: int | None = 0) -> OneImage:
    """A CPU that does these parts; locks begin at location 0 or behind what comes before them."""
    locations: list[Location] = []
    for part in parts:
        locations += part if isinstance(part, list) else straight(len(locations), part)
    return OneImage(Process("CPU", tuple(locations)), (0,), lock)
