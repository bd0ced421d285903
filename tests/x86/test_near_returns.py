# SPDX-License-Identifier: GPL-2.0-only
"""RET near in 16-bit code: IP or EIP from a 16-bit stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.x86.run import EndKind
from tests.x86.emulated import assert_agree
from tests.x86.small import BASE, only_end, refusal, run

STACK = "movw %cs, %ax; movw %ax, %ss; movl $0x12340000 + OFF(stack_end), %esp\n"
BITS_16 = ".quad 0x008f9a000000ffff"
"""A descriptor of a 16-bit code segment, which is entry 20H."""
TO_PROTECTED16 = "ljmp $0x20, $1f - begin + 0x8000; .code16; 1: "

CALLS = {
    "call and ret": "call 1f; movl $5, %ebx; hlt; 1: movl $6, %ecx; ret",
    "two calls deep": "call 1f; hlt; 1: call 2f; incw %bx; ret; 2: movw $7, %bx; ret",
    "a word that was pushed": "pushw $OFF(1f); ret; hlt; 1: movl $5, %ebx; hlt",
    "32 bits": "pushl $OFF(1f); retl; hlt; 1: movl $5, %ebx; hlt",
    "the upper word stays": "pushw $0x1234; pushw $OFF(1f); ret; hlt; 1: popw %bx; hlt",
    "a stack that wraps": (
        "movl $0xffff, %ecx; movw %ss, %ax; movw $OFF(stack_end), %sp; call 1f; hlt; 1: ret"
    ),
}


@pytest.mark.parametrize("base", [BASE, None])
@pytest.mark.parametrize("code", CALLS.values(), ids=CALLS)
def test_a_near_return_goes_where_the_stack_says(
    code: str, base: int | None, tmp_path: Path
) -> None:
    end = only_end(run(tmp_path, STACK + code, 16, base=base))
    assert end.kind is EndKind.PARKED
    if base is not None:
        assert_agree(end, tmp_path, STACK + code, 16)


def test_a_return_beyond_the_segment_is_a_fault(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, STACK + "pushl $0x10000; retl", 16))
    assert end.kind is EndKind.SHUTDOWN and "EIP is outside CS" in end.detail


def test_a_return_out_of_the_image_is_refused(tmp_path: Path) -> None:
    assert "a jump out of the image" in refusal(run(tmp_path, STACK + "pushw $0xf000; ret", 16))


@pytest.mark.parametrize("code", ["pushw $7; retw $2", "pushw $7; retl $4"])
def test_a_return_that_releases_more_is_refused(code: str, tmp_path: Path) -> None:
    assert "releases stack bytes" in refusal(run(tmp_path, STACK + code, 16))


def test_a_return_on_a_32_bit_stack_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, TO_PROTECTED16 + "ret", 32, descriptors=BITS_16)
    assert "on a stack that may have 32 bits" in refusal(result)


def test_a_return_to_bytes_that_were_changed_is_seen(tmp_path: Path) -> None:
    code = "pushw $OFF(1f); movb $0x90, %cs:OFF(2f); ret; 1: nop; 2: hlt"
    code = code.replace("movb", "movw %cs, %ax; movw %ax, %ds; movb").replace("%cs:OFF", "OFF")
    assert only_end(run(tmp_path, STACK + code, 16)).kind is EndKind.OVERWRITTEN
