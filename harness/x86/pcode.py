# SPDX-License-Identifier: GPL-2.0-only
"""Plain instructions: p-code operations as z3 terms.

System instructions, far transfers and string loops never get here: their p-code is not right. What
this table does not list is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import z3
from pypcode import OpCode

from harness.x86.errors import Unsupported
from harness.x86.lift import Instruction, Op, Varnode
from harness.x86.registers import CONTROL, FLAGS, SEGMENTS, Lazy, Registers, Value, force, general
from harness.x86.terms import const, low, number, simplify, simplify_products


@dataclass(frozen=True)
class Pointer:
    """An address inside a segment, as the 16-bit p-code's `segment` operation names it."""

    segment: str
    offset: z3.BitVecRef


class Port(Protocol):
    """What plain instructions see of the machine around them."""

    @property
    def registers(self) -> Registers:
        """General registers and flags."""

    def load(self, address: z3.BitVecRef | Pointer, size: int) -> z3.BitVecRef:
        """`size` bytes at a linear address (64 bits) or segment offset."""

    def store(self, address: z3.BitVecRef | Pointer, value: z3.BitVecRef) -> None:
        """Write a value of whole bytes."""

    def special(self, name: str) -> z3.BitVecRef:
        """A selector (16 bits) or control register (64 bits)."""

    def pc_relative(self, offset: int, bits: int) -> z3.BitVecRef:
        """The address of an image offset, as the running code computes it."""

    def field(self, offset: int) -> z3.BitVecRef:
        """The 4 bytes that an instruction holds at an image offset."""


@dataclass(frozen=True)
class Jump:
    """Where a plain instruction goes on if it is not the next one.

    `target` is an image offset, or a term for an indirect jump. `condition` (8 bits, taken when not
    zero) is None for an unconditional jump.
    """

    target: int | z3.BitVecRef
    condition: z3.BitVecRef | None = None


def _flag(condition: z3.BoolRef) -> z3.BitVecRef:
    return z3.If(condition, const(1, 8), const(0, 8))


def _shift(
    operation: Callable[[z3.BitVecRef, z3.BitVecRef], z3.BitVecRef],
) -> Callable[[z3.BitVecRef, z3.BitVecRef], z3.BitVecRef]:
    """Shift by an amount of another width; amounts of the width or more shift everything out."""

    def shifted(value: z3.BitVecRef, amount: z3.BitVecRef) -> z3.BitVecRef:
        bits = value.size()
        if amount.size() > bits:
            amount = z3.If(z3.UGE(amount, bits), const(bits, amount.size()), amount)
        return operation(value, low(amount, bits))

    return shifted


def _overflow(a: z3.BitVecRef, b: z3.BitVecRef, result: z3.BitVecRef) -> z3.BitVecRef:
    """Signed overflow of an addition: both operands' signs differ from the result's."""
    return _flag(((a ^ result) & (b ^ result)) < 0)


def _popcount(a: z3.BitVecRef, bits: int) -> z3.BitVecRef:
    if (value := number(a)) is not None:
        return const(value.bit_count(), bits)
    size, width = a.size(), 1  # a power of two; the fields of `width` bits that were added up
    while width < size:
        mask = const(((1 << size) - 1) // ((1 << width) + 1), size)  # every other field
        a = (a & mask) + (z3.LShR(a, const(width, size)) & mask)
        width *= 2
    return low(a, bits)


BINARY: dict[OpCode, Callable[[z3.BitVecRef, z3.BitVecRef], z3.BitVecRef]] = {
    OpCode.INT_ADD: lambda a, b: a + b,
    OpCode.INT_SUB: lambda a, b: a - b,
    OpCode.INT_MULT: lambda a, b: simplify_products(a * b),
    OpCode.INT_AND: lambda a, b: a & b,
    OpCode.INT_OR: lambda a, b: a | b,
    OpCode.INT_XOR: lambda a, b: a ^ b,
    OpCode.INT_LEFT: _shift(lambda a, b: a << b),
    OpCode.INT_RIGHT: _shift(z3.LShR),
    OpCode.INT_SRIGHT: _shift(lambda a, b: a >> b),
    OpCode.INT_EQUAL: lambda a, b: _flag(a == b),
    OpCode.INT_NOTEQUAL: lambda a, b: _flag(a != b),
    OpCode.INT_LESS: lambda a, b: _flag(z3.ULT(a, b)),
    OpCode.INT_LESSEQUAL: lambda a, b: _flag(z3.ULE(a, b)),
    OpCode.INT_SLESS: lambda a, b: _flag(a < b),
    OpCode.INT_SLESSEQUAL: lambda a, b: _flag(a <= b),
    OpCode.INT_CARRY: lambda a, b: _flag(z3.ULT(a + b, a)),
    OpCode.INT_SCARRY: lambda a, b: _overflow(a, b, a + b),
    OpCode.INT_SBORROW: lambda a, b: _overflow(a, ~b, a - b),
    OpCode.BOOL_AND: lambda a, b: a & b,
    OpCode.BOOL_OR: lambda a, b: a | b,
    OpCode.BOOL_XOR: lambda a, b: a ^ b,
    OpCode.PIECE: lambda a, b: z3.Concat(a, b),
}
UNARY: dict[OpCode, Callable[[z3.BitVecRef, int], z3.BitVecRef]] = {
    OpCode.COPY: lambda a, bits: a,
    OpCode.INT_ZEXT: low,
    OpCode.INT_SEXT: lambda a, bits: z3.SignExt(bits - a.size(), a),
    OpCode.INT_2COMP: lambda a, bits: -a,
    OpCode.INT_NEGATE: lambda a, bits: ~a,
    OpCode.BOOL_NEGATE: lambda a, bits: a ^ 1,
    OpCode.POPCOUNT: _popcount,
}
PLAIN = frozenset(
    (
        "ADC ADD AND BT BTC BTR BTS CALL CLC CLD CLI CMC CMP CWD CDQ CQO CWDE CDQE CBW "
        "DEC IMUL INC JMP LEA MOV MOVSX MOVSXD MOVZX NEG NOT OR POP PUSH RET SAR "
        "SBB SHL SHLD SHR SHRD STC STD SUB TEST XCHG XOR JA JBE JC JG JGE JL JLE JNC JNO "
        "JNP JNS JNZ JO JP JS JZ CMOVA CMOVBE CMOVC CMOVG CMOVGE CMOVL CMOVLE CMOVNC "
        "CMOVNO CMOVNP CMOVNS CMOVNZ CMOVO CMOVP CMOVS CMOVZ SETA SETBE SETC SETG SETGE "
        "SETL SETLE SETNC SETNO SETNP SETNS SETNZ SETO SETP SETS SETZ JB JNB JAE CMOVB "
        "CMOVNB CMOVAE SETB SETNB SETAE"
    ).split()
)
"""Instructions that p-code describes rightly, as sleigh spells them."""
DOUBLE_SHIFTS = frozenset({"SHLD", "SHRD"})
"""Of 16 bits they are undefined for counts above 16 (SDM 2): refused."""
STRING = frozenset({"STOSB", "STOSW", "STOSD", "STOSQ"})
"""The same without a repeat prefix; with one, `loops.repeat` gives the operations of one turn."""
UNDEFINED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("SHL", "SHR", "SAR", "SHLD", "SHRD"), ("OF", "AF")),
    **dict.fromkeys(("BT", "BTS", "BTR", "BTC"), ("OF", "SF", "ZF", "AF", "PF")),
    **dict.fromkeys(("IMUL", "MUL"), ("SF", "ZF", "AF", "PF")),
    **dict.fromkeys(("AND", "OR", "XOR", "TEST"), ("AF",)),
    **dict.fromkeys(("ADD", "ADC", "SUB", "SBB", "CMP", "INC", "DEC", "NEG"), ("AF",)),
}
"""Flags that the manual leaves undefined after an instruction (SDM 2, "Flags Affected").

OF is defined after a shift by one, AF after additions and subtractions, ZF after a bit test by
Intel; treating them as undefined there, too, is on the safe side (p-code never computes AF).
"""


def undefined_flags(instruction: Instruction) -> tuple[str, ...]:
    """The flags that the manual leaves undefined after this instruction.

    A shift of 8 or 16 bits by as much or more leaves CF undefined, too; here any such shift does.
    """
    flags = UNDEFINED.get(instruction.mnemonic, ())
    sizes = {op.output.size for op in instruction.ops if op.output and op.output.name not in FLAGS}
    narrow = instruction.mnemonic in ("SHL", "SHR", "SAR") and sizes & {1, 2}
    return (*flags, "CF") if narrow else flags


class Plain:
    """Executes one plain instruction against a port."""

    def __init__(self, instruction: Instruction, port: Port) -> None:
        self.instruction = instruction
        self.port = port
        self.temporaries: dict[tuple[int, int], Value | Pointer] = {}
        self.keep_if: z3.BitVecRef | None = None  # a condition under which nothing is written

    def run(self) -> Jump | None:
        """Execute all operations; None means: go on with the next instruction."""
        if self.instruction.mnemonic not in PLAIN | STRING:
            raise self._refuse("an instruction that is not modelled")
        if self.instruction.mnemonic in DOUBLE_SHIFTS and self.instruction.operand_bytes == 2:
            raise self._refuse("a 16-bit double shift")
        self._check_prefixes()
        for op in self.instruction.ops:
            if (jump := self.execute(op)) is not None:
                return jump
        return None

    def _check_prefixes(self) -> None:
        """Branches whose target depends on the vendor."""
        mnemonic = self.instruction.mnemonic
        branches = mnemonic.startswith("J") or mnemonic in ("CALL", "RET")
        if branches and 0x66 in self.instruction.prefixes:
            raise self._refuse("a near branch with an operand size prefix")

    def _refuse(self, what: str) -> Unsupported:
        return Unsupported(self.instruction.offset, f"{what} in `{self.instruction}`")

    def execute(self, op: Op) -> Jump | None:
        """Execute one operation; a Jump says where to go on."""
        code = op.opcode
        if code in BINARY:
            a, b = (self._value(v) for v in op.inputs)
            operation = BINARY[code]
            self._write(op.output, Lazy(lambda: operation(force(a), force(b))))
        elif code in UNARY:
            source, bits = self._get(op.inputs[0]), 8 * _output(op).size
            if code == OpCode.COPY:
                self._write(op.output, source)
            else:
                value, unary = self._plain(source), UNARY[code]
                self._write(op.output, Lazy(lambda: unary(force(value), bits)))
        elif code == OpCode.SUBPIECE:
            value, first = self._value(op.inputs[0]), 8 * op.inputs[1].offset
            last = first + 8 * _output(op).size - 1
            self._write(op.output, Lazy(lambda: z3.Extract(last, first, force(value))))
        elif code == OpCode.LOAD:
            self._memory_allowed()
            self._write(op.output, self.port.load(self.address(op.inputs[0]), _output(op).size))
        elif code == OpCode.STORE:
            self._memory_allowed()
            self.port.store(self.address(op.inputs[0]), force(self._value(op.inputs[1])))
        elif code == OpCode.CALLOTHER and op.userop == "segment":
            self._segment(op)
        else:
            return self._jump(op)
        return None

    def _jump(self, op: Op) -> Jump | None:
        code = op.opcode
        if self.keep_if is not None:
            raise self._refuse(f"{code.name} behind a conditional skip")
        if code == OpCode.CBRANCH:
            target, condition = op.inputs[0], force(self._value(op.inputs[1]))
            offset = self._target(target)
            if offset != self.instruction.end:
                if op is not self.instruction.ops[-1]:
                    raise self._refuse("a branch inside an instruction")
                return Jump(offset, condition)
            known = number(condition)  # CMOVcc, SETcc: skip the rest of this instruction
            if known is None:
                self.keep_if = condition
            return Jump(offset) if known else None
        if code in (OpCode.BRANCH, OpCode.CALL):
            return Jump(self._target(op.inputs[0]))
        if code in (OpCode.BRANCHIND, OpCode.CALLIND, OpCode.RETURN):
            if self.instruction.bits == 16:
                raise self._refuse("an indirect near jump in 16-bit code")
            return Jump(force(self._value(op.inputs[0])))
        name = f" {op.userop}" if op.userop else ""
        raise self._refuse(f"p-code operation {code.name}{name}")

    def _target(self, varnode: Varnode) -> int:
        if varnode.space == "ram" and varnode.relative:
            return varnode.offset
        raise self._refuse("a jump to an absolute address or into an instruction")

    def _segment(self, op: Op) -> None:
        register, offset = op.inputs
        if register.name not in SEGMENTS:
            raise self._refuse(f"segment {register.name}")
        pointer = Pointer(register.name, simplify(low(force(self._value(offset)), 16)))
        output = _output(op)
        self.temporaries[output.offset, output.size] = pointer

    def address(self, varnode: Varnode) -> z3.BitVecRef | Pointer:
        """The address that an operand holds."""
        value = self._get(varnode)
        if isinstance(value, Pointer):
            return value
        return low(force(value), 64)

    def _memory_allowed(self) -> None:
        if self.keep_if is not None:
            raise self._refuse("a memory access behind a conditional skip")

    def read(self, varnode: Varnode) -> Value:
        """The value of an operand."""
        return self._value(varnode)

    def operand_address(self) -> z3.BitVecRef | Pointer:
        """The address of the instruction's memory operand; nothing is read or written."""
        for op in self.instruction.ops:
            if op.opcode == OpCode.LOAD:
                return self.address(op.inputs[0])
            for varnode in op.inputs:
                if varnode.space == "ram":
                    return self._direct(varnode)
            self.execute(op)
        raise self._refuse("no memory operand")

    def _value(self, varnode: Varnode) -> Value:
        return self._plain(self._get(varnode))

    def _plain(self, value: Value | Pointer) -> Value:
        if isinstance(value, Pointer):
            raise self._refuse("arithmetic on a segmented address")
        return value

    def _get(self, varnode: Varnode) -> Value | Pointer:
        bits = 8 * varnode.size
        if varnode.space == "const":
            if varnode.field is not None:
                return self._field(varnode, bits)
            if varnode.relative:
                return self.port.pc_relative(varnode.offset, bits)
            return const(varnode.offset, bits)
        if varnode.space == "unique":
            if (varnode.offset, varnode.size) not in self.temporaries:
                raise self._refuse("a temporary that was never written at this size")
            return self.temporaries[varnode.offset, varnode.size]
        if varnode.space == "ram":
            self._memory_allowed()
            return self.port.load(self._direct(varnode), varnode.size)
        return self._register(varnode)

    def _direct(self, varnode: Varnode) -> z3.BitVecRef:
        """The address of an operand without registers: absolute or relative to RIP."""
        if varnode.field is not None:
            return self._field(varnode, 64)
        if varnode.relative:
            return self.port.pc_relative(varnode.offset, 64)
        return const(varnode.offset)

    def _field(self, varnode: Varnode, bits: int) -> z3.BitVecRef:
        assert varnode.field is not None
        value = self.port.field(varnode.field)
        if varnode.signed:
            return simplify(z3.SignExt(bits - value.size(), value))
        return low(value, bits)

    def _register(self, varnode: Varnode) -> Value:
        name = varnode.name
        if name in FLAGS and name != "AF":  # p-code never computes AF
            return self.port.registers.flags[name]
        if name in SEGMENTS and (
            self.instruction.mnemonic != "MOV" or self.instruction.operand_bytes != 2
        ):
            raise self._refuse(f"a read of {name} at another size than 16 bits")
        if name in SEGMENTS or name in CONTROL:
            return low(self.port.special(name), 8 * varnode.size)
        place = general(varnode, self.instruction.bits)
        if name in ("RIP", "EIP", "IP"):
            key = (varnode.offset, varnode.size)
            if key in self.temporaries:
                return self._plain(self.temporaries[key])
        elif place is not None:
            return self.port.registers.read(*place, varnode.size)
        raise self._refuse(f"register {name or hex(varnode.offset)}")

    def _write(self, varnode: Varnode | None, value: Value | Pointer) -> None:
        assert varnode is not None
        if varnode.space == "unique" or varnode.name in ("RIP", "EIP", "IP"):
            self.temporaries[varnode.offset, varnode.size] = value
            return
        plain = self._plain(value)
        if varnode.space == "ram":
            self._memory_allowed()
            self.port.store(self._direct(varnode), force(plain))
            return
        if self.keep_if is not None:
            keep, old, new = self.keep_if, self._register(varnode), plain
            plain = Lazy(lambda: z3.If(keep != 0, force(old), force(new)))
        place = general(varnode, self.instruction.bits)
        if varnode.name in FLAGS:
            self.port.registers.flags[varnode.name] = plain
        elif place is not None:
            self.port.registers.write(*place, force(plain))
        else:
            raise self._refuse(f"a write to register {varnode.name or hex(varnode.offset)}")


def _output(op: Op) -> Varnode:
    assert op.output is not None
    return op.output
