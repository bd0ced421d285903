# SPDX-License-Identifier: GPL-2.0-only
"""General registers and flags, and where sleigh's varnodes lie in them.

Each mode has its own p-code language with its own register offsets; here they all name parts of the
one 64-bit register file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import z3

from harness.x86.lift import Varnode
from harness.x86.terms import const, low, simplify
from models.modes import GENERAL_REGISTERS

GENERAL = GENERAL_REGISTERS
SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS")
CONTROL = ("CR0", "CR2", "CR3", "CR4")
FLAGS = {"CF": 0, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11}
"""Flag name to bit of RFLAGS (SDM vol. 1, 3.4.3)."""


class Lazy:
    """A value that is computed when somebody looks at it: most flags are never looked at."""

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable[[], z3.BitVecRef]) -> None:
        self._make: Callable[[], z3.BitVecRef] | None = make
        self._value: z3.BitVecRef | None = None

    def get(self) -> z3.BitVecRef:
        """The value, computed once."""
        if self._value is None:
            assert self._make is not None
            self._value = simplify(self._make())
            self._make = None
        return self._value


Value: TypeAlias = z3.BitVecRef | Lazy


def force(value: Value) -> z3.BitVecRef:
    """The term behind a value."""
    return value.get() if isinstance(value, Lazy) else value


def general(varnode: Varnode, bits: int) -> tuple[str, int] | None:
    """The general register that a varnode is part of, and the byte at which it begins there."""
    if bits != 64:
        index, byte = divmod(varnode.offset, 4)
        return (GENERAL[index], byte) if index < 8 else None
    index, byte = divmod(varnode.offset, 8)
    if 16 <= index < 24:
        return GENERAL[index - 8], byte
    return (GENERAL[index], byte) if index < 8 else None


class Registers:
    """Sixteen 64-bit registers and the flags (one byte each, 0 or 1)."""

    def __init__(self, values: dict[str, z3.BitVecRef], flags: dict[str, Value]) -> None:
        self.values = values
        self.flags = flags

    def copy(self) -> Registers:
        """An independent copy."""
        return Registers(dict(self.values), dict(self.flags))

    def read(self, name: str, byte: int, size: int) -> z3.BitVecRef:
        """`size` bytes of a register, from byte `byte` on."""
        value = self.values[name]
        if byte == 0:
            return low(value, 8 * size)
        return simplify(z3.Extract(8 * (byte + size) - 1, 8 * byte, value))

    def write(self, name: str, byte: int, value: z3.BitVecRef) -> None:
        """Replace part of a register; the other bytes stay as they are."""
        old, first, end = self.values[name], 8 * byte, 8 * byte + value.size()
        parts = [value]
        if first:
            parts.append(z3.Extract(first - 1, 0, old))
        if end < 64:
            parts.insert(0, z3.Extract(63, end, old))
        self.values[name] = simplify(z3.Concat(*parts)) if len(parts) > 1 else value

    def rflags(self) -> z3.BitVecRef:
        """RFLAGS as 64 bits: bit 1 is always set, bits that no shipped code touches are 0."""
        bits = {bit: z3.Extract(0, 0, force(self.flags[name])) for name, bit in FLAGS.items()}
        bits[1] = const(1, 1)
        top = max(bits)
        parts = [bits.get(bit, const(0, 1)) for bit in reversed(range(top + 1))]
        return simplify(z3.Concat(const(0, 63 - top), *parts))
