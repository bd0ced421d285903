# SPDX-License-Identifier: GPL-2.0-only
"""The start64 images on an emulated CPU, one input at a time: what they do, and their findings."""

from __future__ import annotations

import struct

import pytest
from elftools.elf.enums import ENUM_RELOC_TYPE_x64 as TYPES

from tests.trampoline.emulated import (
    EXTENDED,
    FEATURES,
    LA57,
    LME,
    MIB,
    PAE,
    TABLES,
    Machine,
    no_long_mode,
    payload,
    shipped,
)

KERNEL = 17 * MIB
LOWER_TABLES = 20 * MIB
SCE, NXE, LMA = 0x1, 0x800, 0x400  # of EFER
PGE = 0x80  # of CR4
DF = 0x400
CR0 = 0x80010031  # PG, WP, NE, ET and PE
BOTH = ("start64", "start64_posted")
REAL, LONG = "trampoline_start", "trampoline_start64"
ENTRIES = (REAL, LONG)


def machine(
    name: str, base: int = 0x10000, levels: int = 4, efer: int = SCE | LME | NXE
) -> Machine:
    """Header and tables as the kernel fills them in; the firmware's tables map all RAM."""
    made = Machine(shipped(name), base)
    cr4 = PAE | PGE | (LA57 if levels == 5 else 0)
    header = base + made.image.symbols["tr_start"]
    made.place(header, struct.pack("<QQI", KERNEL, efer, cr4))
    made.map_to_itself(base + made.image.symbols["trampoline_pgd"], LOWER_TABLES, levels)
    made.map_to_itself(TABLES, TABLES + 0x1000, 4)
    made.place(KERNEL, payload())
    return made


def start(ap: Machine, entry: str, **words: int) -> str:
    if entry == REAL:
        return ap.start()
    return ap.enter(ap.base + ap.image.symbols[LONG], **words)


@pytest.mark.parametrize("name", BOTH)
def test_the_host_fills_in_4_byte_addresses_only(name: str) -> None:
    relocations = shipped(name).relocations
    assert {kind for _, kind, _, _ in relocations} == {TYPES["R_X86_64_32"]}
    assert all(symbol.startswith("pa_") for _, _, symbol, _ in relocations)


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("base", [0x4000, 0x90000])
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", BOTH)
def test_either_entry_gives_the_kernel_the_state_that_it_chose(
    name: str, entry: str, base: int, levels: int
) -> None:
    ap = machine(name, base, levels)
    assert start(ap, entry, rsp=0x1234_5678_9ABC_DEF0) == "arrived"
    found = ap.noted
    assert found["cr0"] == CR0
    assert found["cr3"] == base + ap.image.symbols["trampoline_pgd"]
    assert found["cr4"] == PAE | PGE | (LA57 if levels == 5 else 0)
    assert found["efer"] == SCE | LME | NXE | LMA
    assert found["cs"] == 0x10
    assert {found[segment] for segment in ("ds", "es", "ss", "fs", "gs")} == {0x18}
    assert found["gdt_base"] == base + ap.image.symbols["tr_gdt"]
    assert found["gdt_limit"] == 4 * 8 - 1
    assert found["rsp"] == base + ap.image.symbols["rm_stack_end"]
    assert ap.outside == []


@pytest.mark.parametrize("name", BOTH)
def test_an_efer_that_differs_in_either_half_is_written(name: str) -> None:
    same = machine(name, efer=LME)  # as the firmware left it
    assert start(same, LONG) == "arrived"
    assert same.noted["efer"] == LME | LMA
    lower = machine(name, efer=LME | NXE)
    assert start(lower, LONG) == "arrived"
    assert lower.noted["efer"] == LME | NXE | LMA


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_hardened_image_waits_while_another_ap_uses_it(entry: str) -> None:
    ap = machine("start64")
    assert start(ap, REAL) == "arrived"
    assert start(ap, entry) == "waiting"
    ap.put("tr_lock", 0)  # as the kernel does
    assert start(ap, entry) == "arrived"


@pytest.mark.parametrize("highest", [0, EXTENDED, FEATURES, 0x80000008])
@pytest.mark.parametrize("name", BOTH)
def test_a_cpu_without_long_mode_parks(name: str, highest: int) -> None:
    ap = machine(name)
    ap.cpuid = no_long_mode(highest)
    assert ap.start() == "parked"
    if name == "start64":
        assert ap.word("tr_lock") == 0


def test_the_hardened_image_hands_over_flags_of_its_own_choice() -> None:
    ap = machine("start64")
    assert start(ap, LONG, rflags=2 | DF) == "arrived"
    assert ap.noted["rflags"] & DF == 0


def test_the_posted_image_shows_its_findings() -> None:
    ap = machine("start64_posted")
    assert start(ap, REAL) == "arrived"
    assert start(ap, REAL) == "arrived"  # START64-1: the first AP may still use the stack
    assert start(ap, LONG, rflags=2 | DF) == "arrived"
    assert ap.noted["rflags"] & DF  # START64-3
