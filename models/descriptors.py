# SPDX-License-Identifier: GPL-2.0-only
"""Segment descriptors, segment registers with their hidden part, and the checks on both.

SDM 3A 3.4 "Logical and Linear Addresses", 5.2 to 5.8 of chapter "Protection", 20.1.1 "Address
Translation in Real-Address Mode"; SDM 2, JMP, RET, MOV.

Limits: no LDT (`uses_ldt` says when one is asked for), no call gate, task gate or TSS as target of
a far jump (`names_system_descriptor`), no far return to an outer privilege level
(`returns_outwards`), no virtual-8086 mode. Reading the descriptor may itself fault; that is the
page walk's business. Loading sets the accessed flag in the descriptor in memory: not modelled,
and no rule here reads it. Which exception is raised (#GP, #NP, #SS) is not told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import z3

from models.bits import bit, field

# 3.4.5.1, table 3-1: bits of the type field.
READABLE = 1  # of a code segment
WRITABLE = 1  # of a data segment
CONFORMING = 2  # of a code segment
EXPAND_DOWN = 2  # of a data segment
CODE = 3


@dataclass(frozen=True)
class Segment:
    """A segment register: the selector and the hidden part ("descriptor cache"). 3.4.3."""

    selector: z3.BitVecRef
    """16 bits."""
    base: z3.BitVecRef
    """Linear address, 64 bits. In 64-bit mode CS, DS, ES and SS act as if it were 0 (3.4.4)."""
    limit: z3.BitVecRef
    """32 bits, in bytes: the last valid offset (the last invalid one if expand-down)."""
    type: z3.BitVecRef
    """4 bits, 3.4.5.1 "Code- and Data-Segment Descriptor Types", table 3-1."""
    s: z3.BoolRef
    """1: code or data. 0: system descriptor, of which the other fields then mean nothing here."""
    dpl: z3.BitVecRef
    """2 bits, descriptor privilege level."""
    present: z3.BoolRef
    long: z3.BoolRef
    """L: 64-bit code segment, in IA-32e mode."""
    big: z3.BoolRef
    """D/B: 32-bit operands and addresses (code), ESP (stack), 4 GiB upper bound (expand-down)."""
    null: z3.BoolRef
    """Loaded with a null selector in protected mode: any use faults outside 64-bit mode (3.4.2)."""

    @property
    def is_code(self) -> z3.BoolRef:
        """S = 1 and type bit 3: code segment; S = 1 without it: data segment."""
        return z3.And(self.s, bit(self.type, CODE))

    @property
    def is_readable(self) -> z3.BoolRef:
        """Any data segment, or a code segment with R = 1. Table 3-1."""
        return z3.And(self.s, z3.Or(z3.Not(bit(self.type, CODE)), bit(self.type, READABLE)))

    @property
    def is_writable(self) -> z3.BoolRef:
        """A data segment with W = 1; a code segment never is. Table 3-1."""
        return z3.And(self.s, z3.Not(bit(self.type, CODE)), bit(self.type, WRITABLE))

    @property
    def is_conforming(self) -> z3.BoolRef:
        """A code segment with C = 1. Table 3-1."""
        return z3.And(self.is_code, bit(self.type, CONFORMING))

    @property
    def is_expand_down(self) -> z3.BoolRef:
        """A data segment with E = 1. Table 3-1."""
        return z3.And(self.s, z3.Not(bit(self.type, CODE)), bit(self.type, EXPAND_DOWN))


def rpl(selector: z3.BitVecRef) -> z3.BitVecRef:
    """Requested privilege level, 2 bits. 3.4.2 "Segment Selectors"."""
    return field(selector, 1, 0)


def is_null(selector: z3.BitVecRef) -> z3.BoolRef:
    """Index 0 of the GDT, any RPL: 0 to 3. 3.4.2."""
    return field(selector, 15, 2) == 0


def uses_ldt(selector: z3.BitVecRef) -> z3.BoolRef:
    """TI = 1: the descriptor is in the LDT, which is not modelled. 3.4.2."""
    return bit(selector, 2)


def table_offset(selector: z3.BitVecRef) -> z3.BitVecRef:
    """Byte offset of the descriptor in its table, 64 bits: index times 8. 3.4.2."""
    return z3.ZeroExt(48, selector & 0xFFF8)


def outside_table(selector: z3.BitVecRef, gdt_limit: z3.BitVecRef) -> z3.BoolRef:
    """The descriptor's 8 bytes are not all within the limit (16 bits, the last valid offset).

    3.5.1 "Segment Descriptor Tables"; 5.3 "Limit Checking". Faults on any load but a null one.
    """
    return z3.UGT(selector | 7, gdt_limit)


def decode(selector: z3.BitVecRef, raw: z3.BitVecRef) -> Segment:
    """What a protected-mode load of `selector` puts into the register.

    `raw` is the 8-byte table entry, first byte lowest. 3.4.5 "Segment Descriptors", figure 3-8.
    With a null selector only `null` and `selector` mean anything.
    """
    limit = z3.Concat(field(raw, 51, 48), field(raw, 15, 0))
    base = z3.Concat(field(raw, 63, 56), field(raw, 39, 16))
    in_bytes = z3.ZeroExt(12, limit)
    # G = 1: the unit is 4 KiB and the low 12 bits of an offset are not checked.
    in_pages = z3.Concat(limit, z3.BitVecVal(0xFFF, 12, raw.ctx))
    return Segment(
        selector=selector,
        base=z3.ZeroExt(32, base),
        limit=z3.If(bit(raw, 55), in_pages, in_bytes),
        type=field(raw, 43, 40),
        s=bit(raw, 44),
        dpl=field(raw, 46, 45),
        present=bit(raw, 47),
        long=bit(raw, 53),
        big=bit(raw, 54),
        null=is_null(selector),
    )


def real_mode_load(old: Segment, selector: z3.BitVecRef) -> Segment:
    """Load of a segment register, far jump included, in real-address mode: base = selector * 16.

    20.1.1 "Address Translation in Real-Address Mode". Limit and rights stay what they were, and a
    register that a null selector made unusable stays so (9.9.2 "Switching Back to Real-Address
    Mode").
    """
    base = z3.ZeroExt(44, z3.Concat(selector, z3.BitVecVal(0, 4, selector.ctx)))
    return replace(old, selector=selector, base=base)


def names_system_descriptor(raw: z3.BitVecRef) -> z3.BoolRef:
    """S = 0: as target of a far jump a gate or a TSS, which is not modelled. 3.5."""
    return z3.Not(bit(raw, 44))


def code_load_faults(
    selector: z3.BitVecRef, raw: z3.BitVecRef, cpl: z3.BitVecRef, long_mode_active: z3.BoolRef
) -> z3.BoolRef:
    """A far jump to a code segment faults. `cpl`: 2 bits; `long_mode_active`: IA32_EFER.LMA.

    5.8.1.1 "Accessing Nonconforming Code Segments", 5.8.1.2 "... Conforming ..."; SDM 2, JMP. Ask
    `names_system_descriptor` first: here S = 0 counts as a fault, which for a gate it need not be.
    The new instruction pointer is checked apart: `fetch_faults`, or canonical in 64-bit mode.
    """
    target = decode(selector, raw)
    nonconforming = z3.Or(z3.UGT(rpl(selector), cpl), target.dpl != cpl)
    conforming = z3.UGT(target.dpl, cpl)
    return z3.Or(
        target.null,
        z3.Not(target.is_code),
        z3.If(target.is_conforming, conforming, nonconforming),
        z3.Not(target.present),
        # 5.2.1 "Code-Segment Descriptor in 64-bit Mode": L = 1 with D = 1 is reserved.
        z3.And(long_mode_active, target.long, target.big),
    )


def code_load(selector: z3.BitVecRef, raw: z3.BitVecRef, cpl: z3.BitVecRef) -> Segment:
    """CS after a far jump that does not fault: its RPL field becomes CPL. SDM 2, JMP."""
    return decode(z3.Concat(field(selector, 15, 2), cpl), raw)


def returns_outwards(selector: z3.BitVecRef, cpl: z3.BitVecRef) -> z3.BoolRef:
    """A far return to `selector` goes to a less privileged level, which is not modelled. RPL > CPL.

    5.8.6 "Returning from a Called Procedure".
    """
    return z3.UGT(rpl(selector), cpl)


def far_return_faults(
    selector: z3.BitVecRef, raw: z3.BitVecRef, cpl: z3.BitVecRef, long_mode_active: z3.BoolRef
) -> z3.BoolRef:
    """A far return to a code segment of the same privilege level faults.

    SDM 2, RET: RPL < CPL faults, and RPL takes the place of CPL in the DPL rules of a far jump.
    CS is then `decode(selector, raw)`.
    """
    inwards = z3.ULT(rpl(selector), cpl)
    return z3.Or(inwards, code_load_faults(selector, raw, rpl(selector), long_mode_active))


def is_reserved(segment: Segment) -> z3.BoolRef:
    """A data segment with L = 1: reserved, to be 0. 3.4.5. What a CPU makes of it is not said;
    QEMU's takes such an SS for that of 64-bit code.
    """
    return z3.And(z3.Not(segment.null), segment.s, z3.Not(segment.is_code), segment.long)


def data_load_faults(selector: z3.BitVecRef, raw: z3.BitVecRef, cpl: z3.BitVecRef) -> z3.BoolRef:
    """A load of DS, ES, FS or GS faults; a null selector never does, in any mode.

    5.6 "Privilege Level Checking When Accessing Data Segments"; SDM 2, MOV.
    """
    target = decode(selector, raw)
    too_privileged = z3.Or(z3.UGT(rpl(selector), target.dpl), z3.UGT(cpl, target.dpl))
    return z3.And(
        z3.Not(target.null),
        z3.Or(
            z3.Not(target.is_readable),
            z3.And(z3.Not(target.is_conforming), too_privileged),
            z3.Not(target.present),
        ),
    )


def stack_load_faults(
    selector: z3.BitVecRef, raw: z3.BitVecRef, cpl: z3.BitVecRef, in_64bit: z3.BoolRef
) -> z3.BoolRef:
    """A load of SS faults. 5.7 "Privilege Level Checking When Loading the SS Register"; SDM 2, MOV.

    A null selector is allowed only in 64-bit mode, with CPL < 3 and RPL = CPL: 5.4.1.1 "NULL
    Segment Checking in 64-bit Mode".
    """
    target = decode(selector, raw)
    null_is_allowed = z3.And(in_64bit, cpl != 3, rpl(selector) == cpl)
    return z3.If(
        target.null,
        z3.Not(null_is_allowed),
        z3.Or(
            rpl(selector) != cpl,
            z3.Not(target.is_writable),
            target.dpl != cpl,
            z3.Not(target.present),
        ),
    )


def access_faults(segment: Segment, offset: z3.BitVecRef, size: int, write: bool) -> z3.BoolRef:
    """A load or store of `size` bytes at `offset` (32 bits) faults on the segment.

    5.3 "Limit Checking", 5.4 "Type Checking", 5.4.1 "Null Segment Selector Checking"; not for
    64-bit mode, which checks canonical addresses instead (5.3.1 "Limit Checking in 64-bit Mode").
    With limit FFFFFFFFH an access that wraps at 4 GiB may or may not fault (5.3): here it does.
    In real-address mode the rights are those of INIT (read/write), so that the limit decides.
    """
    allowed = segment.is_writable if write else segment.is_readable
    return z3.Or(segment.null, z3.Not(allowed), _outside_limit(segment, offset, size))


def fetch_faults(segment: Segment, offset: z3.BitVecRef, size: int) -> z3.BoolRef:
    """The fetch of an instruction of `size` bytes at `offset` (32 bits) through CS faults.

    5.3 "Limit Checking"; not for 64-bit mode. The type was checked when CS was loaded, or it is
    that of real-address mode, in which CS has a data type after INIT (table 9-1).
    """
    return z3.UGT(_last(offset, size), z3.ZeroExt(1, segment.limit))


def _last(offset: z3.BitVecRef, size: int) -> z3.BitVecRef:
    """Offset of the last of `size` bytes, 33 bits so that it does not wrap."""
    return z3.ZeroExt(1, offset) + (size - 1)


def _outside_limit(segment: Segment, offset: z3.BitVecRef, size: int) -> z3.BoolRef:
    """5.3: expand-up 0..limit; expand-down limit + 1 .. FFFFH, or FFFFFFFFH with B = 1."""
    last, limit, down = _last(offset, size), segment.limit, segment.is_expand_down
    top = z3.If(
        segment.big,
        z3.BitVecVal(0xFFFFFFFF, 33, offset.ctx),
        z3.BitVecVal(0xFFFF, 33, offset.ctx),
    )
    above = z3.UGT(last, z3.If(down, top, z3.ZeroExt(1, limit)))
    return z3.Or(above, z3.And(down, z3.ULE(offset, limit)))
