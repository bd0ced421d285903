# SPDX-License-Identifier: GPL-2.0-only
"""Bit tests in memory: BT, BTS, BTR and BTC of one word, the last three also with LOCK.

A bit index in a register addresses a bit string of 2 GiB and more; only an index that is constant
and lies in the word that the operand names is executed. The CPU may access less than the whole word
(SDM 2, BT), but nothing else: it is recorded as an access to all of it. Without LOCK it is a load
and a store, between which others may write a shared word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import z3
from pypcode import OpCode

from harness.x86.lift import Instruction, Varnode
from harness.x86.machine import Machine
from harness.x86.pcode import UNDEFINED, Plain, Pointer
from harness.x86.registers import force
from harness.x86.terms import const, low, number, simplify

_CHANGES: dict[str, Callable[[z3.BitVecRef, z3.BitVecRef], z3.BitVecRef]] = {
    "BTS": lambda word, bit: word | bit,
    "BTR": lambda word, bit: word & ~bit,
    "BTC": lambda word, bit: word ^ bit,
}
LOCK = ".LOCK"


def is_bit_test_in_memory(instruction: Instruction) -> bool:
    """A bit test whose first operand is not a register."""
    if instruction.mnemonic.removesuffix(LOCK) not in ("BT", *_CHANGES):
        return False
    return any(
        op.opcode in (OpCode.LOAD, OpCode.STORE) or any(v.space == "ram" for v in op.inputs)
        for op in instruction.ops
    )


def bit_test(machine: Machine, instruction: Instruction) -> None:
    """CF is the bit as it was; the other arithmetic flags are undefined (SDM 2, BT)."""
    name, size = instruction.mnemonic.removesuffix(LOCK), instruction.operand_bytes
    locked = instruction.mnemonic.endswith(LOCK)
    if locked != (0xF0 in instruction.prefixes):
        raise machine.refuse(f"`{instruction}` with a lock prefix")
    address, index = _operands(machine, instruction)
    bit = const(1 << index, 8 * size)
    linear = machine.linear(address, size, write=name != "BT")
    if name == "BT":
        old = machine.read(linear, size, "load")
    elif locked:
        old = machine.locked_update(linear, size, lambda word: _CHANGES[name](word, bit))
    else:
        old = machine.read(linear, size, "load")
        machine.write(linear, simplify(_CHANGES[name](old, bit)))
    flags = machine.registers.flags
    flags["CF"] = low(simplify(z3.Extract(index, index, old)), 8)
    for flag in UNDEFINED[name]:
        flags[flag] = machine.environment.unknown_flag(f"{flag}_undefined")
    machine.cpu.pc = instruction.end


def _operands(machine: Machine, instruction: Instruction) -> tuple[z3.BitVecRef | Pointer, int]:
    """The address of the word, and the number of the bit in it."""
    bits = 8 * instruction.operand_bytes
    ops = tuple(op for op in instruction.ops if op.userop not in ("LOCK", "UNLOCK"))
    plain = Plain(replace(instruction, ops=ops), machine)
    source = _index(machine, instruction)
    if source.space == "const":
        return plain.operand_address(), source.offset % bits
    index = number(force(plain.read(source)))
    if index is None or index >= bits:
        raise machine.refuse(f"`{instruction}` with a bit index that may lie outside the operand")
    # The p-code adds the bit's byte to the address.
    byte, address = index // 8, plain.operand_address()
    if isinstance(address, Pointer):
        return Pointer(address.segment, simplify(address.offset - byte)), index
    return simplify(address - byte), index


def _index(machine: Machine, instruction: Instruction) -> Varnode:
    """Where the bit index stands: the p-code takes its low bits, of a constant or of a register."""
    bits = 8 * instruction.operand_bytes
    for op in instruction.ops:
        if op.opcode == OpCode.INT_AND and op.inputs[1].space == "const":
            source, mask = op.inputs[0], op.inputs[1].offset
            if (source.space, mask) in (("const", bits - 1), ("register", 7)):
                return source
    raise machine.refuse(f"`{instruction}` in this form")
