# SPDX-License-Identifier: GPL-2.0-only
"""What must hold at the jump to a Linux kernel's 64-bit entry, but for the identity map.

Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol". The identity map that it demands is
`models.paging.identity`, asked for each address of each range.

Limit: GDTR.base is a linear address; its entries are read at the equal physical address. This is
right where the GDT is identity mapped, which is a claim of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import z3

from models import descriptors
from models.bits import any_of
from models.descriptors import Segment
from models.modes import CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, RFLAGS_IF

BOOT_CS = 0x10
BOOT_DS = 0x18

READ_PHYSICAL = Callable[[z3.BitVecRef], z3.BitVecRef]
"""Physical address (64 bits) -> the 8 bytes there, first byte lowest (64 bits)."""


@dataclass(frozen=True)
class HandOff:
    """The state at the jump, before the kernel's first instruction. 64 bits each unless noted."""

    rip: z3.BitVecRef
    rsi: z3.BitVecRef
    rflags: z3.BitVecRef
    cr0: z3.BitVecRef
    cr3: z3.BitVecRef
    cr4: z3.BitVecRef
    efer: z3.BitVecRef
    segments: dict[str, Segment]
    """cs, ds, es, ss."""
    gdtr_base: z3.BitVecRef
    gdtr_limit: z3.BitVecRef
    """16 bits."""
    read_physical: READ_PHYSICAL


def conditions(
    handoff: HandOff, kernel: z3.BitVecRef, boot_params: z3.BitVecRef | None
) -> dict[str, z3.BoolRef]:
    """Each demand of the protocol as a sentence, and when it holds.

    `kernel`, `boot_params`: 64 bits, physical addresses of the entry and of the zero page, if the
    kernel is to find one.
    """
    return {**in_64_bit_mode(handoff, kernel, boot_params), **boot_segments(handoff)}


def in_64_bit_mode(
    handoff: HandOff, kernel: z3.BitVecRef, boot_params: z3.BitVecRef | None
) -> dict[str, z3.BoolRef]:
    """What any 64-bit kernel demands: where it is entered, the mode, paging, interrupts."""
    cs = handoff.segments["cs"]
    in_64bit_mode = z3.And(
        any_of(handoff.cr0, CR0_PE), any_of(handoff.efer, EFER_LMA), cs.long, z3.Not(cs.big)
    )
    paging = z3.And(any_of(handoff.cr0, CR0_PG), any_of(handoff.cr4, CR4_PAE))
    found = {"RIP holds the kernel's physical address": handoff.rip == kernel}
    if boot_params is not None:
        found["RSI holds the physical address of boot_params"] = handoff.rsi == boot_params
    return found | {
        "the CPU is in 64-bit mode (EFER.LMA and CS.L)": in_64bit_mode,
        "paging is on": paging,
        "interrupts are off": z3.Not(any_of(handoff.rflags, RFLAGS_IF)),
    }


def boot_segments(handoff: HandOff) -> dict[str, z3.BoolRef]:
    """What the boot protocol demands of segment registers and GDT."""
    cs = handoff.segments["cs"]
    data = [handoff.segments[name] for name in ("ds", "es", "ss")]
    return {
        "the CS selector is __BOOT_CS (0x10)": cs.selector == BOOT_CS,
        "the DS, ES and SS selectors are __BOOT_DS (0x18)": z3.And(
            *(segment.selector == BOOT_DS for segment in data)
        ),
        "CS as loaded is a flat 4 GiB execute/read 64-bit code segment": is_boot_code(cs),
        "DS, ES and SS as loaded are flat 4 GiB read/write data segments": z3.And(
            *(is_boot_data(segment) for segment in data)
        ),
        "GDT entry 0x10 is a flat 4 GiB execute/read 64-bit code segment": _entry(
            handoff, BOOT_CS, is_boot_code
        ),
        "GDT entry 0x18 is a flat 4 GiB read/write data segment": _entry(
            handoff, BOOT_DS, is_boot_data
        ),
    }


def is_boot_code(segment: Segment) -> z3.BoolRef:
    """__BOOT_CS: execute/read, 64-bit (L = 1, D = 0), usable at CPL 0. Accessed flag: either."""
    return z3.And(
        _is_flat(segment),
        segment.is_code,
        segment.is_readable,
        segment.long,
        z3.Not(segment.big),
    )


def is_boot_data(segment: Segment) -> z3.BoolRef:
    """__BOOT_DS: read/write, usable at CPL 0. Accessed flag and B: either."""
    return z3.And(_is_flat(segment), segment.is_writable, z3.Not(segment.is_expand_down))


def _is_flat(segment: Segment) -> z3.BoolRef:
    """Base 0 and limit FFFFFFFFH, so G = 1 ("4 GiB flat"); present, DPL 0, not null."""
    return z3.And(
        segment.base == 0,
        segment.limit == 0xFFFF_FFFF,
        segment.present,
        segment.dpl == 0,
        z3.Not(segment.null),
    )


def _entry(handoff: HandOff, selector: int, holds: Callable[[Segment], z3.BoolRef]) -> z3.BoolRef:
    """The entry that `selector` names is within the GDT in force and is as demanded."""
    value = z3.BitVecVal(selector, 16, handoff.gdtr_base.ctx)
    raw = handoff.read_physical(handoff.gdtr_base + selector)
    within = z3.Not(descriptors.outside_table(value, handoff.gdtr_limit))
    return z3.And(within, holds(descriptors.decode(value, raw)))
