# SPDX-License-Identifier: GPL-2.0-only
"""Which changes of the status word occur, seen in all runs within small bounds: a state diagram."""

from __future__ import annotations

from typing import NamedTuple

from harness.protocol.explore import Bounds, Explorer
from harness.protocol.explored import Cpu, State
from models.protocol import Pair

BOUNDS = Bounds(cpus=2, attempts=2, strays=0, plain=True)
"""More attempts and CPUs give no further change: they repeat these."""


class Transition(NamedTuple):
    """`before` and `after`: a value, or "offered"; `who`: "host", "CPU" or "kernel"."""

    before: object
    after: object
    who: str
    location: int | None


def transitions(pair: Pair) -> list[Transition]:
    """Each once, in the order in which a breadth-first search meets them."""
    explorer = Explorer(pair.host, pair.cpu, pair.leave, BOUNDS)
    first = State(cpus=(Cpu(),) * BOUNDS.cpus)
    seen, todo = {first}, [first]
    found: dict[Transition, None] = {}
    for state in todo:  # grows while it is read
        for event, after, _ in explorer.next(state):
            if after.status != state.status:
                kernel = event.location is None and event.who != "host"
                who = "kernel" if kernel else event.who.split()[0]
                values = (_value(state.status), _value(after.status))
                found[Transition(*values, who, event.location)] = None
            if after not in seen and len(seen) < BOUNDS.states:
                seen.add(after)
                todo.append(after)
    return list(found)


def _value(status: object) -> object:
    return "offered" if isinstance(status, tuple) else status
