# SPDX-License-Identifier: GPL-2.0-only
"""Code that the path itself may have written: the path ends there, for just those inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.solve.evaluate import evaluate
from harness.x86.run import EndKind, PathEnd, Run
from tests.x86.small import BASE, only_end, refusal, run

SCRATCH = BASE + 0x414
ANYWHERE = "movl OFF(scratch)(%esi), %eax; andl $0xfff, %eax; "
"""EAX = an offset in the image's first page that nobody knows."""


def taken(result: Run, scratch: int) -> PathEnd:
    """The one end for this content of the scratch word."""
    content = dict(enumerate(scratch.to_bytes(4, "little"), SCRATCH))
    (end,) = [
        end
        for end in result.ends
        if all(evaluate(part, {}, lambda address: content.get(address, 0)) for part in end.path)
    ]
    return end


def test_code_that_was_overwritten_ends_the_path(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "movb $0x90, OFF(1f)(%esi); 1: hlt", 32))
    assert end.kind is EndKind.OVERWRITTEN
    assert end.detail == "`hlt` may have been overwritten"


def test_code_that_was_overwritten_with_what_it_was_counts_as_overwritten(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "movb $0xf4, OFF(1f)(%esi); 1: hlt", 32))
    assert end.kind is EndKind.OVERWRITTEN


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("movb $0x90, OFF(1f) - 1(%esi); jmp 1f; nop; 1: hlt", EndKind.PARKED),
        ("movb $0x90, OFF(1f) + 1(%esi); 1: hlt; nop", EndKind.PARKED),
        ("movw $0x90, OFF(1f) - 1(%esi); jmp 1f; nop; 1: hlt", EndKind.OVERWRITTEN),
        ("movb $0, OFF(1f) + 4(%esi); 1: movl $1, %eax; hlt", EndKind.OVERWRITTEN),
        ("movb $0, OFF(1f) + 5(%esi); 1: movl $1, %eax; 2: jmp 2b", EndKind.OVERWRITTEN),
    ],
    ids=["before", "behind", "over its first byte", "on its last byte", "on the next instruction"],
)
def test_each_byte_of_an_instruction_counts_and_no_other(
    code: str, kind: EndKind, tmp_path: Path
) -> None:
    assert only_end(run(tmp_path, code, 32)).kind is kind


@pytest.mark.parametrize("base", [BASE, None])
def test_a_store_with_an_open_address_ends_the_path_only_where_it_hits(
    base: int | None, tmp_path: Path
) -> None:
    result = run(tmp_path, f"{ANYWHERE} movb $0, (%esi, %eax); nop; hlt", 32, base=base)
    at_nop, at_hlt, parked = result.ends
    assert [end.kind for end in result.ends] == [
        EndKind.OVERWRITTEN, EndKind.OVERWRITTEN, EndKind.PARKED,
    ]  # fmt: skip
    assert "`nop`" in at_nop.detail and "`hlt`" in at_hlt.detail
    solver = z3.Solver()
    conditions = [end.condition for end in result.ends]
    solver.add(*result.hypotheses, z3.Sum(*(z3.If(c, 1, 0) for c in conditions)) != 1)
    assert solver.check() == z3.unsat
    if base is not None:
        nop, hlt = at_nop.instruction, at_hlt.instruction
        assert taken(result, nop) is at_nop
        assert taken(result, hlt | 0xABCDE000) is at_hlt
        for offset in (0, nop - 1, hlt + 1, 0xFFF):
            assert taken(result, offset) is parked


def test_a_loop_that_overwrites_itself_ends_the_path(tmp_path: Path) -> None:
    code = """
        leal OFF(1f)(%esi), %edi; subl $256, %edi; movl $200, %ecx
        1: movl %eax, (%edi); addl $4, %edi; decl %ecx; jnz 1b; hlt"""
    end = only_end(run(tmp_path, code, 32))
    assert end.kind is EndKind.OVERWRITTEN
    assert "may have been overwritten" in end.detail


def test_overwritten_bytes_that_are_not_executed_end_nothing(tmp_path: Path) -> None:
    assert only_end(run(tmp_path, "movb $0, OFF(begin)(%esi); hlt", 32)).kind is EndKind.PARKED


def test_bytes_whose_content_nobody_knows_are_still_refused(tmp_path: Path) -> None:
    code = "movb $0xf4, OFF(scratch)(%esi); jmp scratch"
    assert "unknown" in refusal(run(tmp_path, code, 32))
