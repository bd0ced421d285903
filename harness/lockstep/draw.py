# SPDX-License-Identifier: GPL-2.0-only
"""Random states for an instruction: such that it mostly works on memory that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from harness.lockstep.forms import FAR_JUMP, Form, Template
from harness.lockstep.state import (
    BASE,
    CODE,
    GDT,
    GDT_ENTRIES,
    SIZE,
    TABLES,
    Fields,
    State,
    control,
    descriptor,
    fields,
)
from harness.x86.lift import lift
from models.modes import (
    ARITHMETIC_AND_DIRECTION,
    CR0_DEFINED,
    CR4_LA57,
    CR4_MODELLED,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    GENERAL_REGISTERS,
    IA32_EFER,
    RFLAGS_IF,
    Mode,
)

PER_VARIANT = 20
"""States, at most, that share an instruction's bytes and memory: only their registers differ."""
VARIANTS = 8
"""Of those, at least."""
PLACES = (range(0x100, CODE - 0x200), range(CODE + 0x1000, GDT - 0x200))
"""Where operands lie; not in the instruction's own page: an emulator begins one anew that writes
there."""
LEAVES = (0, 1, 7, 0x8000_0000, 0x8000_0001, 0x8000_0008, 2, 0x20)
CODE_RIGHTS, DATA_RIGHTS = (0x9A, 0x9B, 0x9E, 0x9F, 0x98), (0x92, 0x93, 0x90, 0x96, 0x97)
"""Present, DPL 0; some readable, writable, conforming, expand-down, accessed. SDM 3A 3.4.5.1."""
DATA_SEGMENTS = ("ds", "es", "ss", "fs", "gs")
DRAWN_FLAGS = ARITHMETIC_AND_DIRECTION | RFLAGS_IF
STACK = ("PUSH", "POP", "CALL", "RET", "RETF")
FLAT = 0xFFFFF


def corner_or_random(random: Random, bits: int) -> int:
    """A number of so many bits: often 0, all ones, or at the sign's border."""
    corners = (0, 1, (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1)
    return random.choice((*corners, *(random.getrandbits(bits) for _ in range(5))))


def states(form: Form, number: int, random: Random) -> Iterator[State]:
    """So many states for instructions of this form."""
    each = max(1, min(PER_VARIANT, number // VARIANTS))
    for first in range(0, number, each):
        template = random.choice(form.templates)
        variant = _Variant(form, template, random)
        for _ in range(min(each, number - first)):
            yield variant.state()


@dataclass
class _Variant:
    """Bytes and memory, from which states are drawn."""

    form: Form
    template: Template
    random: Random

    def __post_init__(self) -> None:
        random, mode = self.random, self.form.mode
        self.instruction = lift(self.template.code, CODE, mode.bits)
        self.name = self.instruction.mnemonic.partition(".")[0]
        self.target, self.source = self._place(), self._place()
        self.segments = self._segments()
        memory = bytearray(SIZE)
        for part in PLACES:
            memory[part.start : part.stop] = random.randbytes(len(part))
        table = [bytes(8), *(self._descriptor() for _ in range(GDT_ENTRIES - 1))]
        memory[GDT : GDT + 8 * GDT_ENTRIES] = b"".join(table)
        self.displacement = 0
        code = self._code()
        memory[CODE : CODE + 32] = code + b"\x90" * (32 - len(code))
        self._fill(memory)
        self.memory = bytes(memory)

    def state(self) -> State:
        """One more state."""
        random, mode = self.random, self.form.mode
        width = 64 if mode is Mode.LONG64 else 32
        registers = {name: corner_or_random(random, width) for name in GENERAL_REGISTERS}
        flags = random.choice((0, random.getrandbits(12))) & DRAWN_FLAGS
        cr0, cr3, cr4, efer = control(mode)
        state = State(mode, self.memory, registers, flags | 2, self.segments, cr0, cr3, cr4, efer)
        if mode is not Mode.REAL16 and random.random() < 0.3:
            more = random.choice((0, EFER_NXE, EFER_SCE)) if state.efer else 0
            state = replace(state, efer=state.efer | more)
        self._aim(registers)
        self._special(registers, state)
        return state

    def _place(self) -> int:
        part = self.random.choice(PLACES)
        at = self.random.randrange(part.start, part.stop - 0x100)
        return BASE + (at & -16 if self.random.random() < 0.5 else at)

    def _segments(self) -> dict[str, Fields]:
        random, mode = self.random, self.form.mode
        if mode in (Mode.REAL16, Mode.PROTECTED16):  # in the latter as real mode has left them
            bases = {name: BASE + 16 * random.randrange(0x10) for name in ("ds", "es", "ss")}
            real = {"limit": 0xFFFF, "type": 3, "s": 1, "dpl": 0, "present": 1, "long": 0, "big": 0}
            return {
                name: {**real, "selector": base >> 4, "base": base}
                for name, base in {"cs": BASE, "fs": 0, "gs": BASE, **bases}.items()
            }
        if mode is Mode.COMPATIBILITY16:
            return {"cs": fields(0x8, descriptor(BASE, 0xFFFF, 0x9B))} | {
                name: fields(
                    8 * number, descriptor(BASE + 16 * random.randrange(0x10), 0xFFFF, 0x93)
                )
                for number, name in enumerate(DATA_SEGMENTS, start=2)
            }
        long, big = int(mode is Mode.LONG64), int(mode.bits == 32)
        code = descriptor(0, FLAT, 0x9B, long=long, big=big, pages=1)
        data = descriptor(0, FLAT, 0x93, big=1, pages=1)
        return {"cs": fields(0x8, code)} | {name: fields(0x10, data) for name in DATA_SEGMENTS}

    def _descriptor(self) -> bytes:
        random = self.random
        if random.random() < 0.1:
            return random.randbytes(8)
        rights = random.choice((*CODE_RIGHTS, *DATA_RIGHTS))
        if random.random() < 0.15:
            rights = rights & ~0x60 | random.choice((0x20, 0x40, 0x60)) | 0x80
        if random.random() < 0.1:
            rights ^= 0x80
        code = rights & 8
        long = int(bool(code) and random.random() < 0.4)
        big = random.randrange(2) if random.random() < 0.3 else 1 - long
        flat = bool(code) or random.random() < 0.5
        base = 0 if flat else random.getrandbits(32)
        limit = FLAT if flat else random.getrandbits(20)
        return descriptor(base, limit, rights, long=long, big=big, pages=random.randrange(2) | flat)

    def _code(self) -> bytes:
        """The instruction with other values in it."""
        random, template, bits = self.random, self.template, self.form.mode.bits
        code = bytearray(template.code)

        def put(part: range, value: int) -> None:
            size = len(part)
            code[part.start : part.stop] = (value % (1 << 8 * size)).to_bytes(size, "little")

        if template.branches:
            to = random.choice((random.randrange(0x100), self.target - BASE - CODE))
            put(template.immediate, (to - len(code)) if len(template.immediate) > 1 else to)
        elif template.immediate:
            put(template.immediate, corner_or_random(random, 8 * len(template.immediate)))
        if bits != 64 and self.instruction.far is not None:
            opcode = code.index(FAR_JUMP)
            width = self.instruction.operand_bytes
            offset = self._far_place()
            put(range(opcode + 1, opcode + 1 + width), offset)
            put(range(len(code) - 2, len(code)), self._selector())
        operand = template.operand
        if operand is not None and template.displacement:
            self.displacement = random.choice((0, 8, random.randrange(0x70)))
            if operand.relative:
                self.displacement = self.target - BASE - CODE - len(code)
            elif not operand.base and not operand.index:
                self.displacement = self.target - self._base(operand.segment)
            if len(template.displacement) == 4 and operand.base:
                self.displacement = corner_or_random(random, 31)
            put(template.displacement, self.displacement)
        return bytes(code)

    def _base(self, segment: str) -> int:
        return 0 if self.form.mode is Mode.LONG64 else self.segments[segment]["base"]

    def _selector(self) -> int:
        random = self.random
        if self.form.mode is Mode.REAL16:
            return random.choice((BASE >> 4, (BASE >> 4) + random.randrange(0x10)))
        rest = random.choice((0, 0, 0, 0, 0, 0, random.randrange(8)))
        return 8 * random.randrange(GDT_ENTRIES + 2) + rest if random.random() < 0.95 else rest & 3

    def _fill(self, memory: bytearray) -> None:
        """What pointers in memory lead to: far and near ones, and those to tables."""
        random, at = self.random, self.target - BASE
        width = self.instruction.operand_bytes
        place = self._far_place()
        content = b""
        if self.name == "JMPF":
            content = place.to_bytes(8, "little")[:width] + self._selector().to_bytes(2, "little")
        elif self.name == "RETF":
            content = place.to_bytes(8, "little")[:width] + self._selector().to_bytes(
                width, "little"
            )
        elif self.name in ("RET", "JMP", "CALL"):
            content = place.to_bytes(8, "little")
        elif self.name in ("LGDT", "LIDT") and random.random() < 0.5:
            content = random.getrandbits(16).to_bytes(2, "little") + place.to_bytes(8, "little")
        memory[at : at + len(content)] = content

    def _far_place(self) -> int:
        """An offset of the memory in the segment that a far transfer leads to."""
        if self.form.mode is Mode.REAL16:
            return self._place() - BASE
        low = BASE + self.random.randrange(PLACES[0].start, PLACES[0].stop)
        return self.random.choice((low, self._place()))

    def _aim(self, registers: dict[str, int]) -> None:
        """Registers that make up addresses lead to the target."""
        random, mode = self.random, self.form.mode
        operand, bits = self.template.operand, mode.bits
        if self.name in STACK:
            registers["rsp"] = self._lower("rsp", registers, self.target - self._base("ss"))
        if self.name[:4] in ("STOS", "MOVS") and "X" not in self.name:
            registers["rdi"] = self._lower("rdi", registers, self.target - self._base("es"))
            if self.name.startswith("MOVS"):
                registers["rsi"] = self._lower("rsi", registers, self.source - self._base("ds"))
            if self.form.repeats:
                registers["rcx"] = self._lower(
                    "rcx", registers, random.choice((0, 1, 1, 1, 2, 7, 33))
                )
            return
        if operand is None:
            return
        address = self.target - self._base(operand.segment) - self.displacement
        if operand.index:
            if not operand.base:
                return
            index = random.choice((0, 1, 5, registers[operand.index])) % (1 << bits)
            registers[operand.index] = self._lower(operand.index, registers, index)
            address -= index * operand.scale
        if operand.base and operand.base != operand.index:
            registers[operand.base] = self._lower(operand.base, registers, address)

    def _lower(self, name: str, registers: dict[str, int], value: int) -> int:
        """A register with this value in as many bits as addresses have."""
        mask = (1 << self.form.mode.bits) - 1
        return registers[name] & ~mask | value & mask

    def _special(self, registers: dict[str, int], state: State) -> None:
        """What special registers may be loaded with, and where indirect jumps lead."""
        random, name = self.random, self.name
        output = self.instruction.ops[-1].output if self.instruction.ops else None
        written = output.name if output is not None and name == "MOV" else ""
        if name == "CPUID":
            registers["rax"] = random.choice(LEAVES)
            registers["rcx"] = random.choice((0, 0, 1))
        if name.startswith("BT") and self.template.operand and random.random() < 0.8:
            index = random.randrange(8 * self.instruction.operand_bytes)
            registers["rcx"] = registers["rcx"] & ~0xFFFF_FFFF_FFFF_FFFF | index
        if name in ("RDMSR", "WRMSR"):
            registers["rcx"] = IA32_EFER
            flags = EFER_SCE | EFER_LME | EFER_NXE | EFER_LMA
            value = state.efer ^ random.choice((0, random.getrandbits(16) & flags))
            value = random.choice((value, value, value, random.getrandbits(64)))
            registers["rax"], registers["rdx"] = value & 0xFFFF_FFFF, value >> 32
        if written in ("DS", "ES", "SS", "FS", "GS"):
            value = random.getrandbits(16) if self.form.mode is Mode.REAL16 else self._selector()
            for one in GENERAL_REGISTERS[:8]:
                registers[one] = registers[one] & ~0xFFFF | value
        if written in ("CR0", "CR3", "CR4"):
            for one in GENERAL_REGISTERS:
                registers[one] = self._control(written, state)
        if name in ("JMP", "CALL") and self.template.operand is None and not self.template.branches:
            for one in GENERAL_REGISTERS:
                if one != "rsp" and random.random() < 0.7:
                    registers[one] = self.target

    def _control(self, name: str, state: State) -> int:
        random = self.random
        if random.random() < 0.05:
            return random.getrandbits(64 if self.form.mode is Mode.LONG64 else 32)
        if name == "CR0":
            return state.cr0 ^ (random.getrandbits(32) & random.getrandbits(32) & CR0_DEFINED)
        if name == "CR3":
            return random.choice((TABLES, random.getrandbits(20) << 12)) | random.getrandbits(12)
        value = random.getrandbits(17) & CR4_MODELLED & ~CR4_LA57
        value |= random.choice((CR4_PAE, CR4_PAE, CR4_PAE, 0))
        return value ^ random.choice((0, 0, 0, CR4_LA57))
