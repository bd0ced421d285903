# SPDX-License-Identifier: GPL-2.0-only
"""When two states of a host go on alike: so that a loop that waits becomes a cycle."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import groupby

import claripy
from claripy.ast.base import Base
from claripy.ast.bv import BV

from harness.host.liveness import REGISTERS
from harness.host.machine import UNKNOWN, Machine, State, width

# Symbols that only stand for what was found on the way; all others are inputs, with fixed names.
_PASSING = ("read_", "locked_", "taken_", "relax_", "send_", "cpu_online_", "apic_id_present_")


def identity(machine: Machine, state: State, shared: Iterable[tuple[int, int]]) -> Hashable:
    """Equal for two states only if they go on alike, but for memory `shared` with others.

    Passing symbols count by the order in which they occur in registers and written memory;
    conditions on those that occur nowhere any more do not count. (Two states that go on alike may
    well have different identities: then a process has more locations, and is still exact.)
    """
    names = [name for name in REGISTERS if name in machine.live(state)]
    parts: list[BV] = [state.regs.get(name) for name in names]
    where: list[tuple[int, int]] = []
    for start, size in _runs(_private(machine, state, shared)):
        where.append((start, size))
        parts.append(machine.read(state, start, size))
    parts = [_settled(machine, state, part) for part in parts]
    alive = _passing(parts)
    conditions, waiting = [], list(state.solver.constraints)
    while found := [c for c in waiting if not _passing([c]) or _passing([c]) & alive]:
        waiting = [c for c in waiting if not any(c is one for one in found)]
        alive |= _passing(found)
        conditions += found
    renamed: dict[int, Base] = {}
    shapes = [_shape(part, renamed) for part in (*parts, *conditions)]
    return (
        state.addr,
        state.globals["function"],
        tuple(where),
        tuple(shapes[: len(parts)]),
        frozenset(shapes[len(parts) :]),
    )


def _settled(machine: Machine, state: State, part: BV) -> BV:
    """The same as a constant, where the path leaves no other value."""
    if part.is_leaf():
        return part
    number = machine.only_value(state, part)
    return part if number is None else claripy.BVV(number, width(part))


def _private(machine: Machine, state: State, shared: Iterable[tuple[int, int]]) -> list[int]:
    """Addresses that the path has written, but for shared memory and the stack's free part."""
    top = machine.only_value(state, state.regs.rsp)
    assert top is not None  # the stack was prepared at one address
    return sorted(
        address
        for address in state.globals["written"]
        if not top - 0x1000 <= address < top
        and not any(start <= address < start + size for start, size in shared)
    )


def _runs(addresses: list[int]) -> list[tuple[int, int]]:
    """The same as ranges of at most 8 bytes: (start, size)."""
    runs = []
    for _, group in groupby(enumerate(addresses), lambda pair: pair[1] - pair[0]):
        run = [address for _, address in group]
        runs += [(run[i], len(run[i : i + 8])) for i in range(0, len(run), 8)]
    return runs


def _passing(terms: Iterable[Base]) -> set[str]:
    return {
        name
        for term in terms
        for name in term.variables
        if name.startswith(_PASSING) or UNKNOWN in name
    }


def _shape(term: Base, renamed: dict[int, Base]) -> Hashable:
    """The term with its passing symbols named by the order in which `renamed` met them."""
    for leaf in term.leaf_asts():
        if leaf.hash() in renamed or not _passing([leaf]):
            continue
        name = f"passing_{len(renamed)}"
        renamed[leaf.hash()] = (
            claripy.BVS(name, width(leaf), explicit_name=True)
            if isinstance(leaf, BV)
            else claripy.BoolS(name, explicit_name=True)
        )
    return claripy.replace_dict(term, dict(renamed)).hash()
