# SPDX-License-Identifier: GPL-2.0-only
"""Plain instructions do to registers, flags and memory what an emulated CPU (unicorn) does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
import unicorn
import z3
from unicorn import x86_const

from harness.lockstep.assembled import assembled
from harness.x86.lift import Instruction, lift
from harness.x86.pcode import PLAIN, UNDEFINED, Jump, Plain, Pointer
from harness.x86.registers import FLAGS, GENERAL, Registers, force
from harness.x86.system import handler
from harness.x86.terms import const
from models.modes import Mode
from tests.x86.conftest import Execute
from tests.x86.values import corner_or_random

RAM = 1 << 20
CODE = 0xF000  # below 64 KiB, where 16-bit code must be
DATA = range(0x2000, 0x8000)  # what registers that serve as addresses hold
UC_MODE = {16: unicorn.UC_MODE_16, 32: unicorn.UC_MODE_32, 64: unicorn.UC_MODE_64}
COMPARED = {name: bit for name, bit in FLAGS.items() if name not in ("AF", "TF", "IF")}
STATES = 6

ANY_SIZE = """\
adc {a}, {b}; add {a}, {b}; and {a}, {b}; cmp {a}, {b}; or {a}, {b}; sbb {a}, {b}; sub {a}, {b}
test {a}, {b}; xor {a}, {b}; xchg {a}, {b}; mov {a}, {b}; dec {b}; inc {b}; neg {b}; not {b}
sal $1, {b}; shr $1, {b}; sar $1, {b}; sal $5, {b}; shr $5, {b}; sar $5, {b}
sal %cl, {b}; shr %cl, {b}; sar %cl, {b}; add $0x7f, {b}; sub $-3, {b}; cmp $5, {b}"""
WORD_OR_MORE = """\
imul {a}, {b}; imul $-5, {a}, {b}; bt {a}, {b}; bts {a}, {b}; btr {a}, {b}; btc {a}, {b}
cmovz {a}, {b}; cmovl {a}, {b}; cmovnbe {a}, {b}"""
DOUBLE_WORD_OR_MORE = "shld $3, {a}, {b}; shrd $3, {a}, {b}"
CONDITIONS = "o no b nb z nz be nbe s ns p np l nl le nle".split()


def forms(bits: int) -> list[str]:
    """One instruction for each mnemonic and operand size that the machine executes as plain."""
    registers = {8: ("%dl", "%bh"), 16: ("%dx", "%bx"), 32: ("%edx", "%ebx"), 64: ("%r9", "%rbx")}
    found: list[str] = []
    for size, (a, b) in registers.items():
        if size > max(bits, 32):
            continue
        text = ANY_SIZE if size == 8 else f"{ANY_SIZE}; {WORD_OR_MORE}"
        text = text if size < 32 else f"{text}; {DOUBLE_WORD_OR_MORE}"
        found += [part.strip() for part in text.format(a=a, b=b).replace("\n", ";").split(";")]
    found += [f"set{condition} %dl" for condition in CONDITIONS]
    found += [f"j{condition} . + 9" for condition in CONDITIONS]
    found += ["clc", "stc", "cmc", "cld", "std", "jmp . + 7", "call . + 7"]
    found += ["movzbl %bh, %edx", "movsbl %dl, %ebx", "movswl %dx, %ebx", "movzwl %dx, %ebx"]
    found += ["cbtw", "cwtl", "cwtd", "cltd", "stosb", "stosw", "stosl"]
    memory = {16: "6(%bx)", 32: "6(%ebx, %edx, 4)", 64: "6(%rbx, %r9, 4)"}[bits]
    found += [
        text.format(memory)
        for text in (
            *("addl $5, {}", "movw %cx, {}", "movb {}, %cl", "movl {}, %ecx", "incw {}"),
            *("sarl $3, {}", "cmpl {}, %eax", "orb $1, {}", "negl {}", "setz {}"),
        )
    ]
    if bits == 64:
        found += ["movslq %edx, %rbx", "cltq", "cqto", "stosq", "movabs $0x123456789abcdef0, %rbx"]
        found += ["movabs %al, 0x2345", "movabs 0x2345, %rax"]
        found += [f"pushq {memory}", "pushq $-5", "pushq %r9", "popq %rbx", "ret", "jmp *%rdx"]
        found += [
            "leaq 5(%rip), %rbx",
            *("movb 5(%rip), %cl", "movw 5(%rip), %cx", "movl 5(%rip), %ebx", "movq 5(%rip), %rbx"),
            *("movzbl 5(%rip), %ecx", "movswl 5(%rip), %ecx", "testb $1, 0x25(%rip)"),
            *("movb %cl, -0x80(%rip)", "movw %cx, 0x25(%rip)", "movb $7, 0x25(%rip)"),
            *("movw $0x1234, 0x25(%rip)", "addb %cl, 0x25(%rip)", "incw 0x25(%rip)"),
            *("cmpw $5, -0x80(%rip)", "setz 0x25(%rip)"),
            "call *%rdx",
            "pushw %dx",
            "xorl %edx, %edx",
        ]
    else:
        found += ["pushl $-5", "pushw %dx", "popl %ebx", "popw %bx", "pushl %esp"]
    if bits == 32:
        found += ["ret", "jmp *%edx", "call *%edx"]
    return found


@dataclass
class Ram:
    """The port of `Plain` over constant memory; every address has its own content at first."""

    registers: Registers
    written: dict[int, int] = field(default_factory=dict)

    @staticmethod
    def initial(address: int) -> int:
        return address * 167 + (address >> 8) & 0xFF

    @staticmethod
    def _number(address: z3.BitVecRef | Pointer) -> int:
        term = address.offset if isinstance(address, Pointer) else address
        number: int = z3.simplify(term).as_long()
        return number

    def load(self, address: z3.BitVecRef | Pointer, size: int) -> z3.BitVecRef:
        first = self._number(address)
        content = [self.written.get(a, self.initial(a)) for a in range(first, first + size)]
        return const(int.from_bytes(content, "little"), 8 * size)

    def store(self, address: z3.BitVecRef | Pointer, value: z3.BitVecRef) -> None:
        first, size = self._number(address), value.size() // 8
        content = z3.simplify(value).as_long().to_bytes(size, "little")
        self.written |= dict(enumerate(content, first))

    def special(self, name: str) -> z3.BitVecRef:
        return const(0, 16)  # selectors

    def pc_relative(self, offset: int, bits: int) -> z3.BitVecRef:
        return const(offset, bits)

    def field(self, offset: int) -> z3.BitVecRef:
        raise AssertionError("no instruction here has a field")


class Emulated:
    """Unicorn in one mode, all segments at 0."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.machine = unicorn.Uc(unicorn.UC_ARCH_X86, UC_MODE[bits])
        self.machine.mem_map(0, RAM)
        self.machine.mem_write(0, bytes(Ram.initial(a) for a in range(RAM)))
        self.written: set[int] = set()
        self.machine.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._on_write)

    def _on_write(self, _: object, kind: int, address: int, size: int, *rest: object) -> None:
        self.written |= set(range(address, address + size))

    def register(self, name: str) -> int | None:
        if self.bits != 64:
            name = "" if name[1:].isdigit() or name in ("r8", "r9") else "e" + name[1:]
        number: int | None = getattr(x86_const, f"UC_X86_REG_{name.upper()}", None)
        return number

    def run(
        self, code: bytes, registers: dict[str, int], flags: dict[str, int]
    ) -> tuple[dict[str, int], dict[str, int], dict[int, int], int]:
        """Registers, flags, written bytes and IP after one instruction."""
        self.written.clear()
        self.machine.mem_write(CODE, code)
        self.machine.ctl_remove_cache(CODE, CODE + 16)
        for name, value in registers.items():
            if (number := self.register(name)) is not None:
                self.machine.reg_write(number, value)
        eflags = 2 | sum(value << COMPARED[name] for name, value in flags.items())
        self.machine.reg_write(x86_const.UC_X86_REG_EFLAGS, eflags)
        try:
            self.machine.emu_start(CODE, 0, count=1)
        except unicorn.UcError as error:  # a jump to where there is no RAM
            assert error.errno == unicorn.UC_ERR_FETCH_UNMAPPED
        eflags = self.machine.reg_read(x86_const.UC_X86_REG_EFLAGS)
        written = {a: self.machine.mem_read(a, 1)[0] for a in self.written}
        for address in self.written:
            self.machine.mem_write(address, bytes([Ram.initial(address)]))
        self.machine.mem_write(CODE, bytes(Ram.initial(CODE + i) for i in range(len(code))))
        return (
            {
                name: self.machine.reg_read(number)
                for name in registers
                if (number := self.register(name)) is not None
            },
            {name: eflags >> bit & 1 for name, bit in COMPARED.items()},
            written,
            self.machine.reg_read(
                x86_const.UC_X86_REG_RIP if self.bits == 64 else x86_const.UC_X86_REG_EIP
            ),
        )


def _states(instruction: Instruction, random: Random) -> Iterator[dict[str, int]]:
    memory = any(op.opcode.name in ("LOAD", "STORE") for op in instruction.ops)
    indirect = any(op.opcode.name.endswith("IND") for op in instruction.ops)
    width = 64 if instruction.bits == 64 else 32
    for _ in range(STATES):
        values = {name: corner_or_random(random, width) for name in GENERAL}
        if memory or indirect:
            values |= {name: random.choice(DATA) for name in GENERAL}
            values |= {name: corner_or_random(random, width) for name in ("rax", "rcx")}
        yield values


def assert_same(emulated: Emulated, code: bytes, random: Random) -> None:
    """The instruction does the same in both, from random states."""
    bits = emulated.bits
    instruction = lift(code, CODE, bits)
    undefined = UNDEFINED.get(instruction.mnemonic, ())
    shown = f"{bits}-bit `{instruction}`"
    for values in _states(instruction, random):
        flags = {name: random.getrandbits(1) for name in COMPARED}
        zero = dict.fromkeys(FLAGS, const(0, 8))
        registers = Registers(
            {name: const(value) for name, value in values.items()},
            zero | {name: const(value, 8) for name, value in flags.items()},
        )
        ram = Ram(registers)
        # Code bytes are memory too: the emulated CPU sees them at CODE.
        ram.written |= dict(enumerate(code, CODE))
        jump = Plain(instruction, ram).run()
        written = {a: b for a, b in ram.written.items() if not CODE <= a < CODE + len(code)}
        unchanged = dict(enumerate(code, CODE)).items()
        if any(address >> 12 == CODE >> 12 for address, _ in ram.written.items() - unchanged):
            continue  # unicorn begins an instruction anew that writes to its own page
        seen_registers, seen_flags, seen_written, seen_ip = emulated.run(code, values, flags)
        context = f"{shown} from {values} {flags}"
        got = {n: z3.simplify(registers.values[n]).as_long() for n in seen_registers}
        mask = (1 << (64 if bits == 64 else 32)) - 1
        assert {n: v & mask for n, v in got.items()} == seen_registers, context
        for name in COMPARED.keys() - set(undefined):
            ours = z3.simplify(force(registers.flags[name])).as_long()
            assert ours == seen_flags[name], f"{name} after {context}"
        assert written == seen_written, context
        assert _next(instruction, jump) == seen_ip, context


def _next(instruction: Instruction, jump: Jump | None) -> int:
    if jump is None:
        return instruction.end
    if jump.condition is not None and z3.simplify(jump.condition).as_long() == 0:
        return instruction.end
    if isinstance(jump.target, int):
        return jump.target
    target: int = z3.simplify(jump.target).as_long()
    return target


@pytest.fixture(scope="module")
def emulated() -> dict[int, Emulated]:
    return {bits: Emulated(bits) for bits in UC_MODE}


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_each_plain_form_does_what_the_cpu_does(bits: int, emulated: dict[int, Emulated]) -> None:
    random = Random(bits)
    for code in assembled(bits, *forms(bits)):
        assert_same(emulated[bits], code, random)


def test_every_plain_mnemonic_is_compared() -> None:
    compared = {
        lift(code, CODE, bits).mnemonic
        for bits in UC_MODE
        for code in assembled(bits, *forms(bits))
    }
    conditions = ("J", "SET", "CMOV")  # all conditions share their p-code with SETcc
    missing = {name for name in PLAIN - compared if not name.startswith(conditions)}
    assert missing <= {"CLI"}  # unicorn's IF is not compared


@pytest.mark.parametrize("name", ["multikernel", "multikernel_rfc"])
def test_plain_instructions_of_shipped_images_do_what_the_cpu_does(
    name: str, shipped: Execute, emulated: dict[int, Emulated]
) -> None:
    image, run = shipped(name)
    executed = {(at, Mode[mode].bits) for end in run.ends for at, mode in end.trace}
    codes = set()
    for offset, bits in executed:
        instruction = lift(image.data[offset : offset + 15], offset, bits)
        special = handler(instruction) is not None or ".REP" in instruction.mnemonic
        if not special and instruction.mnemonic != "CLI" and "CR" not in instruction.operands:
            codes.add((bits, image.data[offset : instruction.end]))
    assert len(codes) > 30
    random = Random(name)
    for bits, code in sorted(codes):
        assert_same(emulated[bits], code, random)
