# SPDX-License-Identifier: GPL-2.0-only
"""Concrete states of the hand-off protocol for rows: what a step changes, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from itertools import product
from types import ModuleType
from typing import Any

import z3

from models.memory_order import Slot
from models.process import Edge, Kind, Location, Process, Value
from models.protocol import ANOTHER, NONE, OUTSIDE, Cpu, Pair, Shared

Changes = Mapping[str, object]
EMPTY = (0, 0)

SHARED: Changes = {
    "at": 0, "buffer": (EMPTY, EMPTY), "target": 0, "owner": 0, "status": 0, "named": 0,
    "kernel": ANOTHER, "boot_params": ANOTHER, "phase": 0, "verdict": 0, "shows": False,
}  # fmt: skip
CPU: Changes = {
    "id": 0, "at": OUTSIDE, "buffer": (EMPTY, EMPTY), "kernel": NONE, "boot_params": NONE,
    "kicked": False, "kick": NONE, "began": NONE, "mine": False, "started": False,
    "committed": False, "turned_away": False, "jumped": False, "undisturbed": False,
}  # fmt: skip
"""At boot."""


def term(value: object) -> object:
    """The constant as z3 has it; a buffer slot by slot."""
    if isinstance(value, tuple):
        return tuple(Slot(z3.IntVal(word), z3.IntVal(stored)) for word, stored in value)
    return z3.BoolVal(value) if isinstance(value, bool) else z3.IntVal(value)


def state(shared: Changes, cpu: Changes) -> tuple[Shared, Cpu]:
    """A state that differs from boot's in what is given."""
    assert shared.keys() <= SHARED.keys() and cpu.keys() <= CPU.keys()
    both = ({**SHARED, **shared}, {**CPU, **cpu})
    host, one = ({name: term(value) for name, value in part.items()} for part in both)
    return Shared(**host), Cpu(**one)  # type: ignore[arg-type]


def value(part: object) -> object:
    """The value of a term without variables; of a buffer slot by slot."""
    if isinstance(part, tuple):
        return tuple((value(slot.word), value(slot.value)) for slot in part)
    found = z3.simplify(part)
    if z3.is_int_value(found):
        return found.as_long()
    assert z3.is_true(found) or z3.is_false(found), f"not a constant: {found}"
    return z3.is_true(found)


def changed(before: Shared | Cpu, after: Shared | Cpu) -> Changes:
    """The fields that differ, with what they hold afterwards."""
    values = {f.name: value(getattr(after, f.name)) for f in fields(after)}
    return {name: v for name, v in values.items() if v != value(getattr(before, name))}


def process(name: str, *locations: Location) -> Process:
    """One with these locations."""
    return Process(name, locations)


def steps(
    m: ModuleType,
    who: str,
    location: Location | tuple[Location, ...],
    shared: Changes | None = None,
    cpu: Changes | None = None,
    leave: tuple[int, int] | None = None,
    own: bool = True,
) -> list[tuple[str, Changes, Changes]]:
    """All steps that `who` can take: what, and what changes of the shared part and of the CPU.

    It is at `location`, number 0 of its process (or the first of several). Number 1 is a halt, or
    the host's return, unless given. `own`: those of the location; else those that just happen.
    """
    before = state(shared or {}, {"at": 0, **(cpu or {})} if who == "CPU" else cpu or {})
    several = location if isinstance(location, tuple) else (location,)
    end = Location(Kind.RETURN if who == "host" else Kind.PARK, ())
    subject = process(who, *several, *([end] if len(several) == 1 else []))
    other = process("other", Location(Kind.PARK, ()))
    pair = Pair(subject, other, leave) if who == "host" else Pair(other, subject, leave)
    found = []
    for step in (m.host_steps if who == "host" else m.cpu_steps)(pair, *before):
        if (step.location is not None) is not own:
            continue
        choices = product((0, 1), (False, True)) if step.free else [()]
        for choice in choices:
            chosen = list(zip(step.free, map(term, choice), strict=True))
            if value(z3.substitute(step.when, *chosen)) is False:
                continue
            what = " ".join([step.what, *map(str, choice)])
            shared_part = changed(before[0], replaced(step.shared, chosen))
            found.append((what, shared_part, changed(before[1], replaced(step.cpu, chosen))))
    return found


def replaced(part: Any, chosen: list[tuple[z3.ExprRef, object]]) -> Any:
    """A part of a state with values for free variables."""
    if isinstance(part, tuple | Slot | Shared | Cpu):
        several = part if isinstance(part, tuple) else [getattr(part, f.name) for f in fields(part)]
        done = [replaced(one, chosen) for one in several]
        return tuple(done) if isinstance(part, tuple) else type(part)(*done)
    return z3.substitute(part, *chosen)


def at(
    kind: Kind,
    word: str = "",
    value: Value | None = None,
    expected: Value | None = None,
    edges: tuple[Edge, ...] = (Edge(1),),
    paged: bool = False,
) -> Location:
    """A location that leads to number 1, if nothing else is said."""
    return Location(kind, edges, word, value, expected, paged)
