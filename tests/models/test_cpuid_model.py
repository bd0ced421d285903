# SPDX-License-Identifier: GPL-2.0-only
"""CPUID: which bits are known, what they say, and which processors there are."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import z3

from models import cpuid
from tests.models.rows import Row, holds, number, word

FLAGS = ("pae", "long_mode", "gib_pages", "no_execute", "five_level")
ONES = 0xFFFF_FFFF
BASIC, EXTENDED = 0x16, 0x8000_0008
"""The highest leaves of an everyday processor."""


def processor(
    module: ModuleType,
    *flags: str,
    maxphyaddr: int = 46,
    basic: int = BASIC,
    extended: int = EXTENDED,
) -> Any:
    """The features of one processor: `flags` names those that it has."""
    return module.Features(
        maxphyaddr=word(maxphyaddr),
        **{name: z3.BoolVal(name in flags) for name in FLAGS},
        max_basic=word(basic, 32),
        max_extended=word(extended, 32),
        apic_id=word(0x5A, 8),
    )


def _row(
    expected: dict[str, tuple[int, int]], leaf: int, subleaf: int = 0, *flags: str, **other: int
) -> Row:
    """`expected`: register -> its value with open bits 0 and with open bits 1."""

    def outcome(module: ModuleType) -> object:
        outputs = module.cpuid(leaf, subleaf, processor(module, *flags, **other))
        return {
            name: (number(output.complete(word(0, 32))), number(output.complete(word(ONES, 32))))
            for name, output in outputs.items()
            if output is not None
        }

    return Row(f"leaf {leaf:#x}.{subleaf}: {flags} {other}", outcome, expected)


def _exists(expected: bool, *flags: str, **leaves: int) -> Row:
    """Whether there is such a processor."""
    return Row(
        f"{'a' if expected else 'no'} processor has {flags} {leaves}",
        lambda m: holds(m.consistent(processor(m, *flags, **leaves))),
        expected,
    )


def _has_efer(expected: bool, *flags: str) -> Row:
    return Row(f"IA32_EFER with {flags}", lambda m: holds(processor(m, *flags).has_efer), expected)


OPEN = (0, ONES)
APIC_ID = {"ebx": (0x5A00_0000, 0x5AFF_FFFF)}
OTHERS = ~(1 << 20 | 1 << 26 | 1 << 29) & ONES
ROWS = (
    _row({"eax": (46, 0xFFFF_FF2E)}, 0x8000_0008),
    _row({"eax": (52, 0xFFFF_FF34)}, 0x8000_0008, maxphyaddr=52),
    _row({"edx": (0, OTHERS)}, 0x8000_0001),
    _row({"edx": (1 << 29, OTHERS | 1 << 29)}, 0x8000_0001, 0, "long_mode"),
    _row({"edx": (1 << 26, OTHERS | 1 << 26)}, 0x8000_0001, 0, "gib_pages"),
    _row({"edx": (1 << 20, OTHERS | 1 << 20)}, 0x8000_0001, 0, "no_execute"),
    _row({"edx": (1 << 20, OTHERS | 1 << 20)}, 0x8000_0001, 7, "no_execute"),
    _row(
        {"edx": (1 << 29 | 1 << 20, ~(1 << 26) & ONES)}, 0x8000_0001, 0, "long_mode", "no_execute"
    ),
    _row({**APIC_ID, "edx": (0, ~(1 << 6) & ONES)}, 1),
    _row({**APIC_ID, "edx": (1 << 6, ONES)}, 1, 0, "pae"),
    _row({**APIC_ID, "edx": (1 << 6, ONES)}, 1, 3, "pae"),
    _row({"ecx": (1 << 16, ONES)}, 7, 0, "five_level"),
    _row({"ecx": (0, ~(1 << 16) & ONES)}, 7),
    _row({}, 7, 1, "five_level"),
    _row({}, 2),
    # The highest leaf of each kind is known as a whole.
    _row({"eax": (BASIC, BASIC)}, 0),
    _row({"eax": (7, 7)}, 0, basic=7),
    _row({"eax": (EXTENDED, EXTENDED)}, 0x8000_0000),
    _row({"eax": (0x8000_0004, 0x8000_0004)}, 0x8000_0000, extended=0x8000_0004),
    # A processor without extended leaves says so in whatever it gives for leaf 80000000H.
    _row({"eax": (5, 5)}, 0x8000_0000, extended=5),
    # Of a leaf that is not there nothing is known; the highest one is there.
    _row({"eax": OPEN}, 0x8000_0008, extended=0x8000_0007),
    _row({"edx": OPEN}, 0x8000_0001, 0, "long_mode", extended=0x8000_0000),
    _row({"edx": (1 << 29, OTHERS | 1 << 29)}, 0x8000_0001, 0, "long_mode", extended=0x8000_0001),
    _row({"edx": OPEN}, 0x8000_0001, 0, extended=BASIC),
    _row({"ecx": OPEN}, 7, 0, "five_level", basic=6),
    _row({"ecx": (1 << 16, ONES)}, 7, 0, "five_level", basic=7),
    _row({"ebx": OPEN, "edx": OPEN}, 1, 0, "pae", basic=0),
    _row({**APIC_ID, "edx": (1 << 6, ONES)}, 1, 0, "pae", basic=1),
    # Each kind of leaf has its own highest one.
    _row({"ecx": (1 << 16, ONES)}, 7, 0, "five_level", extended=0),
    _row({"edx": (1 << 20, OTHERS | 1 << 20)}, 0x8000_0001, 0, "no_execute", basic=1),
    # Which processors there are.
    _exists(True),
    _exists(True, *FLAGS),
    _exists(True, "pae", "long_mode"),
    _exists(True, "pae"),
    _exists(False, "long_mode"),
    _exists(False, "pae", "long_mode", extended=0x8000_0007),
    _exists(True, "pae", "long_mode", extended=0x8000_0009),
    _exists(True, "pae", extended=0x8000_0007),
    _exists(True, "no_execute", extended=0x8000_0001),
    _exists(False, "no_execute", extended=0x8000_0000),
    _exists(True, "gib_pages", extended=0x8000_0001),
    _exists(False, "gib_pages", extended=0x8000_0000),
    _exists(True, extended=0),
    _exists(False, "no_execute", extended=0),
    _exists(True, "five_level", basic=7),
    _exists(False, "five_level", basic=6),
    _exists(True, basic=6),
    _exists(True, basic=1),
    _exists(False, basic=0),
    _exists(True, basic=0x7FFF_FFFF),
    _exists(False, basic=0x8000_0000),
    # IA32_EFER.
    _has_efer(False),
    _has_efer(False, "pae", "gib_pages", "five_level"),
    _has_efer(True, "no_execute"),
    _has_efer(True, "long_mode"),
    _has_efer(True, "long_mode", "no_execute"),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_cpuid_rule(row: Row) -> None:
    """One row: one leaf of one processor, or whether there is such a processor."""
    assert row.outcome(cpuid) == row.expected


def test_all_four_registers_are_answered() -> None:
    """A caller finds each of the four, open or not."""
    assert list(cpuid.cpuid(0, 0, processor(cpuid))) == ["eax", "ebx", "ecx", "edx"]
