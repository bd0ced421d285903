# SPDX-License-Identifier: GPL-2.0-only
"""What is left of the general registers where 64-bit code begins, way by way."""

from __future__ import annotations

from types import ModuleType

import pytest

from models import mode_switches
from tests.models.rows import Row

NONE, UPPER, ALL = 0, 0xFFFF_FFFF_0000_0000, 0xFFFF_FFFF_FFFF_FFFF
LEGACY = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
EXTENDED = ("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")


def _undefined(names: tuple[str, ...], way: str, mask: int) -> Row:
    def outcome(module: ModuleType) -> object:
        return {module.undefined_bits(name, module.Way[way]) for name in names}

    return Row(f"{names[0]} to {names[-1]}: {way}", outcome, {mask})


def _paging_off(before: str, after: str) -> Row:
    return Row(
        f"{before}, then paging off",
        lambda module: module.Way[before].paging_off.name,
        after,
    )


ROWS = (
    _undefined(LEGACY, "FIRST", UPPER),
    _undefined(LEGACY, "COMPATIBILITY", UPPER),
    _undefined(LEGACY, "LEGACY", UPPER),
    _undefined(EXTENDED, "FIRST", UPPER),
    _undefined(EXTENDED, "COMPATIBILITY", NONE),
    _undefined(EXTENDED, "LEGACY", ALL),
    _paging_off("FIRST", "FIRST"),
    _paging_off("COMPATIBILITY", "LEGACY"),
    _paging_off("LEGACY", "LEGACY"),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_way_leaves(row: Row) -> None:
    assert row.outcome(mode_switches) == row.expected
