# SPDX-License-Identifier: GPL-2.0-only
"""When two states of a host go on alike: so that a loop that waits becomes a cycle."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import groupby

import claripy
import z3
from claripy.ast.base import Base
from claripy.ast.bool import Bool
from claripy.ast.bv import BV

from harness.host.liveness import REGISTERS
from harness.host.machine import UNKNOWN, Machine, State, to_z3, width
from harness.x86 import solver as ask
from harness.x86.terms import variables

_RLIMIT = 1_000_000  # z3 resource units; without an answer a condition counts
# Symbols that only stand for what was found on the way; all others are inputs, with fixed names.
_PASSING = ("read_", "locked_", "taken_", "relax_", "send_", "cpu_online_", "apic_id_present_")


def identity(machine: Machine, state: State, shared: Iterable[tuple[int, int]]) -> Hashable:
    """Equal for two states only if they go on alike, but for memory `shared` with others.

    Passing symbols count by the order in which they occur in registers and written memory.
    Conditions on those that occur nowhere any more do not count, unless they say something of an
    input. (Two states that go on alike may well have different identities: then a process has more
    locations, and is still exact.)
    """
    registers, memory = _parts(machine, state, shared)
    conditions = _conditions_on((*registers.values(), *memory.values()), state)
    return _identity(state, registers, memory, conditions)


def _identity(
    state: State,
    registers: Mapping[str, BV],
    memory: Mapping[tuple[int, int], BV],
    conditions: Iterable[Bool],
) -> Hashable:
    parts = [*registers.values(), *memory.values()]
    renamed: dict[int, Base] = {}
    shapes = [_shape(part, renamed) for part in (*parts, *conditions)]
    return (
        state.addr,
        state.globals["function"],
        tuple(memory),
        tuple(shapes[: len(parts)]),
        frozenset(shapes[len(parts) :]),
    )


def generalise(machine: Machine, state: State, shared: Iterable[tuple[int, int]]) -> Hashable:
    """Forget the conditions that `identity` does not look at, and return the identity.

    Together they may have ruled some inputs out, for this state and not for others that are alike.
    Without them the state stands for all that are alike: what holds behind it, holds behind those.
    """
    registers, memory = _parts(machine, state, shared)
    for name, value in registers.items():
        setattr(state.regs, name, value)
    for (start, size), value in memory.items():
        machine.write(state, start, size, value)
    conditions = _conditions_on((*registers.values(), *memory.values()), state)
    state.solver.reload_solver(conditions)
    return _identity(state, registers, memory, conditions)


def _parts(
    machine: Machine, state: State, shared: Iterable[tuple[int, int]]
) -> tuple[dict[str, BV], dict[tuple[int, int], BV]]:
    """What the live registers hold, and the memory that was written, by (start, size)."""
    live = machine.live(state)
    registers = {
        name: _settled(machine, state, state.regs.get(name)) for name in REGISTERS if name in live
    }
    memory = {
        (start, size): _settled(machine, state, machine.read(state, start, size))
        for start, size in _runs(_private(machine, state, shared))
    }
    return registers, memory


def _conditions_on(parts: Iterable[Base], state: State) -> list[Bool]:
    """The path's conditions, but for those on symbols that parts do not depend on and that leave
    every input as it is."""
    alive = _passing(parts)
    counting: list[Bool] = []
    gone: list[list[Bool]] = []
    for group in _connected(state.solver.constraints):
        if not _passing(group) or _passing(group) & alive:
            counting += group
        else:
            gone.append(group)
    return counting + [c for group in gone if not _always(group, counting) for c in group]


def _connected(conditions: Iterable[Bool]) -> list[list[Bool]]:
    """Groups of conditions that share passing symbols, directly or through others."""
    groups: list[tuple[set[str], list[Bool]]] = []
    for condition in conditions:
        symbols, group = _passing([condition]), [condition]
        apart = []
        for other, members in groups:
            if other & symbols:
                symbols, group = symbols | other, members + group
            else:
                apart.append((other, members))
        groups = [*apart, (symbols, group)]
    return [group for _, group in groups]


def _always(group: list[Bool], kept: list[Bool]) -> bool:
    """Whatever the inputs are, the group's passing symbols can have values that satisfy it."""
    passing = _passing(group)
    if not {name for one in group for name in one.variables} - passing:
        return True  # it holds of some values on this path, and speaks of nothing else
    terms = [to_z3(condition) for condition in group]
    bound = [s for term in terms for name, s in variables(term).items() if name in passing]
    asked = [*map(to_z3, kept), z3.Not(z3.Exists(bound, z3.And(*terms)))]
    solver = z3.Solver()
    solver.set("rlimit", _RLIMIT)
    solver.add(*asked)
    return bool(ask.check(solver) == z3.unsat)


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
