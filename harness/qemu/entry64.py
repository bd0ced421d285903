# SPDX-License-Identifier: GPL-2.0-only
"""A hand-over in 64-bit mode (entry64.S): page tables, registers, and what cannot be asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from struct import pack

from harness.qemu.debugger import GENERAL
from harness.qemu.job import BadJob, Entry64, Injection
from harness.qemu.protocol import P

PAGE = 0x1000
GIB = 1 << 30
ENTRIES = 512
MAPPED_MAX = 2048 * GIB
# SDM 3A 4.5: writable and present; accessed and dirty, too, so that the CPU need not write.
TABLE, LARGE_PAGE = 0x23, 0xE3

# SDM 3A 2.5, 2.2.1. What a hand-over has in any case, and what can be added on QEMU's CPU.
CR0, CR0_MORE = 0x8000_0011, 0x6005_002E  # PG, ET, PE; CD, NW, AM, WP, NE, TS, EM, MP
CR0_CD, CR0_NW = 0x4000_0000, 0x2000_0000
CR4, CR4_MORE = 0x20, 0x77_0FDF  # PAE; no more than bits 0 to 11, and those below
EFER, EFER_MORE = 0x100, 0x801  # LME; NXE, SCE
CR4_LA57 = 0x1000
FEATURES = {
    "cr4": {
        **{0x800: "umip", 0x1_0000: "fsgsbase", 0x2_0000: "pcid", 0x4_0000: "xsave"},
        **{0x10_0000: "smep", 0x20_0000: "smap", 0x40_0000: "pku"},
    },
    "efer": {0x800: "nx", 0x1: "syscall"},
}
"""Register to bit to the feature that it needs, by QEMU's name."""
LEGACY = GENERAL[:8]
RFLAGS, FLAGS = 2, 0xCD5  # IF = 0; CF, PF, AF, ZF, SF, DF, OF (SDM 1, 3.4.3)


def check(entry: Entry64, lacking: Collection[str]) -> None:
    """Raise BadJob if no CPU that lacks these features (QEMU's names) is handed over like that.

    Where things lie in RAM is not looked at.
    """
    if entry.levels not in (4, 5):
        raise BadJob(f"paging with {entry.levels} levels: 4 or 5")
    check_rflags(entry.rflags)
    if not 0 <= entry.cr3 < PAGE:
        raise BadJob(f"cr3 {entry.cr3:#x}: only bits 11:0 can be added")
    needs = {"lm", "pae"} | ({"la57"} if entry.levels == 5 else set())
    for name, more in (("cr0", CR0_MORE), ("cr4", CR4_MORE), ("efer", EFER_MORE)):
        if (value := getattr(entry, name)) & ~more:
            raise BadJob(f"{name} {value:#x}: only bits of {more:#x} can be added")
        needs |= {flag for bit, flag in FEATURES.get(name, {}).items() if value & bit}
    if entry.cr0 & CR0_NW and not entry.cr0 & CR0_CD:
        raise BadJob(f"cr0 {entry.cr0:#x}: NW needs CD")  # SDM 3A 2.5
    if missing := sorted(needs.intersection(lacking)):
        raise BadJob(f"the CPU lacks {', '.join(missing)}, which this hand-over needs")
    check_registers(entry.registers, 64)


def check_rflags(value: int) -> None:
    """Raise BadJob unless these are flags that can be added."""
    if value & ~FLAGS:
        raise BadJob(f"rflags {value:#x}: only bits of {FLAGS:#x} can be added")


def check_registers(values: Mapping[str, int], bits: int) -> None:
    """Raise BadJob unless all are general registers, by 64-bit names, and values of `bits`."""
    for name, value in values.items():
        if name not in GENERAL:
            raise BadJob(f"{name!r} is no general register of 64 bits")
        if not 0 <= value < 1 << bits:
            raise BadJob(f"{name} = {value:#x}: not a value of {bits} bits")


def has_32_bits(injection: Injection) -> bool:
    """Whether all that is to be changed is there outside of 64-bit code, too."""
    lower = (name in LEGACY and value < 1 << 32 for name, value in injection.registers.items())
    return not injection.upper_halves and all(lower)


def tables_at(entry: Entry64) -> int:
    """Physical address of the top-level table."""
    return P["TABLES"] if entry.tables is None else entry.tables


def registers(entry: Entry64) -> dict[str, int]:
    """All registers that the hand-over loads, by the names of the report."""
    return {
        **dict.fromkeys(GENERAL, 0),
        **entry.registers,
        "rip": entry.address,
        "rflags": RFLAGS | entry.rflags,
        "cr0": CR0 | entry.cr0,
        "cr3": tables_at(entry) | entry.cr3,
        "cr4": CR4 | entry.cr4 | (CR4_LA57 if entry.levels == 5 else 0),
        "efer": EFER | entry.efer,
    }


@lru_cache(64)
def identity_tables(at: int, levels: int, phys_bits: int) -> bytes:
    """Tables that lie at physical `at`, the top level first, and map memory to itself.

    They map all that MAXPHYADDR allows, and 2 TiB at most, in 1 GiB pages.
    """
    return _tables(at, levels, min(MAPPED_MAX, 1 << phys_bits), leaf=3)


def tables_of_small_pages(at: int, size: int) -> bytes:
    """Tables of 4 levels for a CPU without 1 GiB pages: at physical `at`, they map the first `size`
    bytes of memory to themselves, in 2 MiB pages."""
    return _tables(at, 4, size, leaf=2)


def _tables(at: int, levels: int, size: int, leaf: int) -> bytes:
    """Each level is one array, behind that of the level above. `leaf`: the level that has pages."""
    data = b""
    for level in range(levels, leaf - 1, -1):
        reach = PAGE * ENTRIES ** (level - 1)  # of one entry
        count = -(-size // reach)
        below = at + -(-count // ENTRIES) * PAGE
        step, first = (reach, LARGE_PAGE) if level == leaf else (PAGE, below + TABLE)
        data += _pages(range(first, first + count * step, step))
        at = below
    return data


def _pages(entries: Sequence[int]) -> bytes:
    data = pack(f"<{len(entries)}Q", *entries)
    return data + bytes(-len(data) % PAGE)
