# SPDX-License-Identifier: GPL-2.0-only
"""Immediates and displacements that are not known when the image is assembled."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.lockstep.assembled import assembled
from harness.x86.errors import Unsupported
from harness.x86.lift import Instruction, Varnode, fixed_parts, lift
from harness.x86.run import EndKind, Run
from tests.x86.emulated import assert_agree
from tests.x86.small import BASE, only_end, refusal, run
from tests.x86.values import Chosen, value_of

AT = 0x120  # image offset of the instruction


def lifted(bits: int, text: str, *fields: int) -> Instruction:
    """The instruction with fields at these offsets in it."""
    (data,) = assembled(bits, text)
    return lift(data, AT, bits, tuple(AT + field for field in fields))


def found(instruction: Instruction) -> set[tuple[str, int, bool]]:
    """Space, offset in the instruction and sign of each operand that is a field."""
    nodes = [node for op in instruction.ops for node in (*op.inputs, op.output) if node]
    nodes += [instruction.far[1]] if instruction.far else []
    return {(n.space, n.field - AT, n.signed) for n in nodes if n.field is not None}


ONE = [
    (16, "movl $1, %esp", 2, {("const", 2, False)}),
    (16, "leal 0x1000(%esi), %esp", 4, {("const", 4, False)}),
    (16, "ljmpl $8, $0x1234", 2, {("const", 2, False), ("ram", 2, False)}),
    (32, "ljmp $8, $0x1234", 1, {("const", 1, False), ("ram", 1, False)}),
    (32, "movl $1, %eax", 1, {("const", 1, False)}),
    (32, "movl $1, (%esi)", 2, {("const", 2, False)}),
    (32, "movl 0x1234, %eax", 1, {("ram", 1, False)}),
    (32, "movl %ebx, 0x1234", 2, {("ram", 2, False)}),
    (32, "movb %bl, 0x1234", 2, {("ram", 2, False)}),
    (32, "movl 0x1234(%esi), %ebx", 2, {("const", 2, False)}),
    (32, "movl 0x1234(, %esi, 4), %ebx", 3, {("const", 3, False)}),
    (32, "pushl $0x1234", 1, {("const", 1, False)}),
    (32, "lgdt 0x1234", 3, {("ram", 3, False)}),
    (32, "ljmp *0x1234", 2, {("ram", 2, False), ("const", 2, False)}),
    (64, "movl $1, %eax", 1, {("const", 1, False)}),
    (64, "movq $1, %rax", 3, {("const", 3, True)}),
    (64, "movabsq $1, %rax", 2, {("const", 2, False)}),
    (64, "addq $0x1234, %rax", 2, {("const", 2, True)}),
    (64, "addl $0x1234, %eax", 1, {("const", 1, False)}),
    (64, "movl 0x1234, %ebx", 3, {("ram", 3, True)}),
    (64, "movl 0x1234(%rsi), %ebx", 2, {("const", 2, True)}),
    (64, "ljmpl *0x1234", 3, {("const", 3, True)}),
]


@pytest.mark.parametrize(("bits", "text", "at", "fields"), ONE)
def test_each_operand_of_4_bytes_can_be_a_field(
    bits: int, text: str, at: int, fields: set[tuple[str, int, bool]]
) -> None:
    instruction = lifted(bits, text, at)
    assert found(instruction) <= fields and found(instruction)
    assert {signed for *_, signed in found(instruction)} == {signed for *_, signed in fields}
    assert instruction.fields == (AT + at,)
    assert f"field_{AT + at:x}" in str(instruction) or "far" in text or "ljmp" in text


def test_the_rest_of_the_instruction_stays_as_it_is() -> None:
    plain, instruction = lifted(32, "movl $0x55, 0x1234(%esi)"), lifted(32, "movl $0x55, 4(%esi)")
    assert plain.ops[0].inputs[0] == instruction.ops[0].inputs[0]
    withfield = lifted(32, "movl $0x55, 0x1234(%esi)", 2)
    assert [op.opcode for op in withfield.ops] == [op.opcode for op in plain.ops]
    assert withfield.ops[0].inputs == (plain.ops[0].inputs[0], Varnode("const", 0, 4, field=0x122))
    assert withfield.ops[1:] == plain.ops[1:]
    assert (withfield.end, withfield.mnemonic) == (plain.end, plain.mnemonic)


def test_two_fields_of_one_instruction_are_told_apart() -> None:
    instruction = lifted(32, "movl $0x5555, 0x1234(%esi)", 2, 6)
    assert found(instruction) == {("const", 2, False), ("const", 6, False)}
    assert [list(part) for part in fixed_parts(instruction)] == [[0x120, 0x121]]


def test_fields_around_the_instruction_do_not_matter() -> None:
    (data,) = assembled(32, "movl $1, %eax")
    behind = lift(data + bytes(8), AT, 32, (AT - 4, AT + 5))
    assert behind == lift(data, AT, 32)


@pytest.mark.parametrize(
    ("bits", "text", "at", "reason"),
    [
        (32, "jmp . + 0x1234", 1, "no absolute operand"),
        (32, "call . + 0x1234", 1, "no absolute operand"),
        (64, "movl 0x1234(%rip), %eax", 2, "no absolute operand"),
        (64, "leaq 0x1234(%rip), %rax", 3, "no absolute operand"),
        (32, "movl $1, %eax", 0, "do not decode"),
        (32, "addl $0x12345678, %ebx", 1, "do not decode"),
        (32, "movl $0x12345678, 4(%esi)", 2, "no absolute operand"),
        (32, "movl $1, %eax", 2, "only part"),
        (32, "movl $1, %eax", 4, "only part"),
        (32, "movl $1, %eax", -2, "only part"),
        (64, "movabsq $0x100000000, %rax", 2, "no absolute operand"),
        (64, "movabsq $1, %rax", 6, "no absolute operand"),
        (32, "movl $0x12345678, 0x12345678(%esi)", 4, "no absolute operand"),
        (16, "ljmpw $8, $0x1234", 1, "decides"),
    ],
)
def test_what_is_no_whole_absolute_operand_is_refused(
    bits: int, text: str, at: int, reason: str
) -> None:
    with pytest.raises(Unsupported) as refused:
        lifted(bits, text, at)
    assert reason in refused.value.what


def test_a_far_jump_carries_its_selector_and_offset() -> None:
    for bits, text, width in ((16, "ljmpw $8, $0x1234", 2), (16, "ljmpl $8, $0x1234", 4)):
        far = lifted(bits, text).far
        assert far == (8, Varnode("const", 0x1234, width))


# --- on the machine

FIXUP = ".byte 0xb8; fixup: .long 0xdeadbeef; movl %eax, %ebx; hlt"


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("base", [BASE, None])
def test_a_field_holds_what_the_host_writes(bits: int, base: int | None, tmp_path: Path) -> None:
    end = only_end(run(tmp_path, FIXUP, bits, base=base, fields={"fixup": "area"}))
    assert end.kind is EndKind.PARKED
    values = Chosen(sipi_vector=8)
    assert value_of(end.state.registers["rbx"], values) & 0xFFFF_FFFF == BASE + 0x1000
    assert not [access for access in end.accesses if access.linear is end.memory.base.at(0)]


def test_a_fixed_up_address_is_base_and_constant(tmp_path: Path) -> None:
    code = ".byte 0xbf; fixup: .long 0; movl $7, (%edi); movl OFF(area)(%esi), %ebx; hlt"
    end = only_end(run(tmp_path, code, 32, base=None, fields={"fixup": "area"}))
    assert value_of(end.state.registers["rbx"], Chosen()) & 0xFFFF_FFFF == 7


def test_a_field_is_fetched_not_loaded(tmp_path: Path) -> None:
    with_field = only_end(run(tmp_path, FIXUP, 32, fields={"fixup": None}))
    assert len(with_field.accesses) == len(only_end(run(tmp_path, FIXUP, 32)).accesses)


def test_a_far_jump_takes_its_offset_from_the_field(tmp_path: Path) -> None:
    code = ".byte 0xea; fixup: .long 0; .short CODE32; nop; target: movl $9, %ebx; hlt"
    end = only_end(run(tmp_path, code, 32, base=None, fields={"fixup": "target"}))
    assert end.kind is EndKind.PARKED
    assert value_of(end.state.registers["rbx"], Chosen()) & 0xFFFF_FFFF == 9


PATCHED = """
    leal OFF(target)(%esi), %eax
    movl %eax, OFF(fixup)(%esi)
    .byte 0xea; fixup: .long 0; .short CODE32
    nop
    target: movl $9, %ebx; hlt"""


@pytest.mark.parametrize("base", [BASE, None])
def test_code_may_write_the_field_itself(base: int | None, tmp_path: Path) -> None:
    end = only_end(run(tmp_path, PATCHED, 32, base=base, fields={"fixup": None}))
    assert end.kind is EndKind.PARKED
    if base is not None:
        assert_agree(end, tmp_path, PATCHED, 32)


def test_without_a_field_patched_code_ends_the_path(tmp_path: Path) -> None:
    assert only_end(run(tmp_path, PATCHED, 32)).kind is EndKind.OVERWRITTEN


@pytest.mark.parametrize("at", ["fixup - 1", "fixup + 4", "fixup + 1"])
def test_only_the_field_may_be_overwritten(at: str, tmp_path: Path) -> None:
    code = PATCHED.replace("OFF(fixup)", f"OFF({at})")
    end = only_end(run(tmp_path, code, 32, fields={"fixup": "target"}))
    assert end.kind is EndKind.OVERWRITTEN


def test_a_field_in_the_middle_of_nowhere_is_refused(tmp_path: Path) -> None:
    code = "jmp fixup; fixup: nop; nop; nop; nop; hlt"
    assert "field" in refusal(run(tmp_path, code, 32, fields={"fixup": None}))


def test_a_negative_field_is_extended_as_the_instruction_does(tmp_path: Path) -> None:
    code = """movl $-5, field(%rip); movl $-5, other(%rip); jmp 1f
        1: .byte 0x48, 0xc7, 0xc3; field: .long 0; .byte 0xbf; other: .long 0; hlt"""
    end = only_end(run(tmp_path, code, 64, fields={"field": None, "other": None}))
    found = [value_of(end.state.registers[name], Chosen()) for name in ("rbx", "rdi")]
    assert found == [2**64 - 5, 2**32 - 5]


LOOP = """
    xorl %edx, %edx
    movl $64, %ecx
    1: .byte 0x89, 0x14, 0x95; fixup: .long 0
    incl %edx
    decl %ecx
    jnz 1b
    hlt"""
"""movl %edx, fixup(, %edx, 4) in a loop."""


def loop(target: str, tmp_path: Path) -> Run:
    return run(tmp_path, LOOP, 32, base=None, fields={"fixup": target})


def test_a_loop_with_a_field_is_done_in_one_step(tmp_path: Path) -> None:
    end = only_end(loop("area", tmp_path))
    assert end.kind is EndKind.PARKED
    assert any(access.count > 1 for access in end.accesses)
    for index in (0, 1, 63):
        word = end.memory.read(end.memory.base.at(0x1000 + 4 * index), 4)
        assert z3.simplify(word).as_long() == index


def test_a_loop_that_changes_its_own_field_is_not(tmp_path: Path) -> None:
    code = """
        xorl %edx, %edx; movl $6, %ecx; jmp 1f; target: .skip 21
        1: .byte 0x89, 0x14, 0xd5; fixup: .long 0; incl %edx; decl %ecx; jnz 1b; hlt"""
    end = only_end(run(tmp_path, code, 32, fields={"fixup": "target"}))
    assert end.kind is EndKind.PARKED
    assert not any(access.count > 1 for access in end.accesses)
    stores = [access.linear.as_long() for access in end.accesses if access.kind == "store"][-6:]
    target = stores[0]
    assert stores == [target, target + 8, target + 16, target + 24, 3 + 4 * 8, 3 + 5 * 8]
