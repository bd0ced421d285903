# SPDX-License-Identifier: GPL-2.0-only
"""What an instruction does may depend on the inputs of a path: then the path parts in two."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.prover import Prover
from harness.x86.run import EndKind, PathEnd, Run
from harness.x86.terms import variables
from models.modes import CR0_PG, Mode
from tests.x86.small import run

PAGING = """movl OFF(scratch)(%esi), %eax; andl $CR0_PG, %eax; orl $CR0_PE, %eax
    movl %eax, %cr0; movl $1, %ebx; hlt"""


def parts(result: Run) -> tuple[PathEnd, ...]:
    """The ends, which exclude each other and leave no input out."""
    prover = Prover(result.hypotheses)
    conditions = [end.condition for end in result.ends]
    assert prover.holds((), z3.Sum(*(z3.If(c, 1, 0) for c in conditions)) == 1)
    return result.ends


def test_a_control_bit_that_is_not_known_parts_the_path(tmp_path: Path) -> None:
    off, on = sorted(parts(run(tmp_path, PAGING, 32)), key=lambda end: end.kind.name)
    assert (off.kind, off.mode) == (EndKind.PARKED, Mode.PROTECTED32)
    assert on.kind is EndKind.UNSUPPORTED and "paging mode" in on.detail
    for end, bit in ((off, 0), (on, CR0_PG)):
        scratch = z3.simplify(end.memory.read(end.memory.base.at(0x414), 4))
        assert variables(scratch)
        assert Prover(()).holds(end.path, scratch & CR0_PG == bit)


def test_nothing_parts_where_the_path_decides(tmp_path: Path) -> None:
    code = f"testl $CR0_PG, OFF(scratch)(%esi); jnz 1f; {PAGING}; 1: hlt"
    assert [end.kind for end in parts(run(tmp_path, code, 32))] == [EndKind.PARKED] * 2


def test_both_parts_execute_the_instruction_from_its_begin(tmp_path: Path) -> None:
    first, second = parts(run(tmp_path, PAGING, 32))
    shared = min(len(first.trace), len(second.trace))
    assert first.trace[: shared - 1] == second.trace[: shared - 1]
    for end in (first, second):
        assert len(end.trace) == len(end.history)
        assert len({offset for offset, _ in end.trace}) == len(end.trace)


@pytest.mark.parametrize("code", ["movl $1, %eax; movl %eax, %cr0; hlt", "lmsw %ax; hlt"])
def test_no_solver_is_asked_where_the_bit_is_constant(code: str, tmp_path: Path) -> None:
    assert run(tmp_path, code, 32).solver_calls == run(tmp_path, "hlt", 32).solver_calls


def test_a_fault_found_before_the_path_parts_is_told_once(tmp_path: Path) -> None:
    """With PG and without LME the write of CR0 may fault for its NW bit; that is one end."""
    code = """movl OFF(scratch)(%esi), %eax; andl $0xa0000000, %eax; orl $1, %eax
        movl %eax, %cr0; hlt"""
    ends = parts(run(tmp_path, code, 32))
    assert sorted(end.kind.name for end in ends) == [
        "PARKED",
        "SHUTDOWN",
        "SHUTDOWN",
        "UNSUPPORTED",
    ]
