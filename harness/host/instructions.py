# SPDX-License-Identifier: GPL-2.0-only
"""The instructions that a host may consist of, sorted by what an observer has to know of them."""

from __future__ import annotations

from typing import Any

from capstone import CS_ARCH_X86, CS_MODE_64, Cs
from capstone.x86 import (
    X86_OP_IMM,
    X86_OP_MEM,
    X86_PREFIX_LOCK,
    X86_PREFIX_REP,
    X86_PREFIX_REPNE,
    X86_REG_FS,
    X86_REG_GS,
)

CsInsn = Any  # capstone's instruction, which has no types

# Effects on registers, flags and at most one operand in memory; all of them well covered by VEX.
_PLAIN = frozenset(
    "mov movabs movzx movsx movsxd lea add sub adc sbb and or xor not neg inc dec cmp test imul "
    "shl sal shr sar rol ror cdqe cwde cdq cqo bt jmp call ret push pop nop bswap xchg".split()
)
_CONDITIONAL = ("j", "set", "cmov")
_CONDITIONS = frozenset("a ae b be e ne g ge l le s ns o no p np c nc z nz".split())

_LOCKED = frozenset(["cmpxchg", "xchg"])
_STRING = frozenset(["movsb", "stosb"])
_FENCES = frozenset(["mfence"])

MEMORY = X86_OP_MEM
"""The type of an operand in memory."""
IMMEDIATE = X86_OP_IMM
"""The type of an operand that is a number in the instruction."""

_decoder = Cs(CS_ARCH_X86, CS_MODE_64)
_decoder.detail = True


def decode(code: bytes, address: int) -> CsInsn | None:
    """The instruction at `address`, which begins `code`; None if there is none."""
    return next(_decoder.disasm(code, address, count=1), None)


def name(instruction: CsInsn) -> str:
    """The mnemonic without prefixes, such as "cmpxchg"."""
    return str(instruction.mnemonic).split()[-1]


def memory_operands(instruction: CsInsn) -> list[Any]:
    """The operands that the instruction reads or writes in memory, but for the stack's."""
    if name(instruction) in ("lea", "nop"):
        return []
    return [operand for operand in instruction.operands if operand.type == X86_OP_MEM]


def is_store(instruction: CsInsn, operand: Any) -> bool:
    """Whether the operand in memory is written and not read."""
    return name(instruction) == "mov" and instruction.operands[0].type == operand.type


def is_load(instruction: CsInsn) -> bool:
    """Whether an operand in memory is read and not written."""
    word = name(instruction)
    if word in ("mov", "movzx", "movsx", "movsxd"):
        return bool(instruction.operands[0].type != X86_OP_MEM)
    return word in ("cmp", "test")


def is_locked(instruction: CsInsn) -> bool:
    """Locked: XCHG with memory is, without the prefix (SDM vol. 3A 9.1.2.2)."""
    if name(instruction) == "xchg":
        return bool(memory_operands(instruction))
    return bool(instruction.prefix[0] == X86_PREFIX_LOCK)


def is_fence(instruction: CsInsn) -> bool:
    """A fence that orders all earlier loads and stores with all later ones."""
    return name(instruction) in _FENCES


def is_string(instruction: CsInsn) -> bool:
    """REP MOVSB or REP STOSB: RCX bytes from RDI on are written."""
    return name(instruction) in _STRING and instruction.prefix[0] == X86_PREFIX_REP


def leaves(instruction: CsInsn) -> bool:
    """Whether the next instruction need not be the one behind."""
    return name(instruction).startswith(("j", "call", "ret"))


def is_private(instruction: CsInsn) -> bool:
    """Whether it touches registers and the stack only."""
    special = is_fence(instruction) or is_string(instruction) or is_locked(instruction)
    return not special and not memory_operands(instruction)


def problem(instruction: CsInsn) -> str | None:
    """Why the instruction is none that is known here; None if it is."""
    word, shown = name(instruction), f"{instruction.mnemonic} {instruction.op_str}".strip()
    if any(o.mem.segment in (X86_REG_FS, X86_REG_GS) for o in memory_operands(instruction)):
        return f"{shown}: FS and GS are not modelled"
    if instruction.prefix[0] == X86_PREFIX_LOCK:
        return None if word in _LOCKED else f"{shown}: this locked instruction is not known"
    if is_string(instruction) or is_fence(instruction):
        return None
    if instruction.prefix[0] in (X86_PREFIX_REP, X86_PREFIX_REPNE):
        return f"{shown}: a repeated instruction that is not known"
    known = word in _PLAIN or any(
        word.startswith(start) and word[len(start) :] in _CONDITIONS for start in _CONDITIONAL
    )
    return None if known else f"{shown}: this instruction is not known"
