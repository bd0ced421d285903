# SPDX-License-Identifier: GPL-2.0-only
"""C structures in the memory of a host under examination."""

from __future__ import annotations

from collections.abc import Mapping

from claripy.ast.bv import BV

from harness.host.machine import Machine, State, width
from trampoline.elf_structs import Struct


def fill(
    machine: Machine, state: State, struct: Struct, address: int, members: Mapping[str, BV]
) -> None:
    """Write members of the structure at `address`, each in the width that it has in the object."""
    for name, value in members.items():
        offset, size = struct.members[name]
        if width(value) != size * 8:
            raise ValueError(f"member {name} has {size} bytes, not {width(value) // 8}")
        machine.write(state, address + offset, size, value)


def member(machine: Machine, state: State, struct: Struct, address: int, name: str) -> BV:
    """What a member of the structure at `address` holds."""
    offset, size = struct.members[name]
    return machine.read(state, address + offset, size)
