# SPDX-License-Identifier: GPL-2.0-only
"""A CPU in a concrete state before one instruction, and the memory around it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models.modes import (
    CR0_ET,
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    Mode,
)

BASE = 0x8000
"""Physical address of the memory that an instruction works on; 16-bit offsets reach half of it."""
SIZE = 0x10000
CODE = 0x4000
"""Where the instruction lies in it."""
GDT, GDT_ENTRIES = 0xF000, 64
TABLES = 0x8000_0000
"""Physical address of page tables that map all memory to itself, for 64-bit and compatibility
mode."""
IN_GDT = range(BASE + GDT, BASE + GDT + 8 * GDT_ENTRIES)
LONG_MODES = (Mode.LONG64, Mode.COMPATIBILITY16, Mode.COMPATIBILITY32)
ACCESSED = 1 << 8
"""In a descriptor's upper half."""
Write = tuple[int, int, int]
"""Address, size in bytes, value."""
Fields = Mapping[str, int]
"""Of a segment register: `selector`, `base`, `limit`, `type`, `s`, `dpl`, `present`, `long`,
`big`."""


@dataclass(frozen=True)
class State:
    """All that an instruction may depend on. `memory`: SIZE bytes from BASE on, it included."""

    mode: Mode
    memory: bytes
    registers: dict[str, int]
    rflags: int
    segments: dict[str, Fields]
    cr0: int
    cr3: int
    cr4: int
    efer: int
    gdtr: tuple[int, int] = (BASE + GDT, 8 * GDT_ENTRIES - 1)
    idtr: tuple[int, int] = (0, 0)

    @property
    def ip(self) -> int:
        """Offset of the instruction in CS."""
        base = 0 if self.mode is Mode.LONG64 else self.segments["cs"]["base"]
        return BASE + CODE - base


@dataclass(frozen=True)
class After:
    """What is there after the instruction.

    `registers`: as `unicorn_cpu.Registers` has them; a part that is open is left out. `writes`: in
    order, without those that set accessed flags of descriptors. `linear`: of the next instruction;
    None: not to be compared. `parked`: the CPU halts. `stuck`: it begins the instruction again and
    again, and never ends it. `fault`: the exception, or what the machine says of it. `detail`: of a
    fault, or how else it ended. `refused`: why the machine does not execute it.
    """

    registers: Mapping[str, int] = field(default_factory=dict)
    writes: tuple[Write, ...] = ()
    linear: int | None = None
    parked: bool = False
    stuck: bool = False
    fault: int | None = None
    detail: str = ""
    refused: str = ""


def in_order(writes: Iterable[Write], memory: bytes) -> tuple[Write, ...]:
    """Writes without those by which a CPU sets the accessed flag of a descriptor in the GDT: the
    upper half, as `memory` has it, with that bit. SDM 3A 3.4.5.1.
    """

    def sets_accessed(write: Write) -> bool:
        address, size, value = write
        at = address - BASE
        if address not in IN_GDT or at % 8 != 4 or size != 4:
            return False
        return value == int.from_bytes(memory[at : at + 4], "little") | ACCESSED

    return tuple(write for write in writes if not sets_accessed(write))


def control(mode: Mode) -> tuple[int, int, int, int]:
    """CR0, CR3, CR4 and EFER of a CPU in this mode; paging is on where there is long mode."""
    long = mode in LONG_MODES
    cr0 = CR0_ET | (0 if mode is Mode.REAL16 else CR0_PE)
    if not long:
        return cr0, 0, 0, 0
    return cr0 | CR0_PG, TABLES, CR4_PAE, EFER_LME | EFER_LMA


def descriptor(
    base: int, limit: int, rights: int, *, long: int = 0, big: int = 0, pages: int = 0
) -> bytes:
    """A segment descriptor; `rights` is its byte 5: P, DPL, S and type. SDM 3A 3.4.5."""
    upper = limit >> 16 & 0xF | long << 5 | big << 6 | pages << 7
    return struct.pack(
        "<HHBBBB", limit & 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, rights, upper, base >> 24
    )


def fields(selector: int, raw: bytes) -> Fields:
    """A segment register that holds this descriptor."""
    low, high = struct.unpack("<II", raw)
    limit = low & 0xFFFF | high & 0xF0000
    return {
        "selector": selector,
        "base": low >> 16 | (high & 0xFF) << 16 | high & 0xFF00_0000,
        "limit": limit << 12 | 0xFFF if high >> 23 & 1 else limit,
        "type": high >> 8 & 0xF,
        "s": high >> 12 & 1,
        "dpl": high >> 13 & 3,
        "present": high >> 15 & 1,
        "long": high >> 21 & 1,
        "big": high >> 22 & 1,
    }


def raw(one: Fields) -> bytes:
    """A descriptor that loads a segment register with these fields."""
    rights = one["type"] | one["s"] << 4 | one["dpl"] << 5 | one["present"] << 7
    pages = int(one["limit"] > 0xF_FFFF)
    limit = one["limit"] >> 12 if pages else one["limit"]
    return descriptor(one["base"], limit, rights, long=one["long"], big=one["big"], pages=pages)
