# SPDX-License-Identifier: GPL-2.0-only
"""CPUID: which bits are known, and what they say."""

from __future__ import annotations

from types import ModuleType

import pytest
import z3

from models import cpuid
from tests.models.rows import Row, number, word

FLAGS = ("long_mode", "gib_pages", "no_execute", "five_level")
ONES = 0xFFFF_FFFF


def _outputs(leaf: int, subleaf: int = 0, maxphyaddr: int = 46, flag: str = "") -> Row:
    def outcome(module: ModuleType) -> object:
        features = module.Features(
            word(maxphyaddr), **{name: z3.BoolVal(name == flag) for name in FLAGS}
        )
        known = {
            name: (number(output.complete(word(0, 32))), number(output.complete(word(ONES, 32))))
            for name, output in module.cpuid(leaf, subleaf, features).items()
            if output is not None
        }
        return known

    return Row(f"leaf {leaf:#x}.{subleaf}, MAXPHYADDR {maxphyaddr}, {flag}", outcome, None)


def _row(expected: dict[str, tuple[int, int]], leaf: int, *args: object, **kwargs: object) -> Row:
    """`expected`: register -> its value with open bits 0 and with open bits 1."""
    row = _outputs(leaf, *args, **kwargs)  # type: ignore[arg-type]
    return Row(row.rule, row.outcome, expected)


EXTENDED = ~(1 << 20 | 1 << 26 | 1 << 29) & ONES
ROWS = (
    _row({"eax": (46, 0xFFFF_FF2E)}, 0x8000_0008),
    _row({"eax": (52, 0xFFFF_FF34)}, 0x8000_0008, maxphyaddr=52),
    _row({"edx": (0, EXTENDED)}, 0x8000_0001),
    _row({"edx": (1 << 29, EXTENDED | 1 << 29)}, 0x8000_0001, flag="long_mode"),
    _row({"edx": (1 << 26, EXTENDED | 1 << 26)}, 0x8000_0001, flag="gib_pages"),
    _row({"edx": (1 << 20, EXTENDED | 1 << 20)}, 0x8000_0001, flag="no_execute"),
    _row({"edx": (1 << 20, EXTENDED | 1 << 20)}, 0x8000_0001, 7, flag="no_execute"),
    _row({"ecx": (1 << 16, ONES)}, 7, flag="five_level"),
    _row({"ecx": (0, ~(1 << 16) & ONES)}, 7),
    _row({}, 7, 1, flag="five_level"),
    _row({}, 0x8000_0000),
    _row({}, 1),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_cpuid_output(row: Row) -> None:
    """One row: one leaf of one processor."""
    assert row.outcome(cpuid) == row.expected


def test_all_four_registers_are_answered() -> None:
    """A caller finds each of the four, open or not."""
    features = cpuid.Features(word(36), *(z3.BoolVal(False) for _ in FLAGS))
    assert list(cpuid.cpuid(0, 0, features)) == ["eax", "ebx", "ecx", "edx"]
