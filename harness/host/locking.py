# SPDX-License-Identifier: GPL-2.0-only
"""Claims on a host's lock: how it is taken, what is done without it, and who gives it back.

A path keeps a log of all that the lock is for: reads and writes of struct host and of the area, in
program order. Reads count as writes do: what is read without the lock may be out of date.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import claripy
import z3
from claripy.ast.bv import BV

from harness.host.machine import State, to_z3
from harness.x86.terms import simplify
from trampoline.host_object import HostObject

TAKEN_ONCE = "the lock is taken at most once, by a locked instruction: if it is free, only then"
GUARDED = "no member of the host and nothing of the area is touched without the lock"
ACTED = "INIT, SIPI, the warm-reset vector and the work on an image: all under the lock"
GIVEN_BACK = "only who has the lock gives it back, by a plain store of 0"

FREELY_READ = ("lock", "area", "boot_params")
"""Members of struct host that may be read without the lock: only the set-up writes the latter."""

_LOG = "lock_log"  # in the globals of a state


@dataclass(frozen=True)
class Touch:
    """A plain access to `size` bytes. `stored`: what is written; None: they are read."""

    address: int
    size: int
    stored: BV | None


@dataclass(frozen=True)
class Try:
    """A locked instruction on the lock: what it has found, and what it leaves."""

    found: BV
    left: BV


@dataclass(frozen=True)
class Deed:
    """Something that others notice, and no access to memory: such as INIT."""


Entry = Touch | Try | Deed


def observe(state: State, *ranges: tuple[int, int]) -> None:
    """Log each access to one of the ranges (address, size) from here on."""
    state.globals[_LOG] = ()
    for event in ("mem_read", "mem_write"):
        state.inspect.b(event, when="before", action=partial(_touched, event, ranges))


def _touched(event: str, ranges: tuple[tuple[int, int], ...], state: State) -> None:
    """angr's breakpoint. eval_one raises where there is more than one address."""
    address = state.solver.eval_one(getattr(state.inspect, f"{event}_address"))
    size = state.solver.eval_one(getattr(state.inspect, f"{event}_length"))
    if any(address < start + length and start < address + size for start, length in ranges):
        stored = state.inspect.mem_write_expr if event == "mem_write" else None
        note(state, Touch(address, size, stored))


def note(state: State, entry: Entry) -> None:
    """Put it into the log, if there is one."""
    if _LOG in state.globals:
        state.globals[_LOG] += (entry,)


def note_try(before: State, after: State, found: BV, left: BV) -> None:
    """A locked instruction on the lock has led from one state to the other."""
    if _LOG in before.globals:
        after.globals[_LOG] = (*before.globals[_LOG], Try(found, left))


class Lock:
    """The lock of the host at `address`. A state's log must begin at the function's entry."""

    def __init__(self, host: HostObject, address: int) -> None:
        struct = host.structs["host"]
        self.place = (address + struct.members["lock"][0], struct.members["lock"][1])
        self._host = (address, struct.size)
        self._freely_read = [
            (address + offset, size)
            for offset, size in (struct.members[name] for name in FREELY_READ)
        ]

    def observe(self, state: State, *others: tuple[int, int]) -> None:
        """Log each access to the host's structure, and to the other ranges (address, size)."""
        observe(state, self._host, *others)

    def held(self, state: State) -> z3.BoolRef:
        """Has the path the lock?"""
        return self._run(state)[0]

    def goals(self, state: State) -> dict[str, z3.BoolRef]:
        """What must hold of a path as far as it has come; only what concerns it."""
        return self._run(state)[1]

    def _run(self, state: State) -> tuple[z3.BoolRef, dict[str, z3.BoolRef]]:
        held = z3.BoolVal(False)
        found: dict[str, list[z3.BoolRef]] = {
            TAKEN_ONCE: [],
            GUARDED: [],
            ACTED: [],
            GIVEN_BACK: [],
        }
        tries = 0
        for entry in state.globals[_LOG]:
            if isinstance(entry, Try):
                tries += 1
                found[TAKEN_ONCE].append(z3.And(self._works(entry), tries == 1))
                held = z3.Or(held, to_z3(entry.found) == 0)
            elif isinstance(entry, Deed):
                found[ACTED].append(held)
            elif entry.stored is not None and _meet((entry.address, entry.size), self.place):
                found[GIVEN_BACK].append(z3.And(held, self._frees(entry)))
                held = z3.BoolVal(False)
            elif not self._is_free_to_read(entry):
                found[GUARDED].append(held)
        return held, {name: simplify(z3.And(*goals)) for name, goals in found.items() if goals}

    def _works(self, one: Try) -> z3.BoolRef:
        """A lock that is free is taken then, and one that is held stays as it is."""
        free = to_z3(one.found) == 0
        return z3.If(free, to_z3(one.left) != 0, to_z3(one.left) == to_z3(one.found))

    def _frees(self, store: Touch) -> z3.BoolRef:
        if (store.address, store.size) != self.place or store.stored is None:
            return z3.BoolVal(False)
        return to_z3(store.stored == claripy.BVV(0, store.size * 8))

    def _is_free_to_read(self, one: Touch) -> bool:
        return one.stored is None and any(
            start <= one.address and one.address + one.size <= start + size
            for start, size in self._freely_read
        )


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]
