# SPDX-License-Identifier: GPL-2.0-only
"""String instructions with a REP prefix: a fill of memory as a loop, a copy as one block.

A copy is one load and one store of all its bytes; of more than 1 KiB it is several. That is what it
does only if source and destination do not overlap, and if no fault comes on its way: both are
proved, or it is refused. A fault of the first element is told from these: nothing was written then.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import z3

from harness.x86.lift import Instruction
from harness.x86.loops import summarise
from harness.x86.machine import Machine
from harness.x86.memory import PAGE, RangeWrite, Write, overlap
from harness.x86.path import PathOver
from harness.x86.pcode import Jump, Plain, Pointer
from harness.x86.registers import Registers, force
from harness.x86.run import EndKind
from harness.x86.terms import const, low, number, simplify
from models.descriptors import access_faults
from models.modes import Mode
from models.paging import Access as Kind

MAX_BYTES = 1 << 16  # of one copy
BLOCK = 1 << 10  # bytes of one access: longer terms make z3 slow, and Python refuses to print them
_REP, _OTHERS = ".REP", frozenset({0xF0, 0xF2, 0x67})
"""With LOCK they raise #UD, REPNE is reserved for them, and a 0x67 prefix selects other registers
than the code size does."""


def repeat(machine: Machine, instruction: Instruction) -> None:
    """REP STOS and REP MOVS with a constant count; DF is known on each path that goes on."""
    name = instruction.mnemonic.partition(".")[0]
    kind = name[:-1]
    if kind not in ("STOS", "MOVS") or name + _REP != instruction.mnemonic:
        raise machine.refuse(f"`{instruction}`")
    if instruction.prefixes & _OTHERS:
        raise machine.refuse(f"`{instruction}` with a further prefix")
    # The p-code tests the counter first and ends with a jump to itself.
    test, _, *iteration, _ = instruction.ops
    counter = test.inputs[0]
    count = number(force(Plain(instruction, machine).read(counter)))
    if count is None:
        raise machine.refuse(f"`{instruction}` with a count that is not constant")
    if count:
        down = machine.decide(force(machine.registers.flags["DF"]) != 0)
        machine.registers.flags["DF"] = const(int(down), 8)
        once = replace(instruction, mnemonic=name, ops=tuple(iteration))
        if kind == "STOS" and down:
            _fill_down(machine, once, count)
        elif kind == "STOS":
            _fill(machine, once, counter.size)
        else:
            _copy(machine, once, count, down)
    machine.cpu.pc = instruction.end


def _fill(machine: Machine, once: Instruction, counter_size: int) -> None:
    def continues(registers: Registers, jump: Jump | None) -> z3.BoolRef:
        return simplify(registers.read("rcx", 0, counter_size)) != 0

    if not summarise(machine, [once], continues):
        raise machine.refuse(f"rep `{once}` that is no plain fill of memory")
    Plain(once, machine).run()


def _fill_down(machine: Machine, once: Instruction, count: int) -> None:
    """With DF = 1 the first store is the highest: all are the same value, so order is nothing."""
    port = _Addresses(machine, machine.registers.copy())
    plain = Plain(once, port)
    for op in once.ops:
        plain.execute(op)
    assert port.value is not None
    size = port.value.size() // 8
    lowest = _lowest(machine, once, port.target, (count - 1) * size)
    if isinstance(lowest, Pointer):
        raise machine.refuse(f"rep `{once}` while DF is 1, through a segment")
    _check_segment(machine, once, lowest, count * size, write=True)
    first = machine.linear(lowest, size, write=True)
    if machine.cpu.paging or machine.is_shared(first, count * size):
        raise machine.refuse(f"rep `{once}` while DF is 1, with paging on or to a shared word")
    machine.write_range(RangeWrite(first, size, port.value, count, size))
    machine.registers.write("rcx", 0, const(0, once.bits))
    moved = machine.registers.read("rdi", 0, once.bits // 8) - const(count * size, once.bits)
    machine.registers.write("rdi", 0, simplify(moved))


@dataclass
class _Addresses:
    """A port that tells where one iteration loads and stores, and what it stores."""

    machine: Machine
    registers: Registers
    source: z3.BitVecRef | Pointer | None = None
    target: z3.BitVecRef | Pointer | None = None
    size: int = 0
    value: z3.BitVecRef | None = None

    def load(self, address: z3.BitVecRef | Pointer, size: int) -> z3.BitVecRef:
        self.source, self.size = address, size
        return const(0, 8 * size)

    def store(self, address: z3.BitVecRef | Pointer, value: z3.BitVecRef) -> None:
        self.target, self.value = address, value

    def special(self, name: str) -> z3.BitVecRef:
        return self.machine.special(name)

    def pc_relative(self, offset: int, bits: int) -> z3.BitVecRef:
        return self.machine.pc_relative(offset, bits)

    def field(self, offset: int) -> z3.BitVecRef:
        return self.machine.field(offset)


def _copy(machine: Machine, once: Instruction, count: int, down: bool) -> None:
    port = _Addresses(machine, machine.registers.copy())
    plain = Plain(once, port)
    for op in once.ops:
        plain.execute(op)
    length = count * port.size
    below = length - port.size if down else 0
    sides = [
        (_lowest(machine, once, address, below), write)
        for address, write in ((port.source, False), (port.target, True))
    ]
    if length > MAX_BYTES:
        raise machine.refuse(f"rep `{once}` of more than {MAX_BYTES:#x} bytes")
    first = [machine.linear(address, port.size, write=write) for address, write in sides]
    for address, write in sides:
        _check_segment(machine, once, address, length, write=write)
    for linear, access in zip(first, (Kind.READ, Kind.WRITE), strict=True):
        machine.translate(linear, port.size, access)
    source, target = (
        _check_pages(machine, once, linear, length, access)
        for linear, access in zip(first, (Kind.READ, Kind.WRITE), strict=True)
    )
    there = Write(target, length, const(0, 8 * length))
    if machine.possible(overlap(there, source, length)):
        raise machine.refuse(f"rep `{once}` whose source and destination may overlap")
    normal = machine.environment.base.normal
    content = [
        machine.read_block(normal(simplify(source + at)), min(BLOCK, length - at))
        for at in range(0, length, BLOCK)
    ]
    for number_of_block, value in enumerate(content):
        machine.write_block(normal(simplify(target + number_of_block * BLOCK)), value)
    bytes_per_address = once.bits // 8
    machine.registers.write("rcx", 0, const(0, once.bits))
    for name in ("rsi", "rdi"):
        by = const(-length if down else length, once.bits)
        moved = machine.registers.read(name, 0, bytes_per_address) + by
        machine.registers.write(name, 0, simplify(moved))


def _lowest(
    machine: Machine, once: Instruction, address: z3.BitVecRef | Pointer | None, below: int
) -> z3.BitVecRef | Pointer:
    """Where a block begins whose last element lies at the address, `below` bytes further on."""
    assert address is not None
    if not below:
        return address
    if isinstance(address, Pointer):
        raise machine.refuse(f"rep `{once}` while DF is 1, through a segment")
    lowest = simplify(address - const(below, address.size()))
    if machine.possible(z3.ULT(address, below)):
        raise machine.refuse(f"rep `{once}` that may go below address 0")
    return lowest


def _check_segment(
    machine: Machine,
    once: Instruction,
    address: z3.BitVecRef | Pointer,
    length: int,
    *,
    write: bool,
) -> None:
    """The segment allows all of the block. A 16-bit offset does not wrap."""
    if machine.cpu.mode is Mode.LONG64:
        return
    if isinstance(address, Pointer):
        segments, offset = [machine.cpu.segments[address.segment.lower()]], address.offset
        wraps = z3.UGT(low(offset, 32), const(0x10000 - length, 32))
    else:  # all are flat; which one is used is not told
        segments = [machine.cpu.segments[name] for name in ("ds", "es", "ss")]
        offset, wraps = address, z3.BoolVal(False)
    faults = [access_faults(segment, low(offset, 32), length, write) for segment in segments]
    if machine.possible(z3.Or(wraps, *faults)):
        raise machine.refuse(f"rep `{once}` that may go beyond its segment")


def _check_pages(
    machine: Machine, once: Instruction, linear: z3.BitVecRef, length: int, access: Kind
) -> z3.BitVecRef:
    """Every page of the block is mapped to itself. Gives the address, maybe as a simpler term."""
    ends, path = machine.environment.ends, machine.cpu.path
    before, addresses = len(ends), []
    with suppress(PathOver):
        addresses = [
            machine.translate(simplify(linear + at), min(PAGE, length - at), access)
            for at in range(0, length, PAGE)
        ]
    if any(end.kind is not EndKind.UNPROMISED for end in ends[before:]):
        del ends[before:]
        machine.cpu.path = path
        raise machine.refuse(f"rep `{once}` that may fault on its way")
    if not addresses:
        raise PathOver
    return addresses[0]
