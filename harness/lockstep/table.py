# SPDX-License-Identifier: GPL-2.0-only
"""The table of p-code operations on one instruction, for all states at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import z3

from harness.lockstep.state import BASE, State
from harness.lockstep.unicorn_cpu import SELECTORS
from harness.solve.evaluate import Function, compile_term
from harness.x86.lift import Instruction
from harness.x86.pcode import Jump, Plain, Pointer, undefined_flags
from harness.x86.registers import FLAGS, Registers, force
from harness.x86.terms import ENTRY_MEMORY, const, low, simplify
from models.modes import GENERAL_REGISTERS, Mode


@dataclass
class _Any:
    """The port of `Plain` over registers and memory that hold anything."""

    mode: Mode
    registers: Registers
    stores: list[tuple[z3.BitVecRef, z3.BitVecRef]] = field(default_factory=list)

    def _linear(self, address: z3.BitVecRef | Pointer) -> z3.BitVecRef:
        if isinstance(address, Pointer):
            base = z3.BitVec(f"{address.segment.lower()}_base", 64)
            return simplify(base + low(address.offset, 64))
        return simplify(low(address, 64))

    def load(self, address: z3.BitVecRef | Pointer, size: int) -> z3.BitVecRef:
        first = self._linear(address)
        if self.stores:  # p-code looks once more at what it has stored, to find the flags
            at, value = self.stores[-1]
            if not (at.eq(first) and value.size() == 8 * size):
                raise ValueError("a load behind a store to another place")
            return value
        found = [z3.Select(ENTRY_MEMORY, first + const(n)) for n in reversed(range(size))]
        return simplify(z3.Concat(*found)) if size > 1 else simplify(found[0])

    def store(self, address: z3.BitVecRef | Pointer, value: z3.BitVecRef) -> None:
        self.stores.append((self._linear(address), simplify(value)))

    def special(self, name: str) -> z3.BitVecRef:
        return z3.BitVec(name.lower(), 64 if name.startswith("CR") else 16)

    def pc_relative(self, offset: int, bits: int) -> z3.BitVecRef:
        linear = const(BASE + offset)
        if self.mode is not Mode.LONG64:
            linear = linear - z3.BitVec("cs_base", 64)
        return low(simplify(linear), bits)

    def field(self, offset: int) -> z3.BitVecRef:
        raise ValueError("an instruction with a field")


@dataclass(frozen=True)
class Instantiated:
    """What the table says for one state. `registers`: general ones; flags by name."""

    registers: dict[str, int]
    writes: tuple[tuple[int, int, int], ...]
    linear: int


class Table:
    """The instruction's terms as functions of the state."""

    def __init__(self, instruction: Instruction, mode: Mode) -> None:
        """The instruction stands at its place in a state's memory. Raises errors.Unsupported."""
        symbols = {name: z3.BitVec(name, 64) for name in GENERAL_REGISTERS}
        flags = {name: z3.ZeroExt(7, z3.BitVec(name, 1)) for name in FLAGS}
        port = _Any(mode, Registers(dict(symbols), dict(flags)))
        jump = Plain(instruction, port).run()
        self._mode = mode
        shown = GENERAL_REGISTERS if mode is Mode.LONG64 else GENERAL_REGISTERS[:8]
        terms = {
            (n if mode is Mode.LONG64 else f"lower half of {n}"): low(
                port.registers.values[n], 64 if mode is Mode.LONG64 else 32
            )
            for n in shown
        }
        left = set(FLAGS) - set(undefined_flags(instruction))
        terms |= {name: force(port.registers.flags[name]) for name in left}
        self._terms = {name: compile_term(term) for name, term in terms.items()}
        self._stores = [
            (compile_term(at), value.size() // 8, compile_term(value)) for at, value in port.stores
        ]
        self._next = instruction.end
        self._jump = None if jump is None else _compiled(jump)

    def at(self, state: State) -> Instantiated:
        """What it says for this state."""
        values = {
            **state.registers,
            **{name: state.rflags >> bit & 1 for name, bit in FLAGS.items()},
            **{name: state.segments[name]["selector"] for name in SELECTORS},
            **{f"{name}_base": state.segments[name]["base"] for name in SELECTORS},
            **{"cr0": state.cr0, "cr3": state.cr3, "cr4": state.cr4},
        }

        def memory(address: int) -> int:
            return state.memory[address - BASE]

        linear = BASE + self._next
        if self._jump is not None and (self._jump[1] is None or self._jump[1](values, memory)):
            linear = self._jump[0](values, memory)
        return Instantiated(
            {name: term(values, memory) for name, term in self._terms.items()},
            tuple((at(values, memory), n, value(values, memory)) for at, n, value in self._stores),
            linear,
        )


def _compiled(jump: Jump) -> tuple[Function, Function | None]:
    """Where the jump leads, and whether it is taken."""
    target = const(BASE + jump.target) if isinstance(jump.target, int) else jump.target
    condition = None if jump.condition is None else compile_term(jump.condition)
    return compile_term(low(target, 64)), condition
