# SPDX-License-Identifier: GPL-2.0-only
"""Far transfers and loads of segment registers, with their descriptor checks."""

from __future__ import annotations

import z3

from harness.x86.cpu import simplified
from harness.x86.machine import Machine
from harness.x86.path import PathOver
from harness.x86.run import EndKind
from harness.x86.terms import const, low, number, simplify
from harness.x86.translate import UPPER_HALF
from models import descriptors
from models.descriptors import Segment
from models.mode_switches import Way, undefined_bits
from models.modes import EFER_LMA, Mode
from models.paging import canonical

CPL = const(0, 2)
LOWER_HALF = 0xFFFF_FFFF
ACCESSED = 1 << 40
"""Accessed flag of a code or data descriptor (SDM 3A 3.4.5.1, table 3-1)."""


def load_segment(machine: Machine, name: str, selector: z3.BitVecRef) -> None:
    """MOV to DS, ES, SS, FS or GS. `selector` has 16 bits."""
    cpu = machine.cpu
    if cpu.mode is Mode.REAL16:
        segment = simplified(descriptors.real_mode_load(cpu.segments[name], selector))
        base = machine.environment.base.normal(segment.base)
        cpu.segments[name] = Segment(**{**vars(segment), "base": base})
        return
    raw = read_descriptor(machine, selector)
    if name == "ss":
        in_64bit = z3.BoolVal(cpu.mode is Mode.LONG64)
        faults = descriptors.stack_load_faults(selector, raw, CPL, in_64bit)
    else:
        faults = descriptors.data_load_faults(selector, raw, CPL)
    machine.fault_if(faults, f"#GP: load of {name.upper()} with {selector}")
    if machine.possible(descriptors.is_reserved(descriptors.decode(selector, raw))):
        raise machine.refuse(f"{name.upper()} with L = 1, which is reserved for data segments")
    if not machine.decide(descriptors.is_null(selector)):
        raw = set_accessed(machine, selector, raw)
    cpu.segments[name] = simplified(descriptors.decode(selector, raw))


def read_descriptor(machine: Machine, selector: z3.BitVecRef) -> z3.BitVecRef:
    """The 8 bytes of the GDT that a constant selector names; 0 for a null selector."""
    if number(selector) is None:
        raise machine.refuse(f"selector {selector}, which is not constant")
    if machine.decide(descriptors.is_null(selector)):
        return const(0)
    if machine.decide(descriptors.uses_ldt(selector)):
        raise machine.refuse(f"selector {selector}, which names the LDT")
    pointer = machine.cpu.gdtr
    if machine.cpu.paging and pointer.halved:
        lost = machine.environment.unknown("undefined_gdtr_half", 1) == 1
        machine.fault_if(
            z3.And(lost, z3.LShR(pointer.base, 32) != 0),
            "#GP: the upper half of GDTR.base, which legacy mode does not have, is another one",
        )
    machine.fault_if(
        descriptors.outside_table(selector, machine.cpu.gdtr.limit),
        f"#GP: selector {selector} is outside the GDT",
    )
    raw = machine.read(_entry(machine, selector), 8, "descriptor")
    if number(raw) is None:
        return _as_assembled(machine, selector, raw)
    return raw


def _as_assembled(machine: Machine, selector: z3.BitVecRef, raw: z3.BitVecRef) -> z3.BitVecRef:
    """The descriptor, for inputs for which it is what memory held at entry."""
    cpu = machine.cpu
    before = cpu.memory.before(cpu.found).read(_entry(machine, selector), 8)
    if number(before) is None:
        raise machine.refuse(f"the descriptor of selector {selector} is not constant")
    what = f"the descriptor of selector {number(selector):#x} may have been overwritten"
    machine.end_if(raw != before, EndKind.OVERWRITTEN, what)
    return before


def _entry(machine: Machine, selector: z3.BitVecRef) -> z3.BitVecRef:
    address = simplify(machine.cpu.gdtr.base + descriptors.table_offset(selector))
    if not machine.cpu.paging:  # long mode takes all 64 bits of the base (SDM 3A 2.4.1)
        address = low(low(address, 32), 64)
    return machine.environment.base.normal(address)


def set_accessed(machine: Machine, selector: z3.BitVecRef, raw: z3.BitVecRef) -> z3.BitVecRef:
    """Loading a descriptor sets its accessed flag in the table (SDM 3A 3.4.5.1)."""
    flagged = simplify(raw | ACCESSED)
    if not flagged.eq(raw):
        byte = simplify(z3.Extract(47, 40, flagged))
        machine.write(simplify(_entry(machine, selector) + 5), byte, "accessed")
    return flagged


def far_jump(machine: Machine, selector: z3.BitVecRef, offset: z3.BitVecRef) -> None:
    """JMP far to selector (16 bits) : offset (any width, zero-extended)."""
    _transfer(machine, selector, low(offset, 64), returns=False)


def far_return(machine: Machine, selector: z3.BitVecRef, offset: z3.BitVecRef) -> None:
    """RET far to selector : offset at the same privilege level."""
    _transfer(machine, selector, low(offset, 64), returns=True)


def _transfer(
    machine: Machine, selector: z3.BitVecRef, offset: z3.BitVecRef, *, returns: bool
) -> None:
    cpu = machine.cpu
    if cpu.mode is Mode.REAL16:
        cs = simplified(descriptors.real_mode_load(cpu.segments["cs"], selector))
    else:
        cs = _load_code(machine, selector, returns=returns)
    was_64bit = cpu.mode is Mode.LONG64
    cpu.segments["cs"] = cs
    cpu.update_mode(machine.decide)
    if cpu.mode is Mode.LONG64:
        outside = z3.Not(canonical(offset, machine.levels()))
        machine.fault_if(outside, "#GP: far transfer to a non-canonical RIP")
        if not was_64bit:
            lose_upper_halves(machine)
    else:
        machine.fault_if(descriptors.fetch_faults(cs, low(offset, 32), 1), "#GP: EIP is outside CS")
        offset = simplify(cs.base + offset)
    go_to(machine, offset)


def _load_code(machine: Machine, selector: z3.BitVecRef, *, returns: bool) -> Segment:
    cpu = machine.cpu
    if number(selector) is not None and machine.decide(descriptors.is_null(selector)):
        machine.fault_if(z3.BoolVal(True), "#GP: far transfer to a null selector")
    raw = read_descriptor(machine, selector)
    if machine.decide(descriptors.names_system_descriptor(raw)):
        raise machine.refuse(f"selector {selector} names a gate or system descriptor")
    lma = cpu.control.efer & EFER_LMA != 0
    if returns:
        if machine.decide(descriptors.returns_outwards(selector, CPL)):
            raise machine.refuse("a far return to another privilege level")
        faults = descriptors.far_return_faults(selector, raw, CPL, lma)
    else:
        faults = descriptors.code_load_faults(selector, raw, CPL, lma)
    machine.fault_if(faults, f"#GP: load of CS with {selector}")
    raw = set_accessed(machine, selector, raw)
    cs = simplified(descriptors.code_load(selector, raw, CPL))
    if number(cs.base) != 0 and not machine.decide(z3.And(lma, cs.long)):
        raise machine.refuse("a code segment with a base in protected mode")
    return cs


def lose_upper_halves(machine: Machine) -> None:
    """64-bit code begins: forget what the way to it leaves undefined in general registers."""
    environment, registers = machine.environment, machine.registers
    way, machine.cpu.way = machine.cpu.way, Way.COMPATIBILITY
    for name in registers.values:
        bits = undefined_bits(name, way)
        if bits & LOWER_HALF:
            whole = environment.unknown(f"{name}_undefined", 64)
            if environment.upper_halves_zero:
                whole = low(low(whole, 32), 64)
            registers.values[name] = whole
        elif bits:
            upper = const(0, 32)
            if not environment.upper_halves_zero:
                upper = environment.unknown(f"{name}_{UPPER_HALF}", 32)
            registers.write(name, 4, upper)


def go_to(machine: Machine, linear: z3.BitVecRef) -> None:
    """Go on at a linear address: inside the image, or the path ends with the hand-off."""
    cpu, environment = machine.cpu, machine.environment
    offset = environment.base.offset_of(linear)
    # A concrete base makes every constant an offset; the mailbox never is a constant.
    if offset is not None and 0 <= offset < len(environment.image.data):
        cpu.pc, cpu.origin = offset, environment.base.term
        return
    address = number(linear)
    for start, part in environment.copies:
        if address is not None and 0 <= address - start < len(part):
            cpu.pc, cpu.origin = part.start + address - start, const(start - part.start)
            return
    if cpu.mode is not Mode.LONG64:
        raise machine.refuse(f"a jump out of the image in {cpu.mode.value}")
    outside = z3.Not(canonical(linear, machine.levels()))
    machine.fault_if(outside, "#GP: jump to a non-canonical address")
    machine.end(EndKind.HAND_OFF, "", rip=linear)
    raise PathOver
