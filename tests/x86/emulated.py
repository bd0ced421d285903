# SPDX-License-Identifier: GPL-2.0-only
"""Small trampolines on an emulated CPU (unicorn), from the first instruction to `hlt`."""

from __future__ import annotations

from pathlib import Path

import unicorn
import z3
from unicorn import x86_const

from harness.x86.registers import FLAGS
from harness.x86.run import EndKind, PathEnd
from harness.x86.terms import variables
from tests.x86.small import BASE, WAYS, build
from tests.x86.values import Chosen, value_of

RAM = 0x40_0000
MAX_INSTRUCTIONS = 100_000
REGISTERS = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")


def emulate(folder: Path, code: str, bits: int, patches: dict[str, int]) -> unicorn.Uc:
    """The CPU after the code; `patches` are 4-byte words by symbol, written beforehand."""
    _, image = build(folder, code, way=WAYS[bits])
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
    machine.mem_map(0, RAM)
    machine.mem_write(BASE, image.data)
    for name, value in patches.items():
        machine.mem_write(BASE + image.symbols[name], value.to_bytes(4, "little"))
    machine.reg_write(x86_const.UC_X86_REG_CS, BASE >> 4)
    machine.emu_start(BASE, 0, count=MAX_INSTRUCTIONS)
    return machine


def assert_agree(
    end: PathEnd,
    folder: Path,
    code: str,
    bits: int,
    *,
    patches: dict[str, int] | None = None,
    undefined: tuple[str, ...] = (),
    values: Chosen | None = None,
) -> None:
    """The path ends with the emulated CPU's registers, flags and image.

    Flags in `undefined`, and those that the run does not know, are not compared. `values` are those
    of symbols that the path's state depends on.
    """
    assert end.kind is EndKind.PARKED, end.detail
    values = Chosen() if values is None else values
    machine = emulate(folder, code, bits, patches or {})
    for name in REGISTERS:
        seen = machine.reg_read(getattr(x86_const, f"UC_X86_REG_E{name.upper()}"))
        term = z3.simplify(z3.Extract(31, 0, end.state.registers["r" + name]))
        if not any("cpuid" in symbol for symbol in variables(term)):
            assert value_of(term, values) == seen, name
    rflags = machine.reg_read(x86_const.UC_X86_REG_EFLAGS)
    for name, bit in FLAGS.items():
        flag = z3.simplify(z3.Extract(bit, bit, end.state.rflags))
        known = not any("undefined" in symbol for symbol in variables(flag))
        if known and name not in ("AF", "TF", "IF", *undefined):
            assert value_of(flag, values) == rflags >> bit & 1, name
    length = len(end.memory.image.data)
    tables = range(length - 3 * 0x1000, length)  # the CPU sets flags there
    for offset in range(0, tables.start, 8):
        term = end.memory.read(end.memory.base.at(offset), 8)
        seen = int.from_bytes(machine.mem_read(BASE + offset, 8), "little")
        assert value_of(term, values) == seen, hex(offset)
