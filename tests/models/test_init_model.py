# SPDX-License-Identifier: GPL-2.0-only
"""The state after INIT and SIPI, value by value from the manual's table."""

from __future__ import annotations

from types import ModuleType

import pytest

from models import modes
from tests.models.rows import Row, holds, number, word

ONES = 0xFFFF_FFFF_FFFF_FFFF
UPPER = 0xFFFF_FFFF_0000_0000
LEGACY = ("rax", "rcx", "rbx", "rsp", "rbp", "rsi", "rdi")
EXTENDED = tuple(f"r{index}" for index in range(8, 16))

# register -> value with its open bits 0, value with its open bits 1
VALUES = {
    **dict.fromkeys(LEGACY, (0, UPPER)),
    **dict.fromkeys(EXTENDED, (0, 0)),
    "rdx": (0, ONES),
    "rip": (0, 0),
    "rflags": (2, 2),
    "cr0": (0x0000_0010, 0x6000_0010),
    **dict.fromkeys(("cr2", "cr3", "cr4", "efer", "gdtr_base", "idtr_base"), (0, 0)),
    **dict.fromkeys(("gdtr_limit", "idtr_limit"), (0xFFFF, 0xFFFF)),
}


def _register(name: str) -> Row:
    width = 16 if name.endswith("limit") else 64

    def outcome(module: ModuleType) -> object:
        state = module.init_sipi(word(0x9A, 8))
        ones = (1 << width) - 1
        return tuple(number(state.complete(name, word(open_, width))) for open_ in (0, ones))

    return Row(name, outcome, VALUES[name])


def _segment(name: str, expected: tuple[int, ...], vector: int) -> Row:
    def outcome(module: ModuleType) -> object:
        segment = module.init_sipi(word(vector, 8)).segments[name]
        values = (segment.selector, segment.base, segment.limit, segment.type, segment.dpl)
        assert [value.size() for value in values] == [16, 64, 32, 4, 2]
        flags = (segment.s, segment.present, segment.long, segment.big, segment.null)
        assert tuple(map(holds, flags)) == (True, True, False, False, False)
        return tuple(map(number, values))

    return Row(f"{name} after vector {vector:#x}", outcome, expected)


ROWS = (
    *map(_register, VALUES),
    *(_segment(name, (0, 0, 0xFFFF, 0b0011, 0), 0x9A) for name in ("ds", "es", "ss", "fs", "gs")),
    _segment("cs", (0x9A00, 0x9A000, 0xFFFF, 0b0011, 0), 0x9A),
    _segment("cs", (0x0100, 0x01000, 0xFFFF, 0b0011, 0), 0x01),
    _segment("cs", (0xFF00, 0xFF000, 0xFFFF, 0b0011, 0), 0xFF),
    Row(
        "nothing else is said",
        lambda m: set(m.init_sipi(word(1, 8)).registers),
        set(VALUES),
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_state_after_init_and_sipi(row: Row) -> None:
    """One row: one register."""
    assert row.outcome(modes) == row.expected
