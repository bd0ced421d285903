# SPDX-License-Identifier: GPL-2.0-only
"""System instructions, by mnemonic: p-code has no effect on modes and hidden state for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import z3
from pypcode import OpCode

from harness.x86.bit_tests import bit_test, is_bit_test_in_memory
from harness.x86.cpu import TablePointer
from harness.x86.lift import Instruction, Op
from harness.x86.machine import Machine
from harness.x86.path import PathOver
from harness.x86.pcode import Plain, Pointer
from harness.x86.registers import CONTROL, SEGMENTS, force
from harness.x86.run import EndKind, TableLoad
from harness.x86.terms import const, low, number, simplify
from harness.x86.transfer import far_jump, far_return, go_to, load_segment
from models import modes
from models.cpuid import Output, cpuid
from models.descriptors import fetch_faults
from models.paging import canonical

NO_EFFECT = frozenset({"NOP", "PAUSE", "WBINVD", "LFENCE", "MFENCE", "SFENCE", "ENDBR64"})
"""Instructions without an effect on anything that is modelled; caches are not."""


def handler(instruction: Instruction) -> Callable[[Machine, Instruction], None] | None:
    """What executes this instruction, None if it is a plain one."""
    if instruction.mnemonic == "MOV" and instruction.ops:
        output = instruction.ops[-1].output
        if output is not None and output.name in SEGMENTS:
            return _move_to_segment
        if output is not None and output.name in CONTROL:
            return _move_to_control
    if instruction.mnemonic in NO_EFFECT:
        return _nothing
    if is_bit_test_in_memory(instruction):
        return bit_test
    if instruction.mnemonic == "RET" and instruction.bits == 16:
        return _return_near
    return _HANDLERS.get(instruction.mnemonic)


def _nothing(machine: Machine, instruction: Instruction) -> None:
    if instruction.mnemonic == "PAUSE" and instruction.length != 2:
        raise machine.refuse("pause with a prefix")
    machine.cpu.pc = instruction.end


def _halt(machine: Machine, instruction: Instruction) -> None:
    """HLT with interrupts off: parked. NMI, SMI and INIT are outside the model."""
    if number(force(machine.registers.flags["IF"])) != 0:
        raise machine.refuse("hlt while interrupts may be on")
    machine.end(EndKind.PARKED, "")
    raise PathOver


def _move_to_segment(machine: Machine, instruction: Instruction) -> None:
    name = _written(instruction).lower()
    if name == "cs":
        raise machine.refuse("mov to CS, which is #UD")
    load_segment(machine, name, low(_source(machine, instruction), 16))
    machine.cpu.pc = instruction.end


def _move_to_control(machine: Machine, instruction: Instruction) -> None:
    """MOV to CR0, CR3 or CR4 (SDM 2, MOV control registers)."""
    value = machine.environment.base.normal(low(_source(machine, instruction), 64))
    name = _written(instruction)
    {"CR0": write_cr0, "CR3": _write_cr3, "CR4": _write_cr4}.get(name, _refuse_control)(
        machine, value
    )
    machine.cpu.pc = instruction.end


def _refuse_control(machine: Machine, value: z3.BitVecRef) -> None:
    raise machine.refuse("a write to CR2")


def write_cr0(machine: Machine, value: z3.BitVecRef) -> None:
    """MOV to CR0 of 64 bits: modes may change, paging may begin or end."""
    cpu = machine.cpu
    was_paging = cpu.paging
    cs_long = cpu.segments["cs"].long
    machine.fault_if(
        modes.cr0_write_faults(cpu.control, value, cs_long), "#GP: CR0 may not hold this value"
    )
    _set_control(machine, modes.cr0_write(cpu.control, value))
    cpu.update_mode(machine.decide)
    _check_paging_kind(machine)
    cpu.walked |= cpu.paging
    if cpu.paging:
        machine.map_image(flushed=not was_paging)
    else:
        cpu.identity_slots, cpu.host_tables = None, None
        if was_paging:
            cpu.way = cpu.way.paging_off
            cpu.gdtr, cpu.idtr = replace(cpu.gdtr, halved=True), replace(cpu.idtr, halved=True)


def _check_paging_kind(machine: Machine) -> None:
    """4- or 5-level paging; which of them is decided for all inputs of the path."""
    if machine.cpu.paging:
        control = machine.cpu.control
        if not machine.decide(z3.Or(modes.four_level(control), modes.five_level(control))):
            raise machine.refuse("a paging mode other than 4-level and 5-level paging")
        machine.decide(modes.five_level(control))


def _write_cr3(machine: Machine, value: z3.BitVecRef) -> None:
    cpu = machine.cpu
    maxphyaddr = machine.environment.features.maxphyaddr
    machine.fault_if(
        modes.cr3_write_faults(cpu.control, value, maxphyaddr), "#GP: CR3 has a reserved bit set"
    )
    _set_control(machine, modes.cr3_write(cpu.control, value))
    if cpu.paging:  # with CR4.PGE, global entries stay in the TLB (SDM 3A 4.10.4.1)
        all_gone = not machine.possible(cpu.control.cr4 & modes.CR4_PGE != 0)
        cpu.tables_fresh = cpu.tables_fresh and all_gone
        machine.map_image(flushed=all_gone)


def _write_cr4(machine: Machine, value: z3.BitVecRef) -> None:
    control, environment = machine.cpu.control, machine.environment
    if machine.possible(value & ~const(modes.CR4_MODELLED) != 0):
        raise machine.refuse(f"a write of {value} to CR4: a bit of it is not modelled")
    features, zero = environment.features, const(0)
    supported = (
        z3.If(features.pae, const(modes.CR4_PAE), zero)
        | z3.If(features.five_level, const(modes.CR4_LA57), zero)
        # A bit that is 1 already exists, and what the host asks for it promises to exist.
        | (control.cr4 & ~const(modes.CR4_PAE | modes.CR4_LA57))
        | environment.supported["cr4"]
    )
    machine.fault_if(
        modes.cr4_write_faults(control, value, supported), "#GP: CR4 may not hold this value"
    )
    before = control.cr4
    _set_control(machine, modes.cr4_write(control, value))
    _check_paging_kind(machine)
    if machine.cpu.paging and not machine.environment.prover.holds(
        machine.cpu.path, (before ^ value) & modes.CR4_READ_BY_WALKS == 0
    ):
        machine.map_image(flushed=False)


def _set_control(machine: Machine, control: modes.Control) -> None:
    base = machine.environment.base
    machine.cpu.control = modes.Control(
        *(base.normal(simplify(value)) for value in vars(control).values())
    )


def _load_machine_status_word(machine: Machine, instruction: Instruction) -> None:
    """LMSW: bits 3:0 of CR0; it can set PE but not clear it."""
    source = [op for op in instruction.ops if op.opcode == OpCode.INT_AND][-1].inputs[0]
    if source.space != "register":
        raise machine.refuse("lmsw from memory")
    control = machine.cpu.control
    value = low(force(Plain(instruction, machine).read(source)), 16)
    _set_control(
        machine,
        modes.Control(modes.lmsw(control, value), control.cr3, control.cr4, control.efer),
    )
    machine.cpu.update_mode(machine.decide)
    machine.cpu.pc = instruction.end


def _load_table_pointer(machine: Machine, instruction: Instruction) -> None:
    """LGDT, LIDT: 2 bytes of limit, then 4 bytes of base, 8 in 64-bit code (SDM 2, LGDT/LIDT)."""
    address = Plain(instruction, machine).operand_address()
    width = 8 if instruction.bits == 64 else 4
    linear = machine.linear(address, 2 + width, write=False)
    limit = machine.read(linear, 2, "descriptor")
    base = low(machine.read(simplify(linear + 2), width, "descriptor"), 64)
    if instruction.bits != 64 and instruction.operand_bytes == 2:
        base = simplify(base & 0xFFFFFF)
    if instruction.bits == 64:
        outside = z3.Not(canonical(base, machine.levels()))
        machine.fault_if(outside, "#GP: the table's base is not canonical")
    pointer = TablePointer(machine.environment.base.normal(base), limit)
    register = "gdtr" if instruction.mnemonic == "LGDT" else "idtr"
    setattr(machine.cpu, register, pointer)
    whole = instruction.bits == 64 or instruction.operand_bytes != 2
    load = TableLoad(register, pointer.base, limit, whole, machine.instruction)
    machine.cpu.table_loads = (*machine.cpu.table_loads, load)
    machine.cpu.pc = instruction.end


def _jump_far(machine: Machine, instruction: Instruction) -> None:
    """JMP ptr16:16/32 or m16:16/32/64."""
    if instruction.far is not None:
        selector, target = instruction.far
        offset = force(Plain(instruction, machine).read(target))
        far_jump(machine, const(selector, 16), offset)
        return
    address = Plain(instruction, machine).operand_address()
    width = instruction.operand_bytes
    if width == 8:
        raise machine.refuse("a far jump with a 64-bit offset, which AMD processors do not have")
    linear = machine.linear(address, width + 2, write=False)
    offset_term = machine.read(linear, width, "load")
    selector_term = machine.read(simplify(linear + width), 2, "load")
    far_jump(machine, selector_term, offset_term)


def _return_near(machine: Machine, instruction: Instruction) -> None:
    """RET near in 16-bit code: p-code would change CS. Pops IP or EIP (SDM 2, RET)."""
    width = instruction.operand_bytes
    if instruction.operands:
        raise machine.refuse("a near return that releases stack bytes")
    stack = machine.cpu.segments["ss"]
    if not z3.is_false(stack.big):
        raise machine.refuse("a near return in 16-bit code on a stack that may have 32 bits")
    pointer = machine.registers.read("rsp", 0, 2)
    offset = low(machine.load(Pointer("SS", pointer), width), 64)
    machine.registers.write("rsp", 0, simplify(pointer + width))
    cs = machine.cpu.segments["cs"]
    machine.fault_if(fetch_faults(cs, low(offset, 32), 1), "#GP: EIP is outside CS")
    go_to(machine, machine.environment.base.normal(simplify(cs.base + offset)))


def _return_far(machine: Machine, instruction: Instruction) -> None:
    """RET far without operand: pops offset and selector, one operand size each (SDM 2, RET)."""
    if instruction.operands:
        raise machine.refuse("a far return that releases stack bytes")
    width, bits = instruction.operand_bytes, instruction.bits
    if bits == 16:
        raise machine.refuse("a far return in 16-bit code")
    stack = machine.registers.read("rsp", 0, bits // 8)
    offset = machine.load(stack, width)
    selector = low(machine.load(simplify(stack + width), width), 16)
    machine.registers.write("rsp", 0, simplify(stack + 2 * width))
    far_return(machine, selector, offset)


def _read_msr(machine: Machine, instruction: Instruction) -> None:
    _only_efer(machine)
    efer = machine.cpu.control.efer
    _write32(machine, "rax", low(efer, 32))
    _write32(machine, "rdx", simplify(z3.Extract(63, 32, efer)))
    machine.cpu.pc = instruction.end


def _write_msr(machine: Machine, instruction: Instruction) -> None:
    _only_efer(machine)
    registers, features = machine.registers, machine.environment.features
    value = simplify(z3.Concat(registers.read("rdx", 0, 4), registers.read("rax", 0, 4)))
    zero = const(0)
    supported = (
        const(modes.EFER_SCE)
        | z3.If(features.long_mode, const(modes.EFER_LME | modes.EFER_LMA), zero)
        | z3.If(features.no_execute, const(modes.EFER_NXE), zero)
        | machine.environment.supported["efer"]
    )
    control = machine.cpu.control
    machine.fault_if(
        modes.efer_write_faults(control, value, supported), "#GP: EFER may not hold this value"
    )
    _set_control(machine, modes.efer_write(control, value))
    if machine.cpu.paging:
        machine.map_image(flushed=False)
    machine.cpu.pc = instruction.end


def _only_efer(machine: Machine) -> None:
    msr = number(machine.registers.read("rcx", 0, 4))
    if msr != modes.IA32_EFER:
        name = "that is not constant" if msr is None else hex(msr)
        raise machine.refuse(f"MSR {name}: only EFER is modelled")
    has_efer = machine.environment.features.has_efer
    machine.fault_if(z3.Not(has_efer), "#GP: the CPU has no IA32_EFER")


def _identify(machine: Machine, instruction: Instruction) -> None:
    """CPUID of a constant leaf. What the model does not say is unknown each time anew: some of it
    depends on mode and control registers."""
    leaf = number(machine.registers.read("rax", 0, 4))
    subleaf = number(machine.registers.read("rcx", 0, 4))
    if leaf is None:
        raise machine.refuse("cpuid with a leaf that is not constant")
    features = machine.environment.features
    outputs = cpuid(leaf, -1 if subleaf is None else subleaf, features)
    for name, output in outputs.items():
        label = f"cpuid_{leaf:x}_{name}"
        unknown = machine.environment.unknown(label, 32)
        value = output.complete(unknown) if isinstance(output, Output) else unknown
        _write32(machine, "r" + name[1:], simplify(value))
    machine.cpu.pc = instruction.end


def _compare_exchange(machine: Machine, instruction: Instruction) -> None:
    """LOCK CMPXCHG: memory is written in any case, with what it held if that is not what is
    expected (SDM 2, CMPXCHG).

    EAX is written only then, and so RAX's upper half becomes 0 only then; emulators set it to 0 in
    any case. Here either may happen.
    """
    ops = [op for op in instruction.ops if op.userop not in ("LOCK", "UNLOCK")]
    load = next((n for n, op in enumerate(ops) if op.opcode == OpCode.LOAD), None)
    store = next((n for n, op in enumerate(ops) if op.opcode == OpCode.STORE), None)
    branch = next((n for n, op in enumerate(ops) if op.opcode == OpCode.CBRANCH), None)
    if load is None or store is None or branch is None or (loaded := ops[load].output) is None:
        raise machine.refuse(f"`{instruction}` in this form")
    plain, size = Plain(instruction, machine), loaded.size
    for op in ops[:load]:
        plain.execute(op)
    linear = machine.linear(plain.address(ops[load].inputs[0]), size, write=True)
    expected = machine.registers.read("rax", 0, size)
    source = force(plain.read(ops[store - 1].inputs[0]))
    old = machine.compare_exchange(linear, expected, source)
    plain.temporaries[loaded.offset, loaded.size] = old
    for op in ops[load + 1 : branch]:  # the flags of a comparison
        plain.execute(op)
    machine.registers.flags["AF"] = machine.environment.unknown_flag("AF_undefined")
    before = machine.registers.values["rax"]
    if size == 4:
        _write32(machine, "rax", old)
    else:
        machine.registers.write("rax", 0, old)
    after = machine.registers.values["rax"]
    kept = z3.And(old == expected, machine.environment.unknown("undefined_by_cmpxchg", 1) == 1)
    machine.registers.values["rax"] = simplify(z3.If(kept, before, after))
    machine.cpu.pc = instruction.end


def _write32(machine: Machine, name: str, value: z3.BitVecRef) -> None:
    """A 32-bit result: in 64-bit mode the upper half becomes 0 (SDM vol. 1, 3.4.1.1)."""
    if machine.cpu.mode is modes.Mode.LONG64:
        machine.registers.write(name, 0, low(value, 64))
    else:
        machine.registers.write(name, 0, value)


def _written(instruction: Instruction) -> str:
    output = instruction.ops[-1].output
    assert output is not None
    return output.name


def _source(machine: Machine, instruction: Instruction) -> z3.BitVecRef:
    """The operand of a move to a special register: all its operations but the last one run."""
    plain = Plain(instruction, machine)
    for op in instruction.ops[:-1]:
        plain.execute(op)
    last: Op = instruction.ops[-1]
    if last.opcode not in (OpCode.COPY, OpCode.SUBPIECE, OpCode.INT_ZEXT):
        raise machine.refuse(f"`{instruction}` in this form")
    return force(plain.read(last.inputs[0]))


_HANDLERS: dict[str, Callable[[Machine, Instruction], None]] = {
    "HLT": _halt,
    "LMSW": _load_machine_status_word,
    "LGDT": _load_table_pointer,
    "LIDT": _load_table_pointer,
    "JMPF": _jump_far,
    "RETF": _return_far,
    "RDMSR": _read_msr,
    "WRMSR": _write_msr,
    "CPUID": _identify,
    "CMPXCHG.LOCK": _compare_exchange,
}
