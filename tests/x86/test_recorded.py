# SPDX-License-Identifier: GPL-2.0-only
"""What a path records for the claims: loads of GDTR and IDTR, and which accesses use the stack."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.run import Access, PathEnd
from tests.x86.small import BASE, only_end, run

GDT, GDT_POINTER = 0x428, 0x420  # offsets in targets/frame.h
LIMIT = 4 * 8 - 1
SET_BASE = "movw %cs, %ax; movw %ax, %ds; movl $0x12345678, OFF(gdt_pointer) + 2; "


def loads(end: PathEnd) -> list[tuple[str, int, int, bool]]:
    """Register, base, limit, and whether the whole base was loaded."""
    return [
        (load.register, load.base.as_long(), load.limit.as_long(), load.whole)
        for load in end.table_loads
    ]


@pytest.mark.parametrize(
    ("instruction", "register", "whole"),
    [
        ("lgdtw", "gdtr", False),
        ("lgdtl", "gdtr", True),
        ("lidtw", "idtr", False),
        ("lidtl", "idtr", True),
    ],
)
def test_with_16_bit_operands_a_table_pointer_loses_the_high_byte_of_its_base(
    instruction: str, register: str, whole: bool, tmp_path: Path
) -> None:
    end = only_end(run(tmp_path, f"{SET_BASE} {instruction} OFF(gdt_pointer); hlt", 16))
    base = 0x12345678 if whole else 0x345678
    assert loads(end) == [(register, base, LIMIT, whole)]
    if register == "gdtr":
        assert end.state.gdtr_base.as_long() == base


FRAMES = ("gdtr", BASE + GDT, LIMIT, True)
"""The load in targets/frame.h."""


def test_64_bit_code_loads_whole_pointers_whatever_the_prefix(tmp_path: Path) -> None:
    code = "lgdt OFF(gdt_pointer)(%rsi); .byte 0x66; lidt OFF(gdt_pointer)(%rsi); hlt"
    end = only_end(run(tmp_path, code, 64))
    assert [(register, whole) for register, _, _, whole in loads(end)] == [
        ("gdtr", True), ("gdtr", True), ("idtr", True),
    ]  # fmt: skip


def test_loads_are_recorded_in_order_with_their_instruction(tmp_path: Path) -> None:
    code = """
        movw $5, OFF(gdt_pointer)(%esi)
        1: lidt OFF(gdt_pointer)(%esi)
        movw $7, OFF(gdt_pointer)(%esi)
        2: lgdt OFF(gdt_pointer)(%esi)
        hlt"""
    end = only_end(run(tmp_path, code, 32))
    base = BASE + GDT
    assert loads(end) == [FRAMES, ("idtr", base, 5, True), ("gdtr", base, 7, True)]
    offsets = [load.instruction for load in end.table_loads]
    assert offsets == sorted(offsets)
    pointer = z3.BitVecVal(BASE + GDT_POINTER, 64)
    read = [a for a in end.accesses if a.kind == "descriptor" and a.linear.eq(pointer)]
    assert offsets == [access.instruction for access in read]
    assert end.state.gdtr_limit.as_long() == 7


def test_each_path_has_the_loads_that_it_executed(tmp_path: Path) -> None:
    code = "cmpl $5, OFF(scratch)(%esi); je 1f; lidt OFF(gdt_pointer)(%esi); 1: hlt"
    first, second = run(tmp_path, code, 32).ends
    assert sorted(len(end.table_loads) for end in (first, second)) == [1, 2]


def test_a_load_that_faults_is_not_recorded(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "movl $0xffffffff, %ebx; lgdt (%ebx); hlt", 32))
    assert loads(end) == [FRAMES]


CODE = {
    "push and pop": (32, "pushl $1; popl %eax", [("store", 4), ("load", 4)], []),
    "push of a register": (16, "pushw %ax", [("store", 2)], []),
    "64-bit push and pop": (64, "pushq $1; popq %rax", [("store", 8), ("load", 8)], []),
    "call and return": (32, "call 1f; jmp 2f; 1: ret; 2: nop", [("store", 4), ("load", 4)], []),
    "moves through the stack pointer": (
        32, "movl %eax, -4(%esp); movl -4(%esp), %eax", [], [("store", 4), ("load", 4)]
    ),
    "a push from memory": (32, "pushl OFF(status)(%esi)", [("store", 4)], [("load", 4)]),
    "a pop to memory": (
        32, "pushl $1; popl OFF(status)(%esi)", [("store", 4), ("load", 4)], [("store", 4)]
    ),
    "a call through memory": (
        32, "leal OFF(1f)(%esi), %eax; movl %eax, OFF(status)(%esi); call *OFF(status)(%esi); 1:",
        [("store", 4)], [("store", 4), ("load", 4)],
    ),
    "a move after a push": (32, "pushl $1; movl %eax, -8(%esp)", [("store", 4)], [("store", 4)]),
    "a fill": (
        32, "pushl $1; leal OFF(area)(%esi), %edi; movl $64, %ecx; rep stosl",
        [("store", 4)], [("store", 4), ("store", 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", CODE)
def test_what_pushes_and_pops_is_told_from_other_accesses(shape: str, tmp_path: Path) -> None:
    bits, code, on_stack, others = CODE[shape]
    before = only_end(run(tmp_path, "hlt", bits)).accesses
    seen = only_end(run(tmp_path, f"{code}; hlt", bits)).accesses[len(before) :]
    assert [(a.kind, a.size) for a in seen if a.stack] == on_stack
    assert [(a.kind, a.size) for a in seen if not a.stack] == others


def test_a_far_return_reads_the_stack_and_the_gdt(tmp_path: Path) -> None:
    """The descriptor is no part of the stack, though the same instruction reads it."""
    end = only_end(run(tmp_path, "hlt", 64))
    (last,) = {access.instruction for access in returning(end)}
    read = [(access.kind, access.size) for access in end.accesses if access.instruction == last]
    assert read == [("load", 4), ("load", 4), ("descriptor", 8)]


def returning(end: PathEnd) -> list[Access]:
    """The loads from the stack, which only the frame's far return makes."""
    return [access for access in end.accesses if access.stack and access.kind == "load"]


@pytest.mark.parametrize("count", [2 + 4, 2 + 8, 2 + 9])
def test_a_small_loop_under_paging_has_one_record_for_each_store(
    count: int, tmp_path: Path
) -> None:
    """The first and the last turn are executed; of those between, up to 8 become single stores."""
    code = f"""
        leaq OFF(area)(%rsi), %rdi; movl $0x11223344, %eax; movl ${count}, %ecx
        1: movq %rax, (%rdi); addq $0x200000, %rax; addq $8, %rdi; decl %ecx; jnz 1b; hlt"""
    end = only_end(run(tmp_path, code, 64))
    between = count - 2
    stores = [a for a in end.accesses if a.kind == "store" and a.size == 8]
    assert [a.count for a in stores] == ([1] * count if between <= 8 else [1, between, 1])
    for access in stores:
        record = end.memory.records[access.records]
        assert record.address.eq(access.linear) and record.size == access.size
        assert record.value.eq(access.value)
        assert record.pages == frozenset({0x1000})
        assert access.paged
    assert len({access.records for access in stores}) == len(stores)
    if between <= 8:
        addresses = [access.linear.as_long() for access in stores]
        assert addresses == [BASE + 0x1000 + 8 * turn for turn in range(count)]
        values = [z3.simplify(access.value).as_long() for access in stores]
        assert values == [0x11223344 + 0x200000 * turn for turn in range(count)]
