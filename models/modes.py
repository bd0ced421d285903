# SPDX-License-Identifier: GPL-2.0-only
"""Processor modes, the control registers that choose them, and the state after INIT and SIPI.

SDM 3A 2.2 "Modes of Operation", 2.2.1 "Extended Feature Enable Register", 2.5 "Control Registers",
4.1 "Paging Modes and Control Bits", 8.4 "Multiple-Processor (MP) Initialization", 9.1.1 "Processor
State After Reset", 9.8.5 "Initializing IA-32e Mode"; SDM 2, MOV to control registers, LMSW, WRMSR.

Limits: CPL 0; no virtual-8086 mode, SMM, VMX or task switch; the rule that a TR with a 16-bit TSS
forbids entering IA-32e mode is left out (after INIT nothing loads TR); no load of PDPTEs (legacy
PAE paging: `loads_pdptes` says when); CR4.PCIDE and CET only as far as the rules below name them,
CR3's LAM bits count as reserved. CR8, debug registers and MSRs other than IA32_EFER are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import z3

from models.bits import any_of, field
from models.descriptors import Segment

# 2.5 "Control Registers", figure 2-7.
CR0_PE = 1 << 0
CR0_MP = 1 << 1
CR0_EM = 1 << 2
CR0_TS = 1 << 3
CR0_ET = 1 << 4
CR0_NE = 1 << 5
CR0_WP = 1 << 16
CR0_AM = 1 << 18
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR0_PG = 1 << 31
CR0_DEFINED = 0xE005_003F
"""All of the above."""

CR3_NO_FLUSH = 1 << 63
"""With CR4.PCIDE a command to MOV to CR3, not stored (4.10.4.1)."""

CR4_PSE = 1 << 4
CR4_PAE = 1 << 5
CR4_PGE = 1 << 7
CR4_LA57 = 1 << 12
CR4_PCIDE = 1 << 17
CR4_SMEP = 1 << 20
CR4_SMAP = 1 << 21
CR4_PKE = 1 << 22
CR4_CET = 1 << 23
CR4_MODELLED = 0x1_1FFF
"""VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, LA57 and FSGSBASE: those
with an effect on what is modelled are PAE, LA57 and, on TLBs, PGE. Walks are as `models.paging` has
them only while all others are 0."""
CR4_READ_BY_WALKS = CR4_PAE | CR4_PGE | CR4_LA57
"""What a change of which may change a translation, or what a TLB holds."""

# 2.2.1 "Extended Feature Enable Register", table 2-1.
EFER_SCE = 1 << 0
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
EFER_NXE = 1 << 11
IA32_EFER = 0xC000_0080
"""Number of the MSR."""

# SDM 1, 3.4.3 "EFLAGS Register".
RFLAGS_CF = 1 << 0
RFLAGS_FIXED = 1 << 1
"""Bit 1 always reads as 1."""
RFLAGS_PF = 1 << 2
RFLAGS_AF = 1 << 4
RFLAGS_ZF = 1 << 6
RFLAGS_SF = 1 << 7
RFLAGS_TF = 1 << 8
RFLAGS_IF = 1 << 9
RFLAGS_DF = 1 << 10
RFLAGS_OF = 1 << 11


class Mode(Enum):
    """What decides how the bytes at CS:IP are decoded and addressed. 2.2, 3.4.5 (D/B and L)."""

    REAL16 = "real-address mode"
    PROTECTED16 = "16-bit protected mode"
    PROTECTED32 = "32-bit protected mode"
    COMPATIBILITY16 = "16-bit compatibility mode"
    COMPATIBILITY32 = "32-bit compatibility mode"
    LONG64 = "64-bit mode"

    @property
    def bits(self) -> int:
        """Default address size: 16, 32 or 64. The operand size is the same, but 32 for 64."""
        return int(self.name[-2:])


def mode(pe: bool, lma: bool, cs_long: bool, cs_big: bool) -> Mode:
    """The mode from CR0.PE, IA32_EFER.LMA, CS.L and CS.D of the hidden part.

    ValueError for states that the manual calls reserved or does not describe: LMA without PE,
    L with D in IA-32e mode (5.2.1), D in real-address mode.
    """
    match pe, lma, cs_long, cs_big:
        case False, False, _, False:
            return Mode.REAL16
        case True, False, _, _:
            return Mode.PROTECTED32 if cs_big else Mode.PROTECTED16
        case True, True, False, _:
            return Mode.COMPATIBILITY32 if cs_big else Mode.COMPATIBILITY16
        case True, True, True, False:
            return Mode.LONG64
    raise ValueError(
        f"no mode with CR0.PE={pe:d}, IA32_EFER.LMA={lma:d}, CS.L={cs_long:d}, CS.D={cs_big:d}"
    )


@dataclass(frozen=True)
class Control:
    """The registers that choose mode and paging, 64 bits each."""

    cr0: z3.BitVecRef
    cr3: z3.BitVecRef
    cr4: z3.BitVecRef
    efer: z3.BitVecRef


# --- Paging modes: exactly one of these five holds. 4.1.1 "Three (later: Four) Paging
# Modes", table 4-1.


def no_paging(control: Control) -> z3.BoolRef:
    """CR0.PG = 0: linear addresses are physical ones."""
    return z3.Not(any_of(control.cr0, CR0_PG))


def legacy_32_bit(control: Control) -> z3.BoolRef:
    """32-bit paging: PG = 1, PAE = 0."""
    return z3.And(any_of(control.cr0, CR0_PG), z3.Not(any_of(control.cr4, CR4_PAE)))


def legacy_pae(control: Control) -> z3.BoolRef:
    """PAE paging: PG = 1, PAE = 1, LME = 0."""
    return z3.And(_pg_and_pae(control), z3.Not(any_of(control.efer, EFER_LME)))


def four_level(control: Control) -> z3.BoolRef:
    """4-level paging: PG = 1, PAE = 1, LME = 1, LA57 = 0."""
    return z3.And(
        _pg_and_pae(control), any_of(control.efer, EFER_LME), z3.Not(any_of(control.cr4, CR4_LA57))
    )


def five_level(control: Control) -> z3.BoolRef:
    """5-level paging: PG = 1, PAE = 1, LME = 1, LA57 = 1."""
    return z3.And(
        _pg_and_pae(control), any_of(control.efer, EFER_LME), any_of(control.cr4, CR4_LA57)
    )


def loads_pdptes(control: Control) -> z3.BoolRef:
    """A write that leaves `control` may load the four PDPTE registers, which is not modelled.

    4.4.1 "PDPTE Registers".
    """
    return legacy_pae(control)


def _pg_and_pae(control: Control) -> z3.BoolRef:
    return z3.And(any_of(control.cr0, CR0_PG), any_of(control.cr4, CR4_PAE))


# --- Writes at CPL 0. "Faults" is #GP(0) with nothing changed.


def cr0_write_faults(control: Control, value: z3.BitVecRef, cs_long: z3.BoolRef) -> z3.BoolRef:
    """MOV to CR0 of `value` (64 bits) faults. `cs_long` is the L bit of CS. SDM 2, MOV to CR0."""
    pg_was, pg = any_of(control.cr0, CR0_PG), any_of(value, CR0_PG)
    lme, lma = any_of(control.efer, EFER_LME), any_of(control.efer, EFER_LMA)
    activates_ia32e = z3.And(z3.Not(pg_was), pg, lme)
    return z3.Or(
        field(value, 63, 32) != 0,
        # Combinations that CR0 cannot hold.
        z3.And(pg, z3.Not(any_of(value, CR0_PE))),
        z3.And(any_of(value, CR0_NW), z3.Not(any_of(value, CR0_CD))),
        # 9.8.5, 4.1.2 "Paging-Mode Enabling": into IA-32e mode with PAE only, from CS.L = 0 only.
        z3.And(activates_ia32e, z3.Not(any_of(control.cr4, CR4_PAE))),
        z3.And(activates_ia32e, cs_long),
        # 9.8.5.4 "Switching Out of IA-32e Mode Operation": PG is cleared in compatibility mode.
        z3.And(lma, cs_long, z3.Not(pg)),
        z3.And(pg_was, z3.Not(pg), any_of(control.cr4, CR4_PCIDE)),
        z3.And(any_of(control.cr4, CR4_CET), z3.Not(any_of(value, CR0_WP))),
    )


def cr0_write(control: Control, value: z3.BitVecRef) -> Control:
    """After MOV to CR0. SDM 2, MOV: reserved bits 31:0 stay 0, ET stays 1.

    4.1.2 and 9.8.5: IA32_EFER.LMA becomes LME and PG.
    """
    lma = z3.And(any_of(control.efer, EFER_LME), any_of(value, CR0_PG))
    efer = z3.If(lma, control.efer | EFER_LMA, control.efer & ~EFER_LMA)
    return replace(control, cr0=(value & CR0_DEFINED) | CR0_ET, efer=efer)


def lmsw(control: Control, source: z3.BitVecRef) -> z3.BitVecRef:
    """CR0 after LMSW of `source` (16 bits). SDM 2, LMSW; it does not fault.

    Bits 3:0 are taken, but PE is never cleared: PG and IA32_EFER.LMA stay what they were.
    """
    kept = control.cr0 & ~(CR0_MP | CR0_EM | CR0_TS)
    return kept | z3.ZeroExt(60, field(source, 3, 0))


def cr3_write_faults(control: Control, value: z3.BitVecRef, maxphyaddr: z3.BitVecRef) -> z3.BoolRef:
    """MOV to CR3 of `value` faults: a bit from MAXPHYADDR (64-bit number) up is 1.

    4.5, use of CR3; SDM 2, MOV: bit 63 is a command instead when CR4.PCIDE = 1. Outside 64-bit
    mode the operand has 32 bits and never faults so.
    """
    address = z3.If(any_of(control.cr4, CR4_PCIDE), value & ~CR3_NO_FLUSH, value)
    return z3.LShR(address, maxphyaddr) != 0


def cr3_write(control: Control, value: z3.BitVecRef) -> Control:
    """After MOV to CR3 that does not fault. 4.10.4.1: bit 63 is not stored."""
    return replace(control, cr3=value & (CR3_NO_FLUSH - 1))


def cr4_write_faults(
    control: Control, value: z3.BitVecRef, supported: z3.BitVecRef | int
) -> z3.BoolRef:
    """MOV to CR4 of `value` faults. `supported`: the bits that CPUID enumerates. SDM 2, MOV."""
    lma = any_of(control.efer, EFER_LMA)
    pcide = any_of(value, CR4_PCIDE)
    sets_pcide = z3.And(z3.Not(any_of(control.cr4, CR4_PCIDE)), pcide)
    return z3.Or(
        any_of(value, ~supported),
        # 4.1.2: in IA-32e mode PAE stays 1 and LA57 stays what it is.
        z3.And(lma, z3.Not(any_of(value, CR4_PAE))),
        z3.And(lma, any_of(value ^ control.cr4, CR4_LA57)),
        # 4.10.1 "Process-Context Identifiers (PCIDs)".
        z3.And(sets_pcide, z3.Or(z3.Not(lma), field(control.cr3, 11, 0) != 0)),
        z3.And(any_of(value, CR4_CET), z3.Not(any_of(control.cr0, CR0_WP))),
    )


def cr4_write(control: Control, value: z3.BitVecRef) -> Control:
    """After MOV to CR4 that does not fault."""
    return replace(control, cr4=value)


def efer_write_faults(
    control: Control,
    value: z3.BitVecRef,
    supported: z3.BitVecRef | int = EFER_SCE | EFER_LME | EFER_LMA,
) -> z3.BoolRef:
    """WRMSR of `value` to IA32_EFER faults. 2.2.1, 4.1.2; SDM 2, WRMSR.

    `supported`: the bits that exist; by default those that come with Intel 64 itself. Add EFER_NXE
    where CPUID.80000001H:EDX.NX[20] is 1.
    """
    changes_lme = any_of(value ^ control.efer, EFER_LME)
    return z3.Or(
        any_of(value, ~supported),
        z3.And(any_of(control.cr0, CR0_PG), changes_lme),
    )


def efer_write(control: Control, value: z3.BitVecRef) -> Control:
    """After WRMSR to IA32_EFER that does not fault: LMA is read-only. Table 2-1."""
    return replace(control, efer=(value & ~EFER_LMA) | (control.efer & EFER_LMA))


# --- State after INIT, then SIPI.

GENERAL_REGISTERS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *(f"r{number}" for number in range(8, 16)),
)
UPPER_HALF = 0xFFFF_FFFF_0000_0000


@dataclass(frozen=True)
class InitState:
    """What table 9-1 and the SIPI say; what they do not say is open."""

    registers: dict[str, z3.BitVecRef | None]
    """64 bits each, but gdtr_limit and idtr_limit 16; None: the manual leaves all of it open."""
    open_bits: dict[str, int]
    """Bits of a register in `registers` that the manual leaves open; 0 in the value there."""
    segments: dict[str, Segment]
    """cs, ds, es, ss, fs, gs."""

    def complete(self, name: str, unknown: z3.BitVecRef) -> z3.BitVecRef:
        """The register with its open bits taken from `unknown` (of the register's width)."""
        value = self.registers[name]
        return unknown if value is None else value | (unknown & self.open_bits.get(name, 0))


def init_sipi(vector: z3.BitVecRef) -> InitState:
    """The state in which a processor starts after INIT and a SIPI with `vector` (8 bits).

    9.1.1, table 9-1 "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT",
    column INIT; 8.4.3 "MP Initialization Protocol Algorithm for MP Systems" and 8.4.4: execution
    starts at 000VV000H with CS = VV00H, IP = 0.
    """
    context = vector.ctx

    def value(number: int, width: int = 64) -> z3.BitVecRef:
        return z3.BitVecVal(number, width, context)

    registers: dict[str, z3.BitVecRef | None] = {name: value(0) for name in GENERAL_REGISTERS}
    # The table gives EAX to ESP 32 bits and says nothing of the upper halves; R8 to R15 are 0.
    open_bits = dict.fromkeys(GENERAL_REGISTERS[:8], UPPER_HALF)
    registers |= {
        "rdx": None,  # EDX: signature, which differs from processor to processor.
        "rip": value(0),
        "rflags": value(RFLAGS_FIXED),
        "cr0": value(CR0_ET),
        "cr2": value(0),
        "cr3": value(0),
        "cr4": value(0),
        "efer": value(0),
        "gdtr_base": value(0),
        "gdtr_limit": value(0xFFFF, 16),
        "idtr_base": value(0),
        "idtr_limit": value(0xFFFF, 16),
    }
    del open_bits["rdx"]
    # Footnote to CR0: 60000010H after reset, but INIT leaves CD and NW as they were.
    open_bits["cr0"] = CR0_CD | CR0_NW

    # "AR = Present, R/W, Accessed", code segment included; what AR does not name is 0.
    data = Segment(
        selector=value(0, 16),
        base=value(0),
        limit=value(0xFFFF, 32),
        type=value(0b0011, 4),
        s=z3.BoolVal(True, context),
        dpl=value(0, 2),
        present=z3.BoolVal(True, context),
        long=z3.BoolVal(False, context),
        big=z3.BoolVal(False, context),
        null=z3.BoolVal(False, context),
    )
    segments = dict.fromkeys(("ds", "es", "ss", "fs", "gs"), data)
    segments["cs"] = replace(
        data,
        selector=z3.Concat(vector, value(0, 8)),
        base=z3.ZeroExt(44, z3.Concat(vector, value(0, 12))),
    )
    return InitState(registers, open_bits, segments)


ARITHMETIC_AND_DIRECTION = 0xCD5
"""CF, PF, AF, ZF, SF, DF and OF in RFLAGS. SDM 1, 3.4.3."""


def forget_registers(state: InitState) -> InitState:
    """The same, but registers that code has no need to rely on hold anything.

    These are the general registers, the arithmetic flags and DF, GDTR and IDTR, and the selectors
    and bases (32 bits) of all segments but CS. Modes, limits and rights stay as INIT leaves them.
    """
    tables = ("gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit")
    anything = dict.fromkeys((*GENERAL_REGISTERS, *tables))
    segments = {
        name: segment
        if name == "cs"
        else replace(
            segment,
            selector=z3.BitVec(f"{name}_at_entry", 16, segment.base.ctx),
            base=z3.ZeroExt(32, z3.BitVec(f"{name}_base_at_entry", 32, segment.base.ctx)),
        )
        for name, segment in state.segments.items()
    }
    open_bits = {**state.open_bits, "rflags": ARITHMETIC_AND_DIRECTION}
    return InitState({**state.registers, **anything}, open_bits, segments)
