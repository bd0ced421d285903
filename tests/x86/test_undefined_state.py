# SPDX-License-Identifier: GPL-2.0-only
"""State that nobody may rely on: registers found at entry, upper halves after a mode switch."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.prover import Prover
from harness.x86.run import EndKind, PathEnd, Run
from harness.x86.terms import variables
from tests.x86.small import BASE, only_end, run

UPPER = "TO_32BIT\nTO_64BIT_UPPER_HALVES_UNKNOWN"
FILL = "leal OFF(area)(%esi), %edi; xorl %eax, %eax; movl $64, %ecx; "


def register(end: PathEnd, name: str) -> z3.BitVecRef:
    return z3.simplify(end.state.registers[name])


# --- registers and flags at entry


def test_a_fill_relies_on_the_direction_flag_that_init_clears(tmp_path: Path) -> None:
    assert only_end(run(tmp_path, f"{FILL} rep stosl; hlt", 32)).kind is EndKind.PARKED


def test_from_any_registers_a_fill_without_cld_goes_either_way(tmp_path: Path) -> None:
    result = run(tmp_path, f"{FILL} rep stosl; hlt", 32, any_registers=True)
    one, other = result.ends_of(EndKind.PARKED)
    assert not one.memory.records[-1].address.eq(other.memory.records[-1].address)


def test_from_any_registers_a_fill_after_cld_runs(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, f"{FILL} cld; rep stosl; hlt", 32, any_registers=True))
    assert end.kind is EndKind.PARKED
    area = end.memory.base.at(0x1000)
    assert z3.simplify(end.memory.read(area, 8)).as_long() == 0


@pytest.mark.parametrize(
    ("code", "name", "symbols"),
    [
        ("hlt", "rax", {"rax_at_entry"}),
        ("hlt", "r15", {"r15_at_entry"}),
        ("movl $1, %eax; hlt", "rax", {"rax_at_entry"}),
        ("movw %ds, %bx; movzwl %bx, %ebx; hlt", "rbx", {"rbx_at_entry", "ds_at_entry"}),
    ],
)
def test_from_any_registers_everything_that_was_not_set_is_open(
    code: str, name: str, symbols: set[str], tmp_path: Path
) -> None:
    end = only_end(run(tmp_path, code, 16, any_registers=True))
    assert set(variables(register(end, name))) == symbols


def test_from_any_registers_the_flags_that_init_clears_are_open_but_not_if(tmp_path: Path) -> None:
    flags = only_end(run(tmp_path, "hlt", 16, any_registers=True)).state.rflags
    opened = {bit for bit in range(64) if variables(z3.simplify(z3.Extract(bit, bit, flags)))}
    assert opened == {0, 2, 4, 6, 7, 10, 11}
    assert z3.simplify(z3.Extract(9, 9, flags)).as_long() == 0


def test_from_any_registers_modes_and_code_segment_are_as_after_init(tmp_path: Path) -> None:
    known, opened = (
        only_end(run(tmp_path, "hlt", 16, any_registers=anything)).state
        for anything in (False, True)
    )
    assert vars(known.control) == vars(opened.control)
    assert known.segments["cs"] == opened.segments["cs"]
    assert set(variables(opened.gdtr_base)) == {"gdtr_base_at_entry"}
    assert known.gdtr_base.as_long() == 0


def test_what_is_assumed_of_the_entry_is_said(tmp_path: Path) -> None:
    def said(any_registers: bool) -> list[str]:
        result = run(tmp_path, "hlt", 16, any_registers=any_registers)
        return [sentence for sentence, _ in result.assumptions if "SDM 3A table 9-1" in sentence]

    (as_after_init,), (anything,) = said(False), said(True)
    assert "hold anything" in anything and "hold anything" not in as_after_init


# --- upper halves


def test_an_upper_half_that_can_only_be_0_is_0_from_the_access_on(tmp_path: Path) -> None:
    result = run(tmp_path, "movl (%rsi), %eax; movl 4(%rsi), %eax; hlt", 64, way=UPPER)
    fault, parked = sorted(result.ends, key=lambda end: end.kind.name, reverse=True)
    assert (fault.kind, parked.kind) == (EndKind.SHUTDOWN, EndKind.PARKED)
    assert register(parked, "rsi").as_long() == BASE
    assert [access.linear.as_long() for access in parked.accesses[-2:]] == [BASE, BASE + 4]
    (half,) = variables(register(fault, "rsi"))
    assert half.startswith("rsi_upper_half")
    assert covers(result)
    zero = z3.BitVec(half, 32) == 0
    assert Prover(result.hypotheses).holds(parked.path, zero)
    assert Prover(result.hypotheses).holds(fault.path, z3.Not(zero))


def test_only_the_upper_half_that_was_used_is_settled(tmp_path: Path) -> None:
    result = run(tmp_path, "movl (%rsi), %eax; hlt", 64, way=UPPER)
    (parked,) = result.ends_of(EndKind.PARKED)
    assert any("rsp_upper_half" in name for name in variables(register(parked, "rsp")))


def test_copies_of_a_settled_register_are_settled_too(tmp_path: Path) -> None:
    result = run(tmp_path, "leaq 8(%rsi), %rdi; movl (%rsi), %eax; hlt", 64, way=UPPER)
    (parked,) = result.ends_of(EndKind.PARKED)
    assert register(parked, "rdi").as_long() == BASE + 8


HIGH_PAGE = """
    TO_32BIT
    leal OFF(area) + TABLE_FLAGS(%esi), %eax
    movl %eax, OFF(tables) + PAGE_SIZE + 4 * 8(%esi)
    movl $LARGE_PAGE_FLAGS, OFF(area)(%esi)
    movl $1, OFF(area) + 4(%esi)
    movl $0, OFF(tables) + PAGE_SIZE + 4 * 8 + 4(%esi)
    TO_64BIT_UPPER_HALVES_UNKNOWN"""
"""Maps the 2 MiB from 4 GiB on to themselves as well."""


def test_an_upper_half_with_two_possible_values_stays_open(tmp_path: Path) -> None:
    result = run(tmp_path, "movl (%rsi), %eax; hlt", 64, way=HIGH_PAGE)
    (parked,) = result.ends_of(EndKind.PARKED)
    assert covers(result)
    (half,) = variables(register(parked, "rsi"))
    prover, symbol = Prover(result.hypotheses), z3.BitVec(half, 32)
    assert [v for v in range(4) if prover.possible(parked.path, symbol == v)] == [0, 1]


def covers(result: Run) -> bool:
    """Every input takes a path of the run."""
    conditions = [end.condition for end in result.ends]
    return Prover(result.hypotheses).holds((), z3.Or(*conditions))
