# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that firmware or a boot loader hands over in 64-bit mode: what is known of its state.

Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"; ACPI 6.4, 5.2.12.19 "Multiprocessor
Wakeup Structure": long mode, paging on, interrupts off. Bits are those of SDM 3A 2.5 "Control
Registers" and 2.2.1 "Extended Feature Enable Register".

Limits: CPL 0. CR4 bits that change what `models.paging` says (SMEP, SMAP, PKE, PKS, CET, LASS, LAM,
PCIDE) are 0, and so are FRED and VMX's. What is not said to be fixed is open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import z3

from models.bits import any_of
from models.descriptors import Segment
from models.linux_entry import BOOT_CS, BOOT_DS
from models.modes import (
    CR0_CD,
    CR0_DEFINED,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR4_LA57,
    CR4_MODELLED,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    GENERAL_REGISTERS,
    RFLAGS_FIXED,
)

CR4_OPEN = CR4_MODELLED & ~CR4_PAE
ARITHMETIC_AND_DIRECTION = 0xCD5
"""CF, PF, AF, ZF, SF, DF and OF. SDM 1, 3.4.3."""
TABLES = ("gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit")


@dataclass(frozen=True)
class HandOver:
    """The state at the first instruction, and what restricts its symbols."""

    registers: dict[str, z3.BitVecRef]
    """64 bits each, but gdtr_limit and idtr_limit 16: rflags, cr0, cr2 to cr4, efer, the general
    registers, GDTR and IDTR."""
    segments: dict[str, Segment]
    """cs, ds, es, ss, fs, gs."""
    conditions: tuple[z3.BoolRef, ...]
    """What holds of every CPU in this state."""


def handed_over(
    name: str, five_level: z3.BoolRef, no_execute: z3.BoolRef, maxphyaddr: z3.BitVecRef
) -> HandOver:
    """The state at a 64-bit entry; `name` ends the names of its symbols.

    `five_level` and `no_execute`: what CPUID says of LA57 and NX; `maxphyaddr` has 64 bits.
    """

    def unknown(register: str, bits: int = 64) -> z3.BitVecRef:
        return z3.BitVec(f"{register}_at_{name}", bits)

    registers = {register: unknown(register) for register in GENERAL_REGISTERS}
    registers |= {t: unknown(t, 16 if t.endswith("limit") else 64) for t in TABLES}
    fixed_cr0 = CR0_PE | CR0_PG | CR0_ET
    registers |= {
        "rflags": RFLAGS_FIXED | (unknown("rflags") & ARITHMETIC_AND_DIRECTION),
        "cr0": fixed_cr0 | (unknown("cr0") & CR0_DEFINED),
        "cr2": unknown("cr2"),
        "cr3": unknown("cr3"),
        "cr4": CR4_PAE | (unknown("cr4") & CR4_OPEN),
        "efer": EFER_LME | EFER_LMA | (unknown("efer") & (EFER_SCE | EFER_NXE)),
    }
    cr0 = registers["cr0"]
    conditions = (
        z3.Implies(any_of(cr0, CR0_NW), any_of(cr0, CR0_CD)),
        z3.LShR(registers["cr3"], maxphyaddr) == 0,
        z3.Implies(any_of(registers["cr4"], CR4_LA57), five_level),
        z3.Implies(any_of(registers["efer"], EFER_NXE), no_execute),
    )
    segments = {register: _unknown_segment(f"{register}_at_{name}") for register in _SEGMENTS}
    segments["cs"] = replace(
        segments["cs"],
        base=z3.BitVecVal(0, 64),
        type=z3.Concat(z3.BitVecVal(1, 1), z3.Extract(2, 0, segments["cs"].type)),
        s=z3.BoolVal(True),
        dpl=z3.BitVecVal(0, 2),
        present=z3.BoolVal(True),
        long=z3.BoolVal(True),
        big=z3.BoolVal(False),
        null=z3.BoolVal(False),
    )
    return HandOver(registers, segments, conditions)


def with_boot_segments(state: HandOver) -> HandOver:
    """The same under the Linux boot protocol: CS is __BOOT_CS, DS, ES and SS are __BOOT_DS, as they
    must be loaded from a GDT that has them."""
    flat = {"base": z3.BitVecVal(0, 64), "limit": z3.BitVecVal(0xFFFF_FFFF, 32)}
    cs = replace(
        state.segments["cs"],
        selector=z3.BitVecVal(BOOT_CS, 16),
        type=z3.BitVecVal(0b1011, 4),
        **flat,
    )
    data = Segment(
        selector=z3.BitVecVal(BOOT_DS, 16),
        type=z3.BitVecVal(0b0011, 4),
        s=z3.BoolVal(True),
        dpl=z3.BitVecVal(0, 2),
        present=z3.BoolVal(True),
        long=z3.BoolVal(False),
        big=z3.BoolVal(True),
        null=z3.BoolVal(False),
        **flat,
    )
    return replace(state, segments={**state.segments, "cs": cs, "ds": data, "es": data, "ss": data})


_SEGMENTS = ("cs", "ds", "es", "ss", "fs", "gs")


def _unknown_segment(name: str) -> Segment:
    return Segment(
        selector=z3.BitVec(name, 16),
        base=z3.BitVec(f"{name}_base", 64),
        limit=z3.BitVec(f"{name}_limit", 32),
        type=z3.BitVec(f"{name}_type", 4),
        s=z3.BoolVal(True),
        dpl=z3.BitVec(f"{name}_dpl", 2),
        present=z3.Bool(f"{name}_present"),
        long=z3.Bool(f"{name}_long"),
        big=z3.Bool(f"{name}_big"),
        null=z3.Bool(f"{name}_null"),
    )
