# SPDX-License-Identifier: GPL-2.0-only
"""REP MOVS as one block, and what DF decides."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.prover import Prover
from harness.x86.run import EndKind, PathEnd
from tests.x86.emulated import assert_agree
from tests.x86.small import only_end, refusal, run
from tests.x86.values import Chosen, value_of

SEGMENTS = "movw %cs, %ax; movw %ax, %ds; movw %ax, %es; "
COPIES = {
    "bytes in 16-bit code": (
        16,
        SEGMENTS + "movw $3, %si; movw $OFF(area), %di; movw $77, %cx; rep movsb; hlt",
    ),
    "words in 16-bit code": (
        16,
        SEGMENTS + "movw $3, %si; movw $OFF(area), %di; movw $5, %cx; rep movsw; hlt",
    ),
    "double words in 16-bit code": (
        16,
        SEGMENTS + "movw $4, %si; movw $OFF(area), %di; movw $5, %cx; rep movsl; hlt",
    ),
    "from ES in 16-bit code": (
        16,
        SEGMENTS + "xorw %ax, %ax; movw %ax, %ds; movw $3, %si; movw $OFF(area), %di; "
        "movw $5, %cx; rep movsw %es:(%si), %es:(%di); hlt",
    ),
    "bytes in 32-bit code": (32, "leal OFF(area) + 1(%esi), %edi; movl $77, %ecx; rep movsb; hlt"),
    "words in 32-bit code": (32, "leal OFF(area)(%esi), %edi; movl $7, %ecx; rep movsw; hlt"),
    "double words": (
        32,
        "leal OFF(area)(%esi), %edi; movl $9, %ecx; rep movsl; hlt",
    ),
    "none": (32, "leal OFF(area)(%esi), %edi; xorl %ecx, %ecx; rep movsl; hlt"),
    "one": (32, "leal OFF(area)(%esi), %edi; movl $1, %ecx; rep movsl; hlt"),
    "bytes in 64-bit code": (64, "leaq OFF(area)(%rsi), %rdi; movl $77, %ecx; rep movsb; hlt"),
    "quad words in 64-bit code": (
        64,
        "leaq OFF(area)(%rsi), %rdi; movl $9, %ecx; rep movsq; hlt",
    ),
    "what was written before": (
        32,
        "movl $0x12345678, OFF(area)(%esi); movw $0x9abc, OFF(area) + 6(%esi); "
        "leal OFF(area)(%esi), %esi; leal 0x100(%esi), %edi; movl $9, %ecx; rep movsb; hlt",
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_does_what_the_emulated_cpu_does(name: str, tmp_path: Path) -> None:
    bits, code = COPIES[name]
    assert_agree(only_end(run(tmp_path, code, bits)), tmp_path, code, bits)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_copy_is_one_load_and_one_store(bits: int, tmp_path: Path) -> None:
    _, code = COPIES[f"bytes in {bits}-bit code"]
    end = only_end(run(tmp_path, code, bits, base=None))
    load, store = end.accesses[-2:]
    assert (load.kind, load.size, store.kind, store.size) == ("load", 77, "store", 77)
    values = Chosen(sipi_vector=9)
    assert value_of(load.linear, values) == 0x9000
    assert value_of(store.linear, values) == 0xA000 + (bits == 32)
    assert value_of(load.value, values) == value_of(store.value, values)


def test_a_copy_goes_to_the_code_at_every_base(tmp_path: Path) -> None:
    code = "leaq OFF(area)(%rsi), %rdi; movl $16, %ecx; rep movsb; movq OFF(area)(%rax), %rbx; hlt"
    code = code.replace("%rax", "%rsi, %rcx").replace("(%rsi, %rcx)", " - 16(%rsi, %rcx)")
    end = only_end(run(tmp_path, code, 64, base=None))
    first = end.memory.image.data[:8]
    assert value_of(end.state.registers["rbx"], Chosen()) == int.from_bytes(first, "little")


def test_all_64_bits_of_the_registers_move(tmp_path: Path) -> None:
    code = "leaq OFF(area)(%rsi), %rdi; movl $5, %ecx; rep movsb; hlt"
    registers = only_end(run(tmp_path, code, 64, base=None)).state.registers
    assert value_of(registers["rsi"], Chosen(sipi_vector=9)) == 0x9005
    assert value_of(registers["rdi"], Chosen(sipi_vector=9)) == 0xA005
    assert value_of(registers["rcx"], Chosen()) == 0


def test_a_16_bit_copy_leaves_the_upper_halves_of_its_registers(tmp_path: Path) -> None:
    code = SEGMENTS + "movl $0xabcd0003, %esi; movl $0xabcd1000, %edi; movl $0xabcd0004, %ecx; "
    registers = only_end(run(tmp_path, code + "rep movsb; hlt", 16)).state.registers
    found = [value_of(registers[name], Chosen()) & 0xFFFF_FFFF for name in ("rsi", "rdi", "rcx")]
    assert found == [0xABCD_0007, 0xABCD_1004, 0xABCD_0000]


@pytest.mark.parametrize(
    ("bits", "code", "reason"),
    [
        (32, "leal 4(%esi), %edi; movl $5, %ecx; rep movsb", "may overlap"),
        (32, "movl %esi, %edi; movl $5, %ecx; rep movsb", "may overlap"),
        (32, "leal 5(%esi), %edi; xchgl %esi, %edi; movl $6, %ecx; rep movsb", "may overlap"),
        (32, "movl OFF(scratch)(%esi), %edi; movl $5, %ecx; rep movsb", "segment"),
        (32, "movl OFF(scratch)(%esi), %ecx; rep movsb", "count that is not constant"),
        (32, "movl $0x10001, %ecx; movl $0x200000, %edi; rep movsb", "more than 0x10000 bytes"),
        (32, "std; movl $5, %ecx; movl $2, %esi; rep movsb", "below address 0"),
        (16, SEGMENTS + "std; movw $5, %cx; rep movsb", "while DF is 1, through a segment"),
        (32, "repnz movsb", "further prefix"),
        (32, "movl $5, %ecx; repe cmpsb", "cmpsb.repe"),
        (32, "movl $5, %ecx; addr16 rep movsb", "further prefix"),
        (64, "movl $5, %ecx; addr32 rep movsb", "32-bit address"),
        (32, "movl $0x200000, %edi; movl $0x500, %ecx; rep movsb", "part of a shared word"),
        (16, SEGMENTS + "movw $5, %cx; rep movsw %cs:(%si), %es:(%di)", "register CS"),
        (16, SEGMENTS + "movw $0xfff0, %si; movw $17, %cx; rep movsb", "beyond its segment"),
        (64, "movl $0x1fff00, %edi; movl $0x200, %ecx; rep movsb", "may fault on its way"),
        (64, "movl $0x1ff000, %edi; movl $0x1001, %ecx; rep movsb", "may fault on its way"),
    ],
)  # fmt: skip
def test_what_is_no_plain_copy_is_refused(
    bits: int, code: str, reason: str, tmp_path: Path
) -> None:
    ends = run(tmp_path, f"{code}; hlt", bits).ends
    assert ends[-1].kind is EndKind.UNSUPPORTED
    assert reason in ends[-1].detail


@pytest.mark.parametrize(
    ("code", "parked"),
    [
        ("leal 5(%esi), %edi; movl $5, %ecx; rep movsb", True),
        ("leal 5(%esi), %edi; xchgl %esi, %edi; movl $5, %ecx; rep movsb", True),
        ("movl $0x300000, %esi; movl $0x200000, %edi; movl $0x1000, %ecx; rep movsb", True),
        ("addl $0x500, %esi; movl $0x200000, %edi; movl $0x2000, %ecx; rep movsb", True),
        ("movl $0x7fffffff, %edi; addl %edi, %edi; movl $2, %ecx; rep movsb", True),
        ("movl $0x7fffffff, %edi; addl %edi, %edi; movl $3, %ecx; rep movsb", False),
    ],
)
def test_limits_of_a_copy(code: str, parked: bool, tmp_path: Path) -> None:
    end = only_end(run(tmp_path, f"{code}; hlt", 32))
    assert (end.kind is EndKind.PARKED) == parked, end.detail


def test_the_first_element_that_faults_is_a_shutdown(tmp_path: Path) -> None:
    code = "movl $0x400000, %edi; movl $5, %ecx; rep movsb; hlt"
    end = only_end(run(tmp_path, code, 64))
    assert (end.kind, end.detail[:12]) == (EndKind.SHUTDOWN, "#PF: write a")
    assert all(access.size < 9 for access in end.accesses)


def test_several_pages_are_copied_where_all_are_mapped(tmp_path: Path) -> None:
    code = """movl $0x5a, OFF(area) + 0x1ffc(%rsi); leaq OFF(area)(%rsi), %rsi; movl $0x110001, %edi
        movl $0x2000, %ecx; rep movsb; hlt"""
    end = only_end(run(tmp_path, code, 64))
    assert end.kind is EndKind.PARKED, end.detail
    assert z3.simplify(end.memory.read(z3.BitVecVal(0x111FFD, 64), 4)).as_long() == 0x5A


def both_ways(code: str, tmp_path: Path) -> tuple[PathEnd, PathEnd]:
    """The end with DF = 0 and the one with DF = 1, which together are all inputs."""
    result = run(tmp_path, code, 32, any_registers=True)
    df = z3.BitVec("rflags_at_entry", 64) & 1 << 10 != 0
    prover = Prover(result.hypotheses)
    assert len(result.ends) == 2
    assert prover.holds((), z3.Or(*(end.condition for end in result.ends)))
    (down,) = [end for end in result.ends if prover.holds(end.path, df)]
    (up,) = [end for end in result.ends if prover.holds(end.path, z3.Not(df))]
    return up, down


@pytest.mark.parametrize("string", ["movsb", "stosb"])
def test_a_direction_that_is_not_known_parts_the_path(string: str, tmp_path: Path) -> None:
    code = f"leal OFF(area)(%esi), %edi; movl $5, %ecx; movb $1, %al; rep {string}; hlt"
    up, down = both_ways(code, tmp_path)
    assert up.kind is EndKind.PARKED
    assert value_of(up.state.registers["rdi"], Chosen()) & 0xFFFF == 0x9005
    assert value_of(down.state.registers["rdi"], Chosen()) & 0xFFFF == 0x8FFB


def test_an_instruction_that_parts_the_path_is_executed_once_on_each(tmp_path: Path) -> None:
    code = "leal OFF(area)(%esi), %edi; movl $1, %ecx; rep stosb; nop; hlt"
    up, down = both_ways(code, tmp_path)
    assert up.kind is down.kind is EndKind.PARKED
    assert up.trace == down.trace and len(set(up.trace)) == len(up.trace)
    assert len(up.history) == len(up.trace)
    moved = [value_of(end.state.registers["rdi"], Chosen()) & 0xFFFF for end in (up, down)]
    assert moved == [0x9001, 0x8FFF]


def test_a_refused_copy_says_where(tmp_path: Path) -> None:
    assert refusal(run(tmp_path, "movl $5, %ecx; std; rep movsb", 32)).startswith("at image offset")
