# SPDX-License-Identifier: GPL-2.0-only
"""General registers where 64-bit code is entered again, by each way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.run import EndKind, PathEnd
from harness.x86.terms import variables
from models.modes import GENERAL_REGISTERS
from tests.x86.small import only_end, run

FILLED = "\n".join(
    f"movabsq $0x11111111{n:08x}, %{name}" for n, name in enumerate(GENERAL_REGISTERS)
)
DOWN = """
    leaq 7f(%rip), %rax; movl %eax, far_pointer(%rip);
    {filled}
    ljmpl *far_pointer(%rip)
    .code32
7:  """
UP = """
    pushl $CODE64; leal OFF(8f)(%esi), %eax; pushl %eax; lret
    .code64
8:  hlt"""
"""Through the stack: ESI is the base again by then."""
BASE_AGAIN = "movl $0x8000, %esi; movl $0x8000 + OFF(stack_end), %esp\n"
PAGING_OFF = "movl %cr0, %eax; andl $~CR0_PG, %eax; movl %eax, %cr0\n"
PAGING_ON = "movl %cr0, %eax; orl $CR0_PG, %eax; movl %eax, %cr0\n"
THROUGH_COMPATIBILITY = DOWN.format(filled=FILLED) + BASE_AGAIN + UP
THROUGH_LEGACY = DOWN.format(filled=FILLED) + BASE_AGAIN + PAGING_OFF + PAGING_ON + UP
EXTENDED = GENERAL_REGISTERS[8:]
KEPT = ("rcx", "rdx", "rbx", "rbp", "rdi")
"""Registers that the 32-bit code does not write."""


def ended(code: str, tmp_path: Path, assume: str = "[]") -> PathEnd:
    end = only_end(run(tmp_path, code, 64, assume=assume))
    assert end.kind is EndKind.PARKED, end.detail
    return end


def symbol(term: z3.BitVecRef) -> str:
    """The name of the one symbol of a term, without its number."""
    (name,) = variables(term)
    return name.rpartition("_")[0]


@pytest.mark.parametrize("code", [THROUGH_COMPATIBILITY, THROUGH_LEGACY])
def test_upper_halves_of_the_legacy_registers_are_lost(code: str, tmp_path: Path) -> None:
    end = ended(code, tmp_path)
    for name in GENERAL_REGISTERS[:8]:
        value = end.state.registers[name]
        upper = z3.simplify(z3.Extract(63, 32, value))
        assert z3.is_const(upper) and symbol(upper) == f"{name}_upper_half"
        if name in KEPT:
            low = z3.simplify(z3.Extract(31, 0, value))
            assert low.as_long() == GENERAL_REGISTERS.index(name)


def test_r8_to_r15_cross_compatibility_mode(tmp_path: Path) -> None:
    registers = ended(THROUGH_COMPATIBILITY, tmp_path).state.registers
    for name in EXTENDED:
        assert registers[name].as_long() == 0x11111111 << 32 | GENERAL_REGISTERS.index(name)


def test_nothing_of_r8_to_r15_crosses_legacy_mode(tmp_path: Path) -> None:
    registers = ended(THROUGH_LEGACY, tmp_path).state.registers
    for name in EXTENDED:
        assert z3.is_const(registers[name]) and symbol(registers[name]) == f"{name}_undefined"


def test_compatibility_mode_after_legacy_mode_loses_no_more(tmp_path: Path) -> None:
    """64-bit, legacy, 64-bit, compatibility, 64-bit: R8 to R15 were lost on the first way only."""
    again = FILLED + THROUGH_COMPATIBILITY.replace("7", "5").replace("8f", "6f").replace("8:", "6:")
    code = THROUGH_LEGACY.removesuffix("hlt") + again
    registers = ended(code, tmp_path).state.registers
    assert all(z3.is_bv_value(registers[name]) for name in EXTENDED)


def test_the_first_way_keeps_lower_halves(tmp_path: Path) -> None:
    way = "TO_32BIT\nTO_64BIT_UPPER_HALVES_UNKNOWN"
    registers = only_end(run(tmp_path, "hlt", 64, way=way)).state.registers
    for name in EXTENDED:
        assert z3.simplify(z3.Extract(31, 0, registers[name])).as_long() == 0
        assert symbol(registers[name]) == f"{name}_upper_half"


def test_a_path_that_parts_does_not_forget_the_way(tmp_path: Path) -> None:
    """A branch between the loss and the entry: both parts of the path know of legacy mode."""
    parted = BASE_AGAIN + PAGING_OFF + "testb $1, OFF(scratch)(%esi); jz 4f; nop; 4:" + PAGING_ON
    result = run(tmp_path, DOWN.format(filled=FILLED) + parted + UP, 64)
    assert [end.kind for end in result.ends] == [EndKind.PARKED] * 2
    for end in result.ends:
        assert symbol(end.state.registers["r8"]) == "r8_undefined"


def test_the_assumption_of_zero_upper_halves_says_nothing_of_lower_ones(tmp_path: Path) -> None:
    end = ended(THROUGH_LEGACY, tmp_path, assume='["upper-halves-zero"]')
    for name in GENERAL_REGISTERS:
        value = end.state.registers[name]
        assert z3.simplify(z3.Extract(63, 32, value)).as_long() == 0
        assert bool(variables(value)) == (name in EXTENDED)
