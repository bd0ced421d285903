# SPDX-License-Identifier: GPL-2.0-only
"""What is left of the general registers where 64-bit code begins.

SDM 1, 3.4.1.1 "General-Purpose Registers in 64-Bit Mode": upper halves are undefined in 32-bit
modes and not preserved on a switch from 64-bit mode to one; R8 to R15 are preserved through
compatibility mode and back, and undefined after legacy or real mode in between.

The same section says nothing of the first switch to 64-bit mode, before which no upper half was
ever written by code: all of them count as undefined there, those of R8 to R15 included, though
INIT leaves 0 in these (SDM 3A 9.1.1, table 9-1).
"""

from __future__ import annotations

from enum import Enum

from models.modes import GENERAL_REGISTERS, UPPER_HALF

LEGACY_REGISTERS = GENERAL_REGISTERS[:8]
"""RAX to RDI, which all modes have. R8 to R15 are those of 64-bit mode alone."""
ALL_BITS = 0xFFFF_FFFF_FFFF_FFFF


class Way(Enum):
    """The way to 64-bit code."""

    FIRST = "from INIT; there was no 64-bit code before"
    COMPATIBILITY = "from 64-bit code, through compatibility mode only"
    LEGACY = "from 64-bit code, through legacy mode: CR0.PG was 0 (SDM 3A 9.8.5.4)"

    @property
    def paging_off(self) -> Way:
        """The way that it becomes when CR0.PG is cleared."""
        return Way.FIRST if self is Way.FIRST else Way.LEGACY


def undefined_bits(register: str, way: Way) -> int:
    """A mask of the bits of a general register ("rax") that are undefined after this way."""
    if register in LEGACY_REGISTERS or way is Way.FIRST:
        return UPPER_HALF
    return ALL_BITS if way is Way.LEGACY else 0
