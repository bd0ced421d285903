# SPDX-License-Identifier: GPL-2.0-only
"""A structure at an address that is not known: what a pointer of any value leads to.

The structure's members are kept at a place of their own, its shadow. An instruction that reaches a
member through the pointer is executed on the shadow; to all other instructions the pointer is a
number of which nothing is known.
"""

from __future__ import annotations

import claripy
from claripy.ast.bv import BV

from harness.host import instructions
from harness.host.machine import Machine, State, Stop


class Anywhere:
    """Pointers, each to a structure of `size` bytes whose shadow is at the address given for it.

    The structures overlap nothing else that the code reaches, but for each other.
    """

    def __init__(self, machine: Machine, pointers: dict[BV, int], size: int) -> None:
        self._machine = machine
        self._pointers = pointers
        self._size = size

    def go(self, stop: Stop) -> list[State]:
        """Behind an access through one of the pointers; any other access is refused."""
        state, instruction = stop.state, stop.instruction
        shadow = self._shadow(stop)
        if instruction is None or shadow is None:
            raise self._machine.refuse(state, "an access that is neither private nor to a segment")
        (operand,) = instructions.memory_operands(instruction)
        register = instruction.reg_name(operand.mem.base)
        pointer = state.regs.get(register)
        moved = shadow - operand.mem.disp
        setattr(state.regs, register, claripy.BVV(moved, 64))
        outcomes = self._machine.execute(state)
        for after in outcomes:
            now = after.regs.get(register)
            if now.concrete and now.concrete_value == moved:  # else it was loaded
                setattr(after.regs, register, pointer)
        return outcomes

    def _shadow(self, stop: Stop) -> int | None:
        """Where the member is that the only operand in memory means."""
        if len(stop.accesses) != 1 or stop.instruction is None:
            return None
        (operand,) = instructions.memory_operands(stop.instruction)
        access = stop.accesses[0]
        if not operand.mem.base or operand.mem.index or isinstance(access.address, int):
            return None
        for pointer, shadow in self._pointers.items():
            offset = self._machine.only_value(stop.state, access.address - pointer)
            if offset is not None and offset + access.size <= self._size:
                return shadow + offset
        return None
