# SPDX-License-Identifier: GPL-2.0-only
"""Several entries of one image, and starts after an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.x86.prover import Prover
from harness.x86.run import EndKind, Run
from harness.x86.terms import ENTRY
from tests.x86.promised import BASE, CONTRACT, SCRATCH, STACK, load, run
from trampoline.image import ImageError

ONE = '[[entry]]\nname = "{name}"\nsymbol = "{symbol}"\nmode = "long64"\n'
TWO = ONE.format(name="one", symbol="begin") + ONE.format(name="two", symbol="other")
AGAIN = (
    ONE.format(name="first", symbol="begin")
    + ONE.format(name="again", symbol="begin")
    + 'after = "first"\n'
)
KEPT = '[[scratch]]\nstart = "kept"\nsize = 4\nwhy = "A test."\nkept = true\n'
GO_ON = "\njmp out\n.balign 8\nkept: .long 5\nout: .byte 0xe9; .long done - . - 4\n"
"""To `done`, where the start hands over."""


def ebx(result: Run) -> dict[str, set[int]]:
    """What EBX holds at the hand-over, by entry."""
    found: dict[str, set[int]] = {}
    for end in result.ends_of(EndKind.HAND_OFF):
        value = end.state.registers["rbx"].as_long()
        found.setdefault(result.entries[end.entry], set()).add(value)
    return found


@pytest.mark.parametrize("base", [BASE, None])
def test_each_entry_has_its_own_paths(base: int | None, tmp_path: Path) -> None:
    code = f"begin: movl $1, %ebx; jmp 1f; other: movl $2, %ebx; 1: nop {GO_ON}"
    result = run(tmp_path, code, TWO, base=base)
    assert result.entries == ("one", "two")
    assert ebx(result) == {"one": {1}, "two": {2}}
    assert len({end.trace[0] for end in result.ends}) == 2
    one, two = result.ends
    prover = Prover(result.hypotheses)
    assert not prover.possible(one.path, two.condition)
    assert prover.holds((), one.condition == two.condition) is False
    assert any(ENTRY in str(part) for part in one.path)


def test_a_real_mode_entry_beside_a_64_bit_one(tmp_path: Path) -> None:
    """Registers of the hand-over are known of the 64-bit entry only."""
    code = "real: .code16; movw $3, %bx; cli; hlt; .code64; begin: movl $4, %ebx; hlt"
    real = '[[entry]]\nname = "real"\nsymbol = "real"\n'
    top = CONTRACT.replace("0x100000, limit = 0x800000", "0x1000, limit = 0x80000")
    contract = real + ONE.format(name="long", symbol="begin")
    result = run(tmp_path, code, contract, base=0x8000, top=top)
    modes = {result.entries[end.entry]: end.mode.name for end in result.ends}
    assert modes == {"real": "REAL16", "long": "LONG64"}
    assert all(end.kind is EndKind.PARKED for end in result.ends)


@pytest.mark.parametrize("base", [BASE, None])
def test_a_later_start_finds_what_an_earlier_one_left(base: int | None, tmp_path: Path) -> None:
    code = f"movl kept(%rip), %ebx; movl $7, %eax; movl %eax, kept(%rip) {GO_ON}"
    result = run(tmp_path, code, AGAIN + KEPT, base=base)
    assert ebx(result) == {"first": {5}, "again": {7}}
    assert not result.lost


def test_what_is_not_kept_is_not_known_to_any_start(tmp_path: Path) -> None:
    code = f"movl kept(%rip), %ebx; movl $7, %eax; movl %eax, kept(%rip) {GO_ON}"
    result = run(tmp_path, code, AGAIN + KEPT.replace("kept = true\n", ""))
    for end in result.ends:
        assert "memory_at_entry" in str(end.state.registers["rbx"])


def test_an_address_that_was_patched_in_is_kept(tmp_path: Path) -> None:
    """It depends on the base, which all starts have in common."""
    code = f"movl kept(%rip), %ebx; leaq begin(%rip), %rax; movl %eax, kept(%rip) {GO_ON}"
    result = run(tmp_path, code, AGAIN + KEPT, base=BASE)
    assert ebx(result) == {"first": {5}, "again": {BASE}}
    assert not run(tmp_path, code, AGAIN + KEPT, base=None).lost


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("movl %ecx, kept(%rip)", "left with what depends on an input"),
        ("movl scratch(%rip), %eax; movl %eax, kept(%rip)", "left with what depends on an input"),
        ("testl %ecx, %ecx; jz 1f; movl %ebp, kept(%rip); 1: nop", "left differently"),
        ("movl $1, %eax; testl %ecx, %ecx; jz 1f; movl %eax, kept(%rip); 1: nop", "differently"),
        ("hlt", "no start at first hands over"),
        ("movl %eax, 0x12345678", "no start at first hands over"),
    ],
)
def test_a_start_that_leaves_nothing_certain_is_lost(
    code: str, reason: str, tmp_path: Path
) -> None:
    result = run(tmp_path, code + GO_ON, AGAIN + KEPT + SCRATCH)
    assert result.lost.startswith("entry again: ") and reason in result.lost
    assert {end.entry for end in result.ends} == {0}


def test_starts_are_given_in_order(tmp_path: Path) -> None:
    """A start cannot follow one that is described behind it, or itself."""
    for after in ("again", "third"):
        third = ONE.format(name="third", symbol="begin")
        contract = AGAIN.replace('after = "first"', f'after = "{after}"') + third
        assert "no start at" in run(tmp_path, f"nop {GO_ON}", contract).lost


def test_an_operand_is_kept_as_it_was_patched(tmp_path: Path) -> None:
    """The first start executes the operand as assembled and then changes it."""
    patched = '[[patched]]\nsymbol = "kept"\nwhy = "A test."\n'
    code = """begin: .byte 0xbb; kept: .long 5; addl $1, %ebx; movl %ebx, kept(%rip)
        .byte 0xe9; .long done - . - 4"""
    result = run(tmp_path, code, AGAIN + KEPT + patched)
    assert ebx(result) == {"first": {6}, "again": {7}}


def test_each_entry_needs_its_symbol(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\[entry\] symbol of two: the image has no symbol other"):
        load(tmp_path, "hlt", TWO + STACK)
