# SPDX-License-Identifier: GPL-2.0-only
"""Forms of instructions: what is the same but for registers and values.

They are those that a shipped trampoline executes, in its mode, and those of `listed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import capstone
from capstone import x86_const

from harness.lockstep import listed
from harness.lockstep.assembled import assembled
from harness.x86.lift import MAX_LENGTH, Instruction, lift
from harness.x86.run import PathEnd
from harness.x86.system import handler
from models.modes import Mode

_MODES = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
FAR_JUMP = 0xEA
GROUPS = frozenset(
    (0x80, 0x81, 0x83, 0x8F, 0xC0, 0xC1, 0xC6, 0xC7, 0xD0, 0xD1, 0xD2, 0xD3, 0xF6, 0xF7, 0xFE, 0xFF)
)
GROUPS_0F = frozenset({(0x0F, 0x00), (0x0F, 0x01), (0x0F, 0xBA), (0x0F, 0xC7)})
"""Opcodes that ModRM's middle field completes (SDM 2D A.4, table A-6)."""


@dataclass(frozen=True)
class Operand:
    """The memory operand that an instruction names. `base`, `index`: 64-bit names, or ""."""

    segment: str
    base: str
    index: str
    scale: int
    relative: bool  # to RIP


@dataclass(frozen=True)
class Template:
    """One instruction. `immediate`, `displacement`: where they stand in its bytes."""

    code: bytes
    immediate: range
    displacement: range
    operand: Operand | None
    branches: bool  # the immediate is relative to the next instruction


@dataclass(frozen=True)
class Form:
    """Instructions that differ in registers and values only. `name`: of one of them."""

    mode: Mode
    name: str
    templates: tuple[Template, ...]

    @property
    def example(self) -> Instruction:
        """One of them, decoded."""
        return lift(self.templates[0].code, 0, self.mode.bits)

    @property
    def repeats(self) -> bool:
        """It has a repeat prefix."""
        return ".REP" in self.example.mnemonic

    @property
    def plain(self) -> bool:
        """The table of p-code operations executes it."""
        return handler(self.example) is None and not self.repeats


def forms(instructions: Iterable[tuple[Mode, bytes]]) -> tuple[Form, ...]:
    """The forms of these instructions."""
    found: dict[tuple[object, ...], list[Template]] = {}
    names: dict[tuple[object, ...], str] = {}
    for mode, code in sorted(set(instructions), key=lambda one: (one[0].name, one[1])):
        key, name, template = _template(mode, code)
        names.setdefault((mode, *key), name)
        found.setdefault((mode, *key), []).append(template)
    made = (Form(key[0], names[key], tuple(some)) for key, some in found.items())  # type: ignore[arg-type]
    return tuple(sorted(made, key=lambda one: (one.mode.name, one.name)))


def executed(ends: Sequence[PathEnd]) -> set[tuple[Mode, bytes]]:
    """All instructions of some paths, each in its mode."""
    found = set()
    for end in ends:
        for offset, name in end.trace:
            data = end.memory.image.data[offset : offset + MAX_LENGTH]
            instruction = lift(data, offset, Mode[name].bits)
            found.add((Mode[name], data[: instruction.length]))
    return found


def of_the_list(mode: Mode, *, plain: bool = True) -> set[tuple[Mode, bytes]]:
    """Those of `listed`; `plain`: those that the table of p-code operations executes, too."""
    texts = [*(listed.plain(mode.bits) if plain else ()), *listed.system(mode)]
    return {(mode, code) for code in assembled(mode.bits, *texts)}


@cache
def _decoder(bits: int) -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _MODES[bits])
    decoder.detail = True
    return decoder


def _template(mode: Mode, code: bytes) -> tuple[tuple[object, ...], str, Template]:
    """What it has in common with others of its form, its text, and the rest."""
    (one,) = _decoder(mode.bits).disasm(code, 0)
    at = one.encoding
    immediate = range(at.imm_offset, at.imm_offset + at.imm_size) if at.imm_offset else range(0)
    size = 4 if mode.bits == 64 and at.disp_size == 2 else at.disp_size  # capstone's slip with 66
    displacement = range(at.disp_offset, at.disp_offset + size)
    if mode.bits != 64 and one.opcode[0] == FAR_JUMP:
        immediate = range(0)
    operand, kinds = None, []
    for part in one.operands:
        kind: tuple[object, ...] = (part.type, part.size)
        if part.type == x86_const.X86_OP_MEM:
            operand = _operand(one, part.mem)
            shape = bool(operand.base), bool(operand.index), operand.relative
            kind = (*kind, *shape, len(displacement))
        kinds.append(kind)
    relative = capstone.CS_GRP_BRANCH_RELATIVE in one.groups
    if not at.disp_offset:
        displacement = range(0)
    key = (bytes(one.prefix), one.rex >> 3, _opcode(one), _digit(one), len(immediate), *kinds)
    template = Template(code, immediate, displacement, operand, relative)
    return key, f"{one.mnemonic} {one.op_str}".strip(), template


def _opcode(one: capstone.CsInsn) -> bytes:
    """The opcode without the register that its last three bits may name (SDM 2A 2.1, "+r")."""
    first, *rest = one.opcode
    named = first in range(0x40, 0x60) or first in range(0xB0, 0xC0)
    return bytes([first & 0xF8 if named else first, *rest])


def _digit(one: capstone.CsInsn) -> object:
    """Where ModRM's middle field or the opcode names the operation, or a special register."""
    special = {x86_const.X86_REG_CR0, x86_const.X86_REG_CR3, x86_const.X86_REG_CR4} | {
        getattr(x86_const, f"X86_REG_{name}") for name in ("CS", "DS", "ES", "SS", "FS", "GS")
    }
    group = one.opcode[0] in GROUPS or tuple(one.opcode[:2]) in GROUPS_0F
    return (
        one.id,
        (one.modrm >> 3 & 7) if group else None,
        *(
            part.reg
            for part in one.operands
            if part.type == x86_const.X86_OP_REG and part.reg in special
        ),
    )


def _operand(one: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> Operand:
    base, index = (one.reg_name(number) or "" for number in (memory.base, memory.index))
    stack = base in ("bp", "sp", "ebp", "esp", "rbp", "rsp")
    segment = one.reg_name(memory.segment) or ("ss" if stack else "ds")
    relative = base == "rip"
    return Operand(segment, "" if relative else _whole(base), _whole(index), memory.scale, relative)


def _whole(name: str) -> str:
    """The 64-bit register that a register is part of."""
    if not name or name[0] == "r":
        return name.rstrip("dwb") if name[1:2].isdigit() else name
    return "r" + name.removeprefix("e")
