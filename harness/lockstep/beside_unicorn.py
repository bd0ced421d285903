# SPDX-License-Identifier: GPL-2.0-only
"""One instruction from one state on unicorn's CPU."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

import unicorn

from harness.lockstep import unicorn_cpu
from harness.lockstep.alone import features_of
from harness.lockstep.state import BASE, CODE, SIZE, TABLES, After, State, in_order
from harness.qemu.entry64 import identity_tables
from harness.x86.lift import Instruction
from models.cpuid import Features

ENOUGH = 1 << 16
"""Turns of a repeated instruction: more than any state asks for."""


class BesideUnicorn:
    """Unicorn's CPU, put into one state after the other."""

    def __init__(self) -> None:
        """A CPU with the memory that states have."""
        self._cpu = unicorn_cpu.new_cpu(64)
        self._fresh = self._cpu.context_save()
        self._cpu.mem_map(BASE, SIZE)
        tables = identity_tables(TABLES, 4, unicorn_cpu.PHYS_BITS)
        self._cpu.mem_map(TABLES, len(tables))
        self._cpu.mem_write(TABLES, tables)
        self._memory = b""
        self._writes: list[tuple[int, int, int]] = []
        self._fault: int | None = None
        self._cpu.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._on_write)
        self._cpu.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._reader = unicorn_cpu.Reader(self._cpu)

    def _on_write(self, _: Any, kind: int, address: int, size: int, value: int, user: Any) -> None:
        self._writes.append((address, size, value % (1 << 8 * size)))

    def _on_exception(self, _: Any, number: int, user: Any) -> None:
        self._fault = number
        self._cpu.emu_stop()

    @property
    def features(self) -> Features:
        """What CPUID tells of the CPU."""
        return _features()

    def prepared(self, state: State, instruction: Instruction) -> State:
        """The state itself."""
        return state

    def run(self, state: State, instruction: Instruction, ours: After) -> After:
        """What the instruction does, whatever the machine says of it.

        Whether it halts is seen by the one behind it, a NOP.
        """
        halts = ours.parked or instruction.mnemonic == "HLT"
        cpu = self._cpu
        if state.memory is not self._memory:
            cpu.mem_write(BASE, state.memory)
            cpu.ctl_flush_tb()
            self._memory = state.memory
        self._writes, self._fault = [], None
        unicorn_cpu.put(cpu, self._fresh, state)
        error = ""
        try:
            if ".REP" in instruction.mnemonic:
                cpu.emu_start(state.ip, BASE + instruction.end, count=ENOUGH)
            else:
                cpu.emu_start(state.ip, 0, count=1 + halts)
        except unicorn.UcError as failed:
            error = str(failed)
        registers = self._reader.read()
        for address, size, _ in self._writes:
            with suppress(unicorn.UcError):
                at = address - BASE
                cpu.mem_write(address, state.memory[at : at + size])
        writes = in_order(self._writes, state.memory)
        linear = unicorn_cpu.linear_ip(registers)
        parked = halts and linear == BASE + instruction.end
        if linear != BASE + CODE:  # what fails there is the next instruction's fetch
            return After(registers, writes, linear, parked)
        return After(registers, writes, linear, fault=self._fault, detail=error)


@cache
def _features() -> Features:
    return features_of(unicorn_cpu.cpuid())
