# SPDX-License-Identifier: GPL-2.0-only
"""The 64-bit boot protocol: a state that meets every demand, and single changes that break one.

The good state is what the multikernel trampoline hands over: registers loaded from its first GDT,
the second GDT in force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import z3

from models import descriptors, linux_entry
from tests.models.rows import Row, holds, number, word

KERNEL, BOOT_PARAMS, GDT = 0x12_3456_7000, 0x9_0000, 0x9_A280
ENTRY_CS, ENTRY_DS = GDT + 0x10, GDT + 0x18
GDT_ENTRIES = {ENTRY_CS: 0x00AF_9A00_0000_FFFF, ENTRY_DS: 0x00CF_9200_0000_FFFF}
LOADED = {"cs": (0x10, 0x00AF_9B00_0000_FFFF)} | dict.fromkeys(
    ("ds", "es", "ss"), (0x18, 0x00CF_9300_0000_FFFF)
)
REGISTERS = {
    "rip": KERNEL,
    "rsi": BOOT_PARAMS,
    "rflags": 0x46,
    "cr0": 0x8000_0011,
    "cr3": 0x9_C000,
    "cr4": 0x20,
    "efer": 0x500,
    "gdtr_base": GDT,
}

RIP = "RIP holds the kernel's physical address"
RSI = "RSI holds the physical address of boot_params"
LONG_MODE = "the CPU is in 64-bit mode (EFER.LMA and CS.L)"
PAGING = "paging is on"
INTERRUPTS = "interrupts are off"
CS_SELECTOR = "the CS selector is __BOOT_CS (0x10)"
DATA_SELECTORS = "the DS, ES and SS selectors are __BOOT_DS (0x18)"
CS_LOADED = "CS as loaded is a flat 4 GiB execute/read 64-bit code segment"
DATA_LOADED = "DS, ES and SS as loaded are flat 4 GiB read/write data segments"
GDT_CS = "GDT entry 0x10 is a flat 4 GiB execute/read 64-bit code segment"
GDT_DS = "GDT entry 0x18 is a flat 4 GiB read/write data segment"
ALL = {
    RIP, RSI, LONG_MODE, PAGING, INTERRUPTS, CS_SELECTOR,
    DATA_SELECTORS, CS_LOADED, DATA_LOADED, GDT_CS, GDT_DS,
}  # fmt: skip


def broken(
    registers: dict[str, int] | None = None,
    loaded: dict[str, tuple[int, int]] | None = None,
    entries: dict[int, int] | None = None,
    limit: int = 0x2F,
    change: Callable[[dict[str, Any]], None] = lambda segments: None,
) -> Callable[[ModuleType], object]:
    """The sentences that do not hold after these changes to the good state."""

    def outcome(module: ModuleType) -> object:
        memory = GDT_ENTRIES | (entries or {})
        segments = {
            name: descriptors.decode(word(selector, 16), word(raw))
            for name, (selector, raw) in (LOADED | (loaded or {})).items()
        }
        change(segments)
        handoff = module.HandOff(
            **{name: word(value) for name, value in (REGISTERS | (registers or {})).items()},
            segments=segments,
            gdtr_limit=word(limit, 16),
            read_physical=lambda at: word(memory.get(number(at), 0)),
        )
        conditions = module.conditions(handoff, word(KERNEL), word(BOOT_PARAMS))
        assert set(conditions) == ALL
        return {sentence for sentence, term in conditions.items() if not holds(term)}

    return outcome


def _null(name: str) -> Callable[[dict[str, Any]], None]:
    def change(segments: dict[str, Any]) -> None:
        segments[name] = replace(segments[name], null=z3.BoolVal(True))

    return change


# What makes a code or data descriptor another one than the protocol demands. SDM 3A figure 3-8.
CODE = LOADED["cs"][1]
DATA = LOADED["ds"][1]
BAD_CODE = {
    "execute-only": CODE & ~(1 << 41),
    "data": CODE & ~(1 << 43),
    "system": CODE & ~(1 << 44),
    "DPL 3": CODE | 3 << 45,
    "not present": CODE & ~(1 << 47),
    "limit in bytes": CODE & ~(1 << 55),
    "limit one page short": CODE & ~1,
    "base 1": CODE | 1 << 16,
    "base 80000000H": CODE | 1 << 63,
}
NOT_64_BIT = {"L = 0": CODE & ~(1 << 53), "D = 1": CODE | 1 << 54}
BAD_DATA = {
    "read-only": DATA & ~(1 << 41),
    "expand-down": DATA | 1 << 42,
    "code": DATA | 1 << 43,
    "system": DATA & ~(1 << 44),
    "DPL 3": DATA | 3 << 45,
    "not present": DATA & ~(1 << 47),
    "limit in bytes": DATA & ~(1 << 55),
    "base 1": DATA | 1 << 16,
}

ROWS = (
    Row("the good state", broken(), set()),
    Row("RIP", broken({"rip": KERNEL + 1}), {RIP}),
    Row("RIP's upper half", broken({"rip": KERNEL & 0xFFFF_FFFF}), {RIP}),
    Row("RSI", broken({"rsi": BOOT_PARAMS | 1 << 63}), {RSI}),
    Row("IF", broken({"rflags": 0x202}), {INTERRUPTS}),
    Row("all flags but IF", broken({"rflags": 0xFFFF_FDFF}), set()),
    Row("PG = 0", broken({"cr0": 0x11}), {PAGING}),
    Row("PAE = 0", broken({"cr4": 0}), {PAGING}),
    Row("PE = 0", broken({"cr0": 0x8000_0010}), {LONG_MODE}),
    Row("LMA = 0", broken({"efer": 0x100}), {LONG_MODE}),
    Row("CS selector 8", broken(loaded={"cs": (0x8, CODE)}), {CS_SELECTOR}),
    Row("CS selector with RPL 3", broken(loaded={"cs": (0x13, CODE)}), {CS_SELECTOR}),
    *(
        Row(f"{name} selector", broken(loaded={name: (0x20, DATA)}), {DATA_SELECTORS})
        for name in ("ds", "es", "ss")
    ),
    *(
        Row(f"CS as loaded: {why}", broken(loaded={"cs": (0x10, raw)}), {CS_LOADED})
        for why, raw in BAD_CODE.items()
    ),
    *(
        Row(f"CS as loaded: {why}", broken(loaded={"cs": (0x10, raw)}), {CS_LOADED, LONG_MODE})
        for why, raw in NOT_64_BIT.items()
    ),
    *(
        Row(f"GDT entry 0x10: {why}", broken(entries={ENTRY_CS: raw}), {GDT_CS})
        for why, raw in (BAD_CODE | NOT_64_BIT).items()
    ),
    *(
        Row(f"{name} as loaded: {why}", broken(loaded={name: (0x18, raw)}), {DATA_LOADED})
        for why, raw in BAD_DATA.items()
        for name in ("ds", "es", "ss")
    ),
    *(
        Row(f"GDT entry 0x18: {why}", broken(entries={ENTRY_DS: raw}), {GDT_DS})
        for why, raw in BAD_DATA.items()
    ),
    Row("CS null", broken(change=_null("cs")), {CS_LOADED}),
    Row("SS null", broken(change=_null("ss")), {DATA_LOADED}),
    Row("accessed flags the other way", broken(entries={ENTRY_CS: CODE, ENTRY_DS: DATA}), set()),
    Row("B = 0 in the data segment", broken(entries={ENTRY_DS: DATA & ~(1 << 54)}), set()),
    Row("limit just holds entry 0x18", broken(limit=0x1F), set()),
    Row("limit one short of entry 0x18", broken(limit=0x1E), {GDT_DS}),
    Row("limit one short of entry 0x10", broken(limit=0x16), {GDT_CS, GDT_DS}),
    Row("another GDT in force", broken({"gdtr_base": 0x5000}), {GDT_CS, GDT_DS}),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_conditions_that_do_not_hold(row: Row) -> None:
    """One row: one change to the good state, and exactly the sentences that it breaks."""
    assert row.outcome(linux_entry) == row.expected
