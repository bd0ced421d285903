# SPDX-License-Identifier: GPL-2.0-only
"""What a CPU did though the manual forbids it, read off its own registers.

The machine's rules have no part in it: a fault that they raise too often is not excused.
"""

from __future__ import annotations

from harness.lockstep.state import CODE, LONG_MODES, After, State
from harness.lockstep.unicorn_cpu import PHYS_BITS
from models.modes import (
    CR0_CD,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR3_NO_FLUSH,
    CR4_LA57,
    CR4_MODELLED,
    CR4_PAE,
    CR4_PCIDE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    GENERAL_REGISTERS,
    Mode,
)

MOV_TO_CONTROL = bytes((0x0F, 0x22))
DEFINED_EFER = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE


def cr0(state: State, after: After) -> bool:
    """SDM 2, MOV to control registers; SDM 3A 2.5 and 4.1.2."""
    value, paged = after.registers["cr0"], bool(state.cr0 & CR0_PG)
    pages = bool(value & CR0_PG)
    activates = pages and not paged and bool(state.efer & EFER_LME)
    return bool(
        written(state) >> 32
        or (pages and not value & CR0_PE)
        or (value & CR0_NW and not value & CR0_CD)
        or (activates and not state.cr4 & CR4_PAE)
        or (activates and state.segments["cs"]["long"])
        or (paged and not pages and (state.mode is Mode.LONG64 or state.cr4 & CR4_PCIDE))
    )


def cr3(state: State, after: After) -> bool:
    """SDM 3A 4.5.2: bits from MAXPHYADDR on are reserved; bit 63 with PCIDs is not stored."""
    value = written(state) if after.stuck else after.registers["cr3"]
    return state.mode is Mode.LONG64 and bool(value & ~CR3_NO_FLUSH & (1 << 64) - (1 << PHYS_BITS))


def cr4(state: State, after: After) -> bool:
    """SDM 2, MOV to control registers; SDM 3A 2.5, 4.1.2 and 4.10.1."""
    value, long = after.registers["cr4"], state.mode in LONG_MODES
    sets_pcide = value & CR4_PCIDE and not state.cr4 & CR4_PCIDE
    return bool(
        value & ~(CR4_MODELLED | CR4_PCIDE)
        or (long and not value & CR4_PAE)
        or (long and (value ^ state.cr4) & CR4_LA57)
        or (sets_pcide and (not long or state.cr3 & 0xFFF))
    )


def efer(state: State, after: After) -> bool:
    """SDM 2, WRMSR; SDM 3A 2.2.1 and 4.1.2. The CPU may drop what it was told to write."""
    lower, upper = (state.registers[name] & 0xFFFF_FFFF for name in ("rax", "rdx"))
    changes_lme = (lower ^ state.efer) & EFER_LME
    return bool(upper or lower & ~DEFINED_EFER or (state.cr0 & CR0_PG and changes_lme))


def near_jump(state: State, after: After) -> bool:
    """SDM 2, JMP and CALL."""
    return after.linear is not None and not _canonical(after.linear)


def table(state: State, after: After) -> bool:
    """SDM 2, LGDT/LIDT."""
    return not all(_canonical(after.registers[f"{name}_base"]) for name in ("gdtr", "idtr"))


def null_ss(state: State, after: After) -> bool:
    """SDM 2, MOV, 64-bit mode exceptions."""
    return state.mode is Mode.LONG64 and after.registers["ss"] in (1, 2, 3)


def long_and_big(state: State, after: After) -> bool:
    """SDM 3A 5.2.1."""
    code = after.registers
    return state.mode in LONG_MODES and bool(code["cs_long"] and code["cs_big"])


def written(state: State) -> int:
    """What MOV is to write into a control register; 0 for another instruction. SDM 2, MOV: 0F 22,
    the source in ModRM.r/m with REX.B. The CPU may drop the upper half."""
    code = state.memory[CODE : CODE + 4]
    rex = code[0] if state.mode is Mode.LONG64 and code[0] >> 4 == 4 else 0
    opcode, modrm = (code[1:3], code[3]) if rex else (code[:2], code[2])
    if opcode != MOV_TO_CONTROL:
        return 0
    return state.registers[GENERAL_REGISTERS[modrm & 7 | (rex & 1) << 3]]


def _canonical(address: int) -> bool:
    """For 4 levels of paging: bits 63:47 are the same. SDM 1, 3.3.7.1."""
    return address >> 47 in (0, (1 << 17) - 1)
