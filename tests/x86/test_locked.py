# SPDX-License-Identifier: GPL-2.0-only
"""Locked compare-and-exchange, and the status word that the host may write at any time."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import unicorn
import z3
from unicorn import x86_const

from harness.lockstep.assembled import assembled
from harness.x86.registers import FLAGS
from harness.x86.run import EndKind, PathEnd
from tests.x86.small import only_end, refusal, run
from tests.x86.values import Chosen, value_of

DATA = 0x9000  # of unicorn
VALUES = (0, 1, 0x8000_0000, 0xFFFF_FFFF)
DEFINED = tuple(name for name in FLAGS if name != "AF")
OWN_DS = "movw %cs, %ax; movw %ax, %ds; "
BEFORE_HLT = {
    16: f"{OWN_DS}movl $HELD, OFF(area); movl $RAX, %eax; movl $0x12345678, %ecx; ",
    32: "movl $HELD, OFF(area)(%esi); movl $RAX, %eax; movl $0x12345678, %ecx; ",
    64: "movl $HELD, OFF(area)(%rsi); movabsq $0x5555555500000000 + RAX, %rax; "
    "movl $0x12345678, %ecx; ",
}
EXCHANGE = {
    16: "lock cmpxchgl %ecx, OFF(area)",
    32: "lock cmpxchgl %ecx, OFF(area)(%esi)",
    64: "lock cmpxchgl %ecx, OFF(area)(%rsi)",
}


def on_unicorn(bits: int, held: int, rax: int) -> tuple[int, int, int]:
    """Memory, RAX and RFLAGS after the exchange."""
    mode = {16: unicorn.UC_MODE_16, 32: unicorn.UC_MODE_32, 64: unicorn.UC_MODE_64}[bits]
    (code,) = assembled(bits, f"lock cmpxchgl %ecx, {DATA:#x}")
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, mode)
    machine.mem_map(0, 0x10000)
    machine.mem_write(0x1000, code)
    machine.mem_write(DATA, held.to_bytes(4, "little"))
    accumulator = x86_const.UC_X86_REG_RAX if bits == 64 else x86_const.UC_X86_REG_EAX
    machine.reg_write(accumulator, rax)
    machine.reg_write(x86_const.UC_X86_REG_ECX, 0x12345678)
    machine.emu_start(0x1000, 0x1000 + len(code))
    memory = int.from_bytes(machine.mem_read(DATA, 4), "little")
    flags: int = machine.reg_read(x86_const.UC_X86_REG_EFLAGS)
    after: int = machine.reg_read(accumulator)
    return memory, after, flags


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_it_does_what_unicorn_does(bits: int, tmp_path: Path) -> None:
    for number, (held, low) in enumerate(itertools.product(VALUES, VALUES)):
        folder = tmp_path / str(number)
        folder.mkdir()
        setup = BEFORE_HLT[bits].replace("HELD", hex(held)).replace("RAX", hex(low))
        end = only_end(run(folder, setup + EXCHANGE[bits] + "; hlt", bits))
        rax = low | (0x5555_5555_0000_0000 if bits == 64 else 0)
        memory, after, rflags = on_unicorn(bits, held, rax)
        area = end.memory.read(end.memory.base.at(0x1000), 4)
        assert value_of(area, Chosen()) == memory
        width = (1 << 64) - 1 if bits == 64 else 0xFFFF_FFFF
        assert value_of(end.state.registers["rax"], Chosen()) & width == after
        kept = value_of(end.state.registers["rax"], Chosen(undefined_by_cmpxchg=1))
        assert kept & width == (rax if held == low else after)
        flags = value_of(end.state.rflags, Chosen())
        mask = sum(1 << FLAGS[name] for name in DEFINED if name not in ("IF", "TF"))
        assert flags & mask == rflags & mask


def parked(code: str, tmp_path: Path) -> list[PathEnd]:
    ends = run(tmp_path, OWN_DS + code, 16).ends
    assert all(end.kind is EndKind.PARKED for end in ends)
    return list(ends)


def test_what_the_status_word_holds_is_open_each_time_it_is_read(tmp_path: Path) -> None:
    code = "movl $7, OFF(status); movl OFF(status), %ebx; movl OFF(status), %ecx; hlt"
    (end,) = parked(code, tmp_path)
    first, second = (end.state.registers[name] for name in ("rbx", "rcx"))
    solver = z3.Solver()
    solver.add(first != second)
    assert solver.check() == z3.sat


def test_a_locked_access_says_what_it_expects_saw_and_writes(tmp_path: Path) -> None:
    code = "movl $7, %eax; movl $9, %ecx; lock cmpxchgl %ecx, OFF(status); jne 1f; nop; 1: hlt"
    ends = parked(code, tmp_path)
    assert len(ends) == 2  # it found 7, or something else
    (access,) = (a for a in ends[0].accesses if a.kind == "locked")
    assert access.expected is not None and access.seen is not None and access.writes
    assert (value_of(access.expected, Chosen()), value_of(access.value, Chosen())) == (7, 9)
    found = {value_of(end.condition, Chosen({str(access.seen): 7})) for end in ends}
    assert found == {0, 1}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("movw OFF(status), %ax; hlt", "a load of part of a shared word"),
        ("movl OFF(status) - 2, %eax; hlt", "a load of part of a shared word"),
        ("cmpxchgl %ecx, OFF(area); hlt", "not modelled"),
        ("lock incl OFF(area); hlt", "lock"),
    ],
)
def test_what_is_not_one_access_to_the_whole_word_is_refused(
    code: str, reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(run(tmp_path, OWN_DS + code, 16))


def test_the_status_word_is_not_executed(tmp_path: Path) -> None:
    code = f"{OWN_DS}jmp status"
    assert "content at entry is unknown" in refusal(run(tmp_path, code, 16))
