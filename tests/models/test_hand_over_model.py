# SPDX-License-Identifier: GPL-2.0-only
"""What is known of a CPU that is handed over in 64-bit mode, and what is open."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import z3
from z3.z3util import get_vars

from models import hand_over
from tests.models.rows import Row, holds, number, word

ONES = 0xFFFF_FFFF_FFFF_FFFF
GENERAL = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()

# register -> value with its open bits 0, value with its open bits 1
VALUES = {
    **dict.fromkeys((*GENERAL, "cr2", "cr3", "gdtr_base", "idtr_base"), (0, ONES)),
    **dict.fromkeys(("gdtr_limit", "idtr_limit"), (0, 0xFFFF)),
    "rflags": (0x2, 0xCD7),  # of the flags, only the arithmetic ones and DF are open
    "cr0": (0x8000_0011, 0xE005_003F),
    "cr4": (0x20, 0x1_1FFF),  # PAE; none of PCIDE, SMEP, SMAP, PKE, CET
    "efer": (0x500, 0xD01),
}
OPEN = {
    "selector": (0, 0xFFFF), "base": (0, ONES), "limit": (0, 0xFFFF_FFFF), "type": (0, 15),
    "s": (True, True), "dpl": (0, 3), "present": (False, True), "long": (False, True),
    "big": (False, True), "null": (False, True),
}  # fmt: skip
CS = {
    **OPEN, "base": (0, 0), "type": (8, 15), "dpl": (0, 0), "present": (True, True),
    "long": (True, True), "big": (False, False), "null": (False, False),
}  # fmt: skip
FLAT = {"base": (0, 0), "limit": (0xFFFF_FFFF, 0xFFFF_FFFF), "dpl": (0, 0), "null": (False, False)}
BOOT_CS = {**CS, **FLAT, "selector": (0x10, 0x10), "type": (11, 11)}
BOOT_DS = {
    **OPEN, **FLAT, "selector": (0x18, 0x18), "type": (3, 3), "present": (True, True),
    "long": (False, False), "big": (True, True),
}  # fmt: skip


def state(module: ModuleType, la57: bool = True, nx: bool = True, maxphyaddr: int = 40) -> Any:
    return module.handed_over("h", z3.BoolVal(la57), z3.BoolVal(nx), word(maxphyaddr))


def filled(term: z3.ExprRef, ones: bool) -> int | bool:
    """The term's value with all of its symbols 0, or all bits of them 1."""
    pairs = [
        (v, z3.BoolVal(ones) if z3.is_bool(v) else word(-int(ones), v.size()))
        for v in get_vars(term)
    ]
    value = z3.substitute(term, *pairs)
    return holds(value) if z3.is_bool(value) else number(value)


def both(term: z3.ExprRef) -> tuple[int | bool, int | bool]:
    return filled(term, False), filled(term, True)


def _register(name: str) -> Row:
    return Row(name, lambda m: both(state(m).registers[name]), VALUES[name])


WIDTHS = {"selector": 16, "base": 64, "limit": 32, "type": 4, "dpl": 2}


def _segment(name: str, expected: dict[str, Any], boot: bool) -> Row:
    def outcome(module: ModuleType) -> object:
        found = state(module)
        found = module.with_boot_segments(found) if boot else found
        fields = vars(found.segments[name])
        assert {field: fields[field].size() for field in WIDTHS} == WIDTHS
        return {field: both(term) for field, term in fields.items()}

    return Row(f"{name}{' of the boot protocol' if boot else ''}", outcome, expected)


def _allowed(rule: str, expected: bool, /, *features: Any, **values: int) -> Row:
    def outcome(module: ModuleType) -> object:
        found = state(module, *features)
        pairs = [(z3.BitVec(f"{name}_at_h", 64), word(value)) for name, value in values.items()]
        conditions = [z3.substitute(condition, *pairs) for condition in found.conditions]
        return all(filled(condition, False) for condition in conditions)

    return Row(rule, outcome, expected)


def _symbols(module: ModuleType) -> object:
    found = state(module)
    terms = [t for s in found.segments.values() for t in vars(s).values()]
    symbols = [str(v) for t in (*found.registers.values(), *terms) for v in get_vars(t)]
    return len(symbols), len(set(symbols))


ROWS = (
    *(_register(name) for name in VALUES),
    Row("no other register", lambda m: set(state(m).registers), set(VALUES)),
    Row("no symbol stands for two things", _symbols, (74, 74)),
    _segment("cs", CS, boot=False),
    *(_segment(name, OPEN, boot=False) for name in ("ds", "es", "ss", "fs", "gs")),
    _segment("cs", BOOT_CS, boot=True),
    *(_segment(name, BOOT_DS, boot=True) for name in ("ds", "es", "ss")),
    *(_segment(name, OPEN, boot=True) for name in ("fs", "gs")),
    Row(
        "the boot protocol changes no register",
        lambda m: m.with_boot_segments(s := state(m)).registers == s.registers,
        True,
    ),
    _allowed("nothing is set", True, False, False, 40),
    _allowed("NW without CD", False, cr0=1 << 29),
    _allowed("NW with CD", True, cr0=3 << 29),
    _allowed("CD without NW", True, cr0=1 << 30),
    _allowed("CR3 up to MAXPHYADDR", True, False, False, 40, cr3=(1 << 40) - 1),
    _allowed("CR3 beyond MAXPHYADDR", False, False, False, 40, cr3=1 << 40),
    _allowed("CR3 beyond a smaller MAXPHYADDR", False, False, False, 36, cr3=1 << 39),
    _allowed("LA57 on a CPU with it", True, True, False, 40, cr4=1 << 12),
    _allowed("LA57 on a CPU without it", False, False, True, 40, cr4=1 << 12),
    _allowed("NXE on a CPU with NX", True, False, True, 40, efer=1 << 11),
    _allowed("NXE on a CPU without NX", False, True, False, 40, efer=1 << 11),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_is_handed_over(row: Row) -> None:
    assert row.outcome(hand_over) == row.expected
