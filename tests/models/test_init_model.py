# SPDX-License-Identifier: GPL-2.0-only
"""The state after INIT and SIPI, value by value from the manual's table."""

from __future__ import annotations

from types import ModuleType

import pytest
import z3

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


# What forget_registers() lets go of: the same pairs, where they differ from those above.
FORGOTTEN = {
    **dict.fromkeys((*LEGACY, *EXTENDED, "rdx", "gdtr_base", "idtr_base"), (0, ONES)),
    **dict.fromkeys(("gdtr_limit", "idtr_limit"), (0, 0xFFFF)),
    "rflags": (2, 2 | 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 11),
}


def _after_forgetting(name: str) -> Row:
    width = 16 if name.endswith("limit") else 64

    def outcome(module: ModuleType) -> object:
        state = module.forget_registers(module.init_sipi(word(0x9A, 8)))
        ones = (1 << width) - 1
        return tuple(number(state.complete(name, word(open_, width))) for open_ in (0, ones))

    return Row(f"{name}, forgotten", outcome, FORGOTTEN.get(name, VALUES[name]))


def _segment_after_forgetting(name: str) -> Row:
    """Selector and base become symbols of 16 and 32 bits; all else stays. CS stays as it is."""

    def outcome(module: ModuleType) -> object:
        before = module.init_sipi(word(0x9A, 8)).segments[name]
        after = module.forget_registers(module.init_sipi(word(0x9A, 8))).segments[name]
        changed = {part for part, term in vars(before).items() if not term.eq(vars(after)[part])}
        if name == "cs":
            return changed
        assert (after.selector.size(), after.base.size()) == (16, 64)
        selector, low = after.selector, z3.Extract(31, 0, after.base)
        ones = [(selector, word(0xFFFF, 16)), (variable(low), word(0xFFFF_FFFF, 32))]
        everything = tuple(
            number(z3.substitute(term, *ones)) for term in (after.selector, after.base)
        )
        return changed, everything, {selector.decl().name(), variable(low).decl().name()}

    expected = (
        {"selector", "base"},
        (0xFFFF, 0xFFFF_FFFF),
        {f"{name}_at_entry", f"{name}_base_at_entry"},
    )
    return Row(f"{name}, forgotten", outcome, set() if name == "cs" else expected)


def variable(term: z3.ExprRef) -> z3.ExprRef:
    """The one symbol of a term."""
    while term.num_args():
        (term,) = term.children()
    return term


ROWS = (
    *map(_register, VALUES),
    *map(_after_forgetting, VALUES),
    *map(_segment_after_forgetting, ("cs", "ds", "es", "ss", "fs", "gs")),
    Row(
        "nothing else is forgotten",
        lambda m: set(m.forget_registers(m.init_sipi(word(1, 8))).registers),
        set(VALUES),
    ),
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
