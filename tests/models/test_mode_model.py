# SPDX-License-Identifier: GPL-2.0-only
"""Modes, and writes to the registers that choose them: each rule with and without its cause."""

from __future__ import annotations

from types import ModuleType

import pytest
import z3

from models import modes
from models.modes import (
    CR0_CD,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR0_WP,
    CR4_CET,
    CR4_LA57,
    CR4_PAE,
    CR4_PCIDE,
    CR4_PGE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
)
from tests.models.rows import Row, holds, number, word

LONG = EFER_LME | EFER_LMA
PROTECTED = CR0_PE | CR0_ET
PAGED = PROTECTED | CR0_PG


def control(module: ModuleType, cr0: int, cr3: int = 0, cr4: int = 0, efer: int = 0) -> object:
    """Control registers with these values."""
    return module.Control(word(cr0), word(cr3), word(cr4), word(efer))


# --- Mode

MODES = (
    # PE, LMA, CS.L, CS.D -> mode, bits
    ((0, 0, 0, 0), "REAL16", 16),
    ((0, 0, 1, 0), "REAL16", 16),
    ((1, 0, 0, 0), "PROTECTED16", 16),
    ((1, 0, 0, 1), "PROTECTED32", 32),
    ((1, 0, 1, 0), "PROTECTED16", 16),
    ((1, 0, 1, 1), "PROTECTED32", 32),
    ((1, 1, 0, 0), "COMPATIBILITY16", 16),
    ((1, 1, 0, 1), "COMPATIBILITY32", 32),
    ((1, 1, 1, 0), "LONG64", 64),
)
NO_MODE = ((0, 1, 0, 0), (0, 1, 1, 0), (1, 1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 1, 1))


def _mode(module: ModuleType, bits: tuple[int, ...]) -> object:
    try:
        mode = module.mode(*map(bool, bits))
    except ValueError:
        return None
    return mode.name, mode.bits


def mode_row(bits: tuple[int, ...], expected: object) -> Row:
    """A row on PE, LMA, CS.L and CS.D."""
    return Row(f"PE, LMA, L, D = {bits}", lambda module: _mode(module, bits), expected)


MODE_ROWS = (
    *(mode_row(bits, (name, width)) for bits, name, width in MODES),
    *(mode_row(bits, None) for bits in NO_MODE),
)

# --- Paging kinds

KINDS = ("no_paging", "legacy_32_bit", "legacy_pae", "four_level", "five_level")


def kind(name: str, cr0: int, cr4: int, efer: int) -> Row:
    """A row on the paging mode: `name` and no other."""

    def outcome(module: ModuleType) -> object:
        state = control(module, cr0, cr4=cr4, efer=efer)
        assert holds(module.loads_pdptes(state)) == (name == "legacy_pae")
        return [each for each in KINDS if holds(getattr(module, each)(state))]

    return Row(f"{name}: CR0 {cr0:#x}, CR4 {cr4:#x}, EFER {efer:#x}", outcome, [name])


KIND_ROWS = (
    kind("no_paging", PROTECTED, CR4_PAE | CR4_LA57, EFER_LME),
    kind("no_paging", PROTECTED, CR4_PAE, EFER_LME),
    kind("no_paging", PROTECTED, 0, 0),
    kind("legacy_32_bit", PAGED, 0, 0),
    kind("legacy_pae", PAGED, CR4_PAE, 0),
    kind("legacy_pae", PAGED, CR4_PAE | CR4_LA57, 0),
    kind("four_level", PAGED, CR4_PAE, LONG),
    kind("five_level", PAGED, CR4_PAE | CR4_LA57, LONG),
)

# --- CR0


def cr0(
    rule: str,
    value: int,
    expected: bool,
    *,
    was: int = PROTECTED,
    cr4: int = CR4_PAE,
    efer: int = EFER_LME,
    cs_long: bool = False,
) -> Row:
    """A row on MOV to CR0."""

    def outcome(module: ModuleType) -> object:
        state = control(module, was, cr4=cr4, efer=efer)
        return holds(module.cr0_write_faults(state, word(value), z3.BoolVal(cs_long)))

    return Row(f"CR0: {rule}", outcome, expected)


CR0_ROWS = (
    cr0("into IA-32e mode as the trampoline does", 0x8000_0001, False),
    cr0("PG without PE", CR0_PG, True, efer=0),
    cr0("NW without CD", PROTECTED | CR0_NW, True),
    cr0("NW with CD", PROTECTED | CR0_NW | CR0_CD, False),
    cr0("CD without NW", PROTECTED | CR0_CD, False),
    cr0("bit 32", PROTECTED | 1 << 32, True),
    cr0("bit 63", PROTECTED | 1 << 63, True),
    cr0("reserved bits below 32 are ignored", PROTECTED | 0x1FFA_FFC0, False),
    cr0("PG with LME, PAE = 0", PAGED, True, cr4=0),
    cr0("PG stays 0 with LME, PAE = 0", PROTECTED, False, cr4=0),
    cr0("PG without LME, PAE = 0", PAGED, False, cr4=0, efer=0),
    cr0("PG without LME, PAE = 1", PAGED, False, efer=0),
    cr0("PG with LME, CS.L = 1", PAGED, True, cs_long=True),
    cr0("PG without LME, CS.L = 1", PAGED, False, efer=0, cs_long=True),
    cr0("PG stays 1 in 64-bit mode", PAGED | CR0_WP, False, was=PAGED, efer=LONG, cs_long=True),
    cr0("PG := 0 in 64-bit mode", PROTECTED, True, was=PAGED, efer=LONG, cs_long=True),
    cr0("PG := 0 in compatibility mode", PROTECTED, False, was=PAGED, efer=LONG),
    cr0("PG := 0 with PCIDE", PROTECTED, True, was=PAGED, efer=LONG, cr4=CR4_PAE | CR4_PCIDE),
    cr0("PG stays 1 with PCIDE", PAGED, False, was=PAGED, efer=LONG, cr4=CR4_PAE | CR4_PCIDE),
    cr0("PG := 0 in legacy paging, CS.L = 1", PROTECTED, False, was=PAGED, efer=0, cs_long=True),
    cr0("PE := 0 without paging", CR0_ET, False),
    cr0("WP := 0 with CET", PROTECTED, True, cr4=CR4_PAE | CR4_CET),
    cr0("WP stays 1 with CET", PROTECTED | CR0_WP, False, cr4=CR4_PAE | CR4_CET),
    cr0("PCIDE with PG = 0 before and after", PROTECTED, False, cr4=CR4_PAE | CR4_PCIDE),
)


def cr0_effect(rule: str, value: int, efer: int, expected: tuple[int, int], was: int = 0x10) -> Row:
    """A row on what MOV to CR0 leaves in CR0 and IA32_EFER."""

    def outcome(module: ModuleType) -> object:
        after = module.cr0_write(control(module, was, 0x1000, CR4_PAE, efer), word(value))
        assert (number(after.cr3), number(after.cr4)) == (0x1000, CR4_PAE)
        return number(after.cr0), number(after.efer)

    return Row(f"CR0 effect: {rule}", outcome, expected)


def lmsw(rule: str, was: int, source: int, expected: int) -> Row:
    """A row on LMSW."""
    return Row(
        f"LMSW: {rule}",
        lambda m: number(m.lmsw(control(m, was), word(source, 16))),
        expected,
    )


EFFECT_ROWS = (
    cr0_effect("ET stays 1, LMA follows", 0x8000_0001, EFER_LME, (0x8000_0011, LONG)),
    cr0_effect("LMA needs LME", 0x8000_0001, EFER_SCE, (0x8000_0011, EFER_SCE)),
    cr0_effect("PG := 0 clears LMA", 1, LONG | EFER_NXE, (0x11, EFER_LME | EFER_NXE), was=PAGED),
    cr0_effect("reserved bits stay 0", 0xFFFF_FFFF, 0, (0xE005_003F, 0)),
    lmsw("sets PE", 0x10, 1, 0x11),
    lmsw("cannot clear PE", 0x11, 0, 0x11),
    lmsw("clears MP, EM, TS", 0x1F, 0, 0x11),
    lmsw("sets MP, EM, TS", 0x11, 0xE, 0x1F),
    lmsw("takes bits 3:0 only", 0x6000_0010, 0xFFF0, 0x6000_0010),
    lmsw("keeps the rest", 0xE005_0030 | CR0_TS, 1, 0xE005_0031),
)

# --- CR3, CR4, IA32_EFER


def cr3(rule: str, value: int, expected: bool, maxphyaddr: int = 52, cr4: int = CR4_PAE) -> Row:
    """A row on MOV to CR3."""

    def outcome(module: ModuleType) -> object:
        state = control(module, PAGED, cr4=cr4, efer=LONG)
        return holds(module.cr3_write_faults(state, word(value), word(maxphyaddr)))

    return Row(f"CR3: {rule}", outcome, expected)


def cr4(
    rule: str,
    value: int,
    expected: bool,
    *,
    was: int = CR4_PAE,
    efer: int = LONG,
    cr0: int = PAGED,
    cr3: int = 0x1000,
    supported: int = 0x00FF_FFFF,
) -> Row:
    """A row on MOV to CR4."""

    def outcome(module: ModuleType) -> object:
        state = control(module, cr0, cr3, was, efer)
        return holds(module.cr4_write_faults(state, word(value), supported))

    return Row(f"CR4: {rule}", outcome, expected)


def efer(
    rule: str, value: int, expected: bool, was: int = 0, cr0: int = PROTECTED, **kw: int
) -> Row:
    """A row on WRMSR to IA32_EFER."""

    def outcome(module: ModuleType) -> object:
        return holds(module.efer_write_faults(control(module, cr0, efer=was), word(value), **kw))

    return Row(f"EFER: {rule}", outcome, expected)


WITH_NXE = EFER_SCE | LONG | EFER_NXE
WRITE_ROWS = (
    cr3("bit 35 with MAXPHYADDR 36", 1 << 35, False, 36),
    cr3("bit 36 with MAXPHYADDR 36", 1 << 36, True, 36),
    cr3("bit 39 with MAXPHYADDR 40", 1 << 39, False, 40),
    cr3("bit 40 with MAXPHYADDR 40", 1 << 40, True, 40),
    cr3("bit 51 with MAXPHYADDR 52", 1 << 51, False),
    cr3("bit 52 with MAXPHYADDR 52", 1 << 52, True),
    cr3("bit 62 with PCIDE", 1 << 62, True, cr4=CR4_PAE | CR4_PCIDE),
    cr3("bit 63 without PCIDE", 1 << 63, True),
    cr3("bit 63 with PCIDE", 1 << 63, False, cr4=CR4_PAE | CR4_PCIDE),
    Row(
        "CR3 effect: bit 63 is not stored",
        lambda m: number(m.cr3_write(control(m, PAGED), word(1 << 63 | 1 << 62 | 0x1FFF)).cr3),
        1 << 62 | 0x1FFF,
    ),
    cr4("unsupported bit", CR4_PAE | 1 << 24, True),
    cr4("supported bit", CR4_PAE | CR4_PGE, False),
    cr4("bit 32", CR4_PAE | 1 << 32, True),
    cr4("PAE := 0 in IA-32e mode", 0, True),
    cr4("PAE := 0 with LME, not active", 0, False, efer=EFER_LME, cr0=PROTECTED),
    cr4("LA57 := 1 in IA-32e mode", CR4_PAE | CR4_LA57, True),
    cr4("LA57 := 0 in IA-32e mode", CR4_PAE, True, was=CR4_PAE | CR4_LA57),
    cr4("LA57 kept in IA-32e mode", CR4_PAE | CR4_LA57, False, was=CR4_PAE | CR4_LA57),
    cr4("LA57 := 1 before", CR4_PAE | CR4_LA57, False, efer=EFER_LME, cr0=PROTECTED),
    cr4("PCIDE := 1, CR3 11:0 zero", CR4_PAE | CR4_PCIDE, False),
    cr4("PCIDE := 1, CR3 bit 0", CR4_PAE | CR4_PCIDE, True, cr3=0x1001),
    cr4("PCIDE := 1, CR3 bit 11", CR4_PAE | CR4_PCIDE, True, cr3=0x1800),
    cr4("PCIDE := 1 outside IA-32e mode", CR4_PCIDE, True, efer=0, cr0=PROTECTED),
    cr4("PCIDE kept", CR4_PAE | CR4_PCIDE, False, was=CR4_PAE | CR4_PCIDE, cr3=0x1001),
    cr4("CET with WP", CR4_PAE | CR4_CET, False, cr0=PAGED | CR0_WP),
    cr4("CET without WP", CR4_PAE | CR4_CET, True),
    cr4("without CET, WP does not matter", CR4_PAE, False, cr0=PAGED | CR0_WP),
    Row("CR4 effect", lambda m: number(m.cr4_write(control(m, PAGED), word(0xA0)).cr4), 0xA0),
    efer("LME := 1 without paging", EFER_LME, False),
    efer("LME := 1 with paging", EFER_LME, True, cr0=PAGED),
    efer("LME := 0 with paging", EFER_LMA, True, was=LONG, cr0=PAGED),
    efer("LME kept with paging", LONG | EFER_SCE, False, was=LONG, cr0=PAGED),
    efer("LME := 0 without paging", 0, False, was=EFER_LME),
    efer("LMA in the value", EFER_LME | EFER_LMA, False),
    *(efer(f"reserved bit {number}", 1 << number, True) for number in (1, 7, 9, 12, 32, 63)),
    efer("NXE where it does not exist", EFER_NXE, True),
    efer("NXE where it exists", EFER_NXE, False, supported=WITH_NXE),
    Row(
        "EFER effect: LMA is kept at 1",
        lambda m: number(m.efer_write(control(m, PAGED, efer=LONG), word(EFER_LME | 1)).efer),
        LONG | 1,
    ),
    Row(
        "EFER effect: LMA is kept at 0",
        lambda m: number(m.efer_write(control(m, PROTECTED), word(LONG)).efer),
        EFER_LME,
    ),
)

# --- Bit numbers, SDM 3A figure 2-7 and table 2-1; SDM 1 figure 3-8.

BIT_NUMBERS = {
    "CR0": dict(PE=0, MP=1, EM=2, TS=3, ET=4, NE=5, WP=16, AM=18, NW=29, CD=30, PG=31),
    "CR4": dict(PSE=4, PAE=5, PGE=7, LA57=12, PCIDE=17, SMEP=20, SMAP=21, PKE=22, CET=23),
    "EFER": dict(SCE=0, LME=8, LMA=10, NXE=11),
    "RFLAGS": dict(CF=0, FIXED=1, PF=2, AF=4, ZF=6, SF=7, TF=8, IF=9, DF=10, OF=11),
}


def bit_row(name: str, position: int) -> Row:
    """A row on one constant."""
    return Row(name, lambda module: getattr(module, name), 1 << position)


BIT_ROWS = (
    *(
        bit_row(f"{register}_{name}", position)
        for register, names in BIT_NUMBERS.items()
        for name, position in names.items()
    ),
    Row("number of IA32_EFER", lambda m: m.IA32_EFER, 0xC0000080),
)

CR4_ROWS = (
    # Bits 0 to 12, VME to LA57, and 16, FSGSBASE; not VMXE, SMXE, PCIDE and those above.
    Row("bits of CR4 that are modelled", lambda m: m.CR4_MODELLED, (1 << 13) - 1 | 1 << 16),
    Row("bits of CR4 that walks or TLBs read", lambda m: m.CR4_READ_BY_WALKS, 0x10A0),
)

ROWS = (*MODE_ROWS, *KIND_ROWS, *CR0_ROWS, *EFFECT_ROWS, *WRITE_ROWS, *BIT_ROWS, *CR4_ROWS)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_mode_rule(row: Row) -> None:
    """One row: one rule with or without its cause."""
    assert row.outcome(modes) == row.expected


def test_the_way_from_init_to_64_bit_mode() -> None:
    """Each step of the multikernel trampoline: no fault, and the mode that follows."""
    init = modes.init_sipi(word(0x9A, 8)).registers
    state = modes.Control(*(init[name] for name in ("cr0", "cr3", "cr4", "efer")))

    def mode(cs_long: bool, cs_big: bool) -> modes.Mode:
        pe = bool(number(state.cr0) & CR0_PE)
        return modes.mode(pe, bool(number(state.efer) & EFER_LMA), cs_long, cs_big)

    assert mode(False, False) is modes.Mode.REAL16
    state = modes.cr0_write(state, modes.lmsw(state, word(1, 16)))
    assert mode(False, False) is modes.Mode.PROTECTED16
    assert mode(False, True) is modes.Mode.PROTECTED32
    assert not holds(modes.cr4_write_faults(state, word(CR4_PAE), CR4_PAE))
    state = modes.cr4_write(state, word(CR4_PAE))
    assert not holds(modes.cr3_write_faults(state, word(0x9C000), word(36)))
    state = modes.cr3_write(state, word(0x9C000))
    assert not holds(modes.efer_write_faults(state, word(EFER_LME)))
    state = modes.efer_write(state, word(EFER_LME))
    assert holds(modes.no_paging(state))
    assert not holds(modes.cr0_write_faults(state, word(0x8000_0001), z3.BoolVal(False)))
    state = modes.cr0_write(state, word(0x8000_0001))
    assert holds(modes.four_level(state))
    assert mode(False, True) is modes.Mode.COMPATIBILITY32
    assert mode(True, False) is modes.Mode.LONG64
