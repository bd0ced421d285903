# SPDX-License-Identifier: GPL-2.0-only
"""Decoding: what an operand is relative to, sizes, and what is not decoded."""

from __future__ import annotations

import pytest
from pypcode import OpCode

from harness.lockstep.assembled import assembled
from harness.x86.errors import Unsupported
from harness.x86.lift import Instruction, Varnode, lift

AT = 0x120  # image offset of the instruction


def lifted(bits: int, text: str) -> Instruction:
    (data,) = assembled(bits, text)
    return lift(data, AT, bits)


def places(instruction: Instruction) -> list[Varnode]:
    """All constants and direct memory operands."""
    nodes = [node for op in instruction.ops for node in (*op.inputs, op.output)]
    return [node for node in nodes if node is not None and node.space in ("const", "ram")]


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_a_near_jump_is_relative_to_the_image(bits: int) -> None:
    jump = lifted(bits, ".byte 0xeb, 0x10")
    (target,) = places(jump)
    assert (target.relative, target.offset) == (True, AT + 2 + 0x10)
    assert jump.end == AT + 2


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_the_return_address_of_a_call_is_relative_to_the_image(bits: int) -> None:
    pushed = [
        n for n in places(lifted(bits, f".byte 0xe8, {', '.join('0' * (2 + 2 * (bits > 16)))}"))
    ]
    assert {n.offset for n in pushed if n.relative} == {AT + (3 if bits == 16 else 5)}


@pytest.mark.parametrize(
    ("bits", "text"),
    [(16, "movw $0x120, %ax"), (32, "movl $0x122, %eax"), (64, "movq $0x127, %rax")],
)
def test_an_immediate_that_looks_like_an_offset_is_absolute(bits: int, text: str) -> None:
    nodes = places(lifted(bits, text))
    assert nodes
    assert not any(node.relative for node in nodes)


@pytest.mark.parametrize(
    ("bits", "text"),
    [(32, "movl 0x1234, %eax"), (32, "movl %eax, 0x1234"), (64, "movl 0x1234, %ebx")],
)
def test_a_memory_operand_without_registers_is_absolute(bits: int, text: str) -> None:
    (node,) = [node for node in places(lifted(bits, text)) if node.offset == 0x1234]
    assert not node.relative


@pytest.mark.parametrize(
    ("text", "length"),
    [
        *(("movb 0x10(%rip), %al", 6), ("movw 0x10(%rip), %ax", 7), ("movl 0x10(%rip), %eax", 6)),
        *(("movq 0x10(%rip), %rax", 7), ("leaq 0x10(%rip), %rax", 7)),
    ],
)
def test_a_rip_relative_source_is_relative_to_the_image(text: str, length: int) -> None:
    assert (True, AT + length + 0x10) in {
        (node.relative, node.offset) for node in places(lifted(64, text))
    }


@pytest.mark.parametrize(
    ("text", "length"),
    [
        *(("movl %eax, 0x10(%rip)", 6), ("movl $7, 0x10(%rip)", 10)),
        *(("movb $7, 0x10(%rip)", 7), ("movw $7, 0x10(%rip)", 9)),
    ],
)
def test_a_rip_relative_target_is_relative_to_the_image(text: str, length: int) -> None:
    assert (True, AT + length + 0x10) in {
        (node.relative, node.offset) for node in places(lifted(64, text))
    }


@pytest.mark.parametrize("size", ["b", "w", "l", "q"])
def test_a_place_before_the_image_is_relative_to_it_too(size: str) -> None:
    (instruction,) = assembled(64, f"inc{size} -0x1000(%rip)")
    found = lift(instruction, AT, 64)
    target = (AT + len(instruction) - 0x1000) % (1 << 64)
    assert {(node.relative, node.offset) for node in places(found) if node.space == "ram"} == {
        (True, target)
    }


@pytest.mark.parametrize(
    ("bits", "text", "size"),
    [
        (16, "movw $1, %ax", 2),
        (16, "movl $1, %eax", 4),
        (32, "movl $1, %eax", 4),
        (32, "movw $1, %ax", 2),
        (64, "movl $1, %eax", 4),
        (64, "movw $1, %ax", 2),
        (64, "movq $1, %rax", 8),
        (64, "addq %r8, %r9", 8),
        (64, "addl %r8d, %r9d", 4),
    ],
)
def test_the_operand_size_follows_mode_and_prefixes(bits: int, text: str, size: int) -> None:
    assert lifted(bits, text).operand_bytes == size


@pytest.mark.parametrize(
    "text", ["movl (%esi), %eax", "movl %eax, 4(%ebx)", "lgdtl (%esi)", "pushl (%eax)"]
)
def test_a_32_bit_address_in_16_bit_code_is_refused(text: str) -> None:
    with pytest.raises(Unsupported, match="with a 32-bit address in 16-bit code") as refused:
        lifted(16, text)
    assert refused.value.offset == AT


@pytest.mark.parametrize(
    "text",
    [
        "movl %eax, 4(%eip)",
        "movl (%eax), %eax",
        "leaq 4(%eip), %rax",
        "lgdt (%ebx)",
        "addr32 stosb",
    ],
)
def test_a_32_bit_address_in_64_bit_code_is_refused(text: str) -> None:
    with pytest.raises(Unsupported, match="with a 32-bit address in 64-bit code") as refused:
        lifted(64, text)
    assert refused.value.offset == AT


def test_lea_may_compute_a_32_bit_address_in_16_bit_code() -> None:
    assert lifted(16, "leal 0x10(%esi), %eax").mnemonic == "LEA"


@pytest.mark.parametrize(
    ("bits", "data"),
    [
        *((64, b"\x06"), (64, b"\x27"), (64, b"\x82\xc0\x01"), (64, b"\x9a" + bytes(6))),
        *((32, b"\x0f\x04"), (32, b"\x8e\xf0"), (32, b"\x0f\x22\xc8"), (16, b"\xfe\xd0")),
    ],
)
def test_bytes_that_are_no_instruction_are_refused(bits: int, data: bytes) -> None:
    with pytest.raises(Unsupported, match=f"do not decode as {bits}-bit code") as refused:
        lift(data, AT, bits)
    assert f"{AT:#x}" in str(refused.value)


@pytest.mark.parametrize(
    ("bits", "data"),
    [
        *((64, b"\xf6\xcb\x01"), (32, b"\x66\xf7\xcb\x01\x00"), (64, b"\x48\xc1\xf3\x01")),
        *((16, b"\xd1\xf3"), (64, b"\x67\xd2\x30"), (16, b"\xd6"), (32, b"\xd6")),
    ],
)
def test_an_encoding_that_some_cpus_take_for_another_one_is_refused(bits: int, data: bytes) -> None:
    """QEMU faults at what is TEST elsewhere: a mutant with it was PROVED."""
    with pytest.raises(Unsupported, match="that the manual does not define"):
        lift(data, AT, bits)


def test_an_instruction_cut_off_by_the_images_end_is_refused() -> None:
    with pytest.raises(Unsupported):
        lift(b"\xb8\x01\x02", AT, 32)


def test_unknown_operations_keep_their_name() -> None:
    (userop,) = [op for op in lifted(32, "vmcall").ops if op.opcode == OpCode.CALLOTHER]
    assert userop.userop == "vmcall"
