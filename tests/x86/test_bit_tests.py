# SPDX-License-Identifier: GPL-2.0-only
"""BT, BTS, BTR and BTC of a word in memory, with and without LOCK."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.run import EndKind
from harness.x86.terms import variables
from tests.x86.emulated import assert_agree
from tests.x86.small import only_end, refusal, run
from tests.x86.values import Chosen, value_of

SETUP = {
    16: "movw %cs, %ax; movw %ax, %ds; movl $0xa5c35a3c, OFF(area); ",
    32: "movl $0xa5c35a3c, OFF(area)(%esi); movl $0x12345678, OFF(area) + 4(%esi); ",
    64: "movl $0xa5c35a3c, OFF(area)(%rsi); movl $0x12345678, OFF(area) + 4(%rsi); ",
}
WORD = {16: "OFF(area)", 32: "OFF(area)(%esi)", 64: "OFF(area)(%rsi)"}
UNDEFINED = ("OF", "SF", "ZF", "PF")


def in_memory(bits: int) -> list[str]:
    """Bit tests of the word, in all sizes, each with a bit that is 0 and one that is 1."""
    sizes = {"w": (2, 15), "l": (0, 2, 31)} | ({"q": (2, 40, 63)} if bits == 64 else {})
    return [
        f"{lock}{name}{size} ${bit}, {WORD[bits]}"
        for name in ("bt", "bts", "btr", "btc")
        for lock in ("", "lock ")
        for size, numbers in sizes.items()
        for bit in numbers
        if lock == "" or name != "bt"
    ]


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_it_does_what_the_emulated_cpu_does(bits: int, tmp_path: Path) -> None:
    # One after another, each carry kept in EBX.
    code = SETUP[bits] + "xorl %ebx, %ebx; "
    code += "".join(f"{text}; adcl %ebx, %ebx; " for text in in_memory(bits)[:28])
    end = only_end(run(tmp_path, code + "hlt", bits))
    assert_agree(end, tmp_path, code + "hlt", bits)


@pytest.mark.parametrize("text", ["btl $2, {}", "lock btsl $0, {}", "btrl $2, {}", "btcw $7, {}"])
def test_only_the_carry_flag_is_known_after_it(text: str, tmp_path: Path) -> None:
    code = SETUP[32] + text.format(WORD[32]) + "; hlt"
    end = only_end(run(tmp_path, code, 32))
    assert_agree(end, tmp_path, code, 32, undefined=UNDEFINED)
    flags = {0: True, 2: False, 4: False, 6: False, 7: False, 11: False}
    for bit, known in flags.items():
        assert (not variables(z3.simplify(z3.Extract(bit, bit, end.state.rflags)))) == known


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("size", "index"), [("w", 15), ("l", 31), ("l", 9)])
def test_an_index_in_a_register_that_lies_in_the_word_is_the_same(
    bits: int, size: str, index: int, tmp_path: Path
) -> None:
    register = "%cx" if size == "w" else "%ecx"
    code = f"{SETUP[bits]} movl ${index}, %ecx; btr{size} {register}, {WORD[bits]}; hlt"
    end = only_end(run(tmp_path, code, bits))
    assert_agree(end, tmp_path, code, bits, undefined=UNDEFINED)
    assert [access.size for access in end.accesses[-2:]] == [2 if size == "w" else 4] * 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("movl $32, %ecx; btsl %ecx, OFF(area)(%esi)", "outside the operand"),
        ("movl $-1, %ecx; btsl %ecx, OFF(area)(%esi)", "outside the operand"),
        ("movw $16, %cx; btsw %cx, OFF(area)(%esi)", "outside the operand"),
        ("movl OFF(scratch)(%esi), %ecx; lock btsl %ecx, OFF(area)(%esi)", "outside the operand"),
        ("lock btsw $0, OFF(status)(%esi)", "part of a shared word"),
        (".byte 0xf0, 0x0f, 0xba, 0x66, 0x10, 0x01", "lock prefix"),  # lock bt
        (".byte 0xf0, 0x0f, 0xba, 0xe9, 0x01", "lock prefix"),  # lock bts of a register
    ],
)
def test_what_is_not_a_bit_of_one_word_is_refused(code: str, reason: str, tmp_path: Path) -> None:
    ends = run(tmp_path, f"{code}; hlt", 32).ends
    assert any(end.kind is EndKind.UNSUPPORTED and reason in end.detail for end in ends) or (
        "decode" in ends[0].detail and "0xf0" in code
    )


def test_a_locked_one_is_one_access_that_writes_what_it_saw_and_the_bit(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "lock btsl $4, OFF(status)(%esi); hlt", 32))
    (access,) = (a for a in end.accesses if a.kind == "locked")
    assert access.seen is not None and access.expected is None and access.writes
    for seen in (0, 0x10, 0xFFFF_FFEF):
        values = Chosen({str(access.seen): seen})
        assert value_of(access.value, values) == seen | 0x10
        word = end.memory.read(end.memory.base.at(0x410), 4)
        assert value_of(word, values) == seen | 0x10
        assert value_of(end.state.rflags, values) & 1 == seen >> 4 & 1


def test_one_without_lock_is_a_load_of_a_shared_word_and_a_store(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "btsl $4, OFF(status)(%esi); hlt", 32))
    load, store = end.accesses[-2:]
    assert (load.kind, store.kind) == ("load", "store")
    assert load.seen is not None and store.seen is None
    for seen in (0, 0x10, 0xFFFF_FFEF):
        values = Chosen({str(load.seen): seen})
        assert value_of(store.value, values) == seen | 0x10
        assert value_of(end.state.rflags, values) & 1 == seen >> 4 & 1


def test_each_shared_word_is_open_each_time_it_is_read(tmp_path: Path) -> None:
    code = """lock btsl $0, OFF(scratch)(%esi); setc %al; btl $0, OFF(scratch)(%esi); setc %bl
        movl $5, OFF(scratch)(%esi); movl OFF(scratch)(%esi), %ecx; hlt"""
    end = only_end(run(tmp_path, code, 32, shared=["scratch"]))
    assert len([a for a in end.accesses if a.seen is not None]) == 3
    solver = z3.Solver()
    rax, rbx, rcx = (end.state.registers[name] for name in ("rax", "rbx", "rcx"))
    solver.add(rax & 1 == 1, rbx & 1 == 0, rcx & 0xF == 7)
    assert solver.check() == z3.sat


def test_part_of_any_shared_word_is_refused(tmp_path: Path) -> None:
    code = "movw OFF(scratch)(%esi), %ax; hlt"
    assert "shared word" in refusal(run(tmp_path, code, 32, shared=["scratch"]))
