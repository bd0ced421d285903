# SPDX-License-Identifier: GPL-2.0-only
"""Loops that wait for a shared word: one round stands for all that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import z3

from harness.x86.cpu import Cpu
from harness.x86.prover import Prover
from harness.x86.run import EndKind, Run
from harness.x86.waits import MAX_READINGS
from tests.x86.small import run
from tests.x86.values import Chosen, value_of

WORD = "OFF(scratch)(%esi)"
LOCK = "1: lock btsl $0, {}; jnc 2f; pause; jmp 1b; 2: "
WAITS = {
    "a spin lock": LOCK.format(WORD),
    "a fair spin lock": f"1: lock btsl $0, {WORD}; jnc 3f; 2: pause; testl $1, {WORD}; jnz 2b; "
    "jmp 1b; 3: ",
    "a lock that tests first": f"1: btl $0, {WORD}; jc 2f; lock btsl $0, {WORD}; jnc 3f; "
    "2: pause; jmp 1b; 3: ",
    "a lock without LOCK": f"1: btsl $0, {WORD}; jnc 2f; pause; jmp 1b; 2: ",
    "a lock with LOCK the first time only": f"lock; 1: btsl $0, {WORD}; jnc 2f; pause; jmp 1b; 2: ",
    "a comparison": f"1: pause; cmpl $5, {WORD}; jne 1b; ",
    "a load": f"1: movl {WORD}, %eax; pause; testl %eax, %eax; jz 1b; ",
    "a bit": f"1: btl $3, {WORD}; jnc 1b; ",
    "a compare-exchange": f"movl $1, %ecx; 1: xorl %eax, %eax; lock cmpxchgl %ecx, {WORD}; "
    "jnz 1b; ",
}


def shared(code: str, tmp_path: Path, bits: int = 32, base: int | None = 0x8000) -> Run:
    return run(tmp_path, f"{code} hlt", bits, base=base, shared=["scratch"])


def kinds(result: Run) -> list[str]:
    return sorted(end.kind.name for end in result.ends)


def covers(result: Run) -> bool:
    """Every input takes a path."""
    conditions = [end.condition for end in result.ends]
    return Prover(result.hypotheses).holds((), z3.Or(*conditions))


@pytest.mark.parametrize("name", WAITS)
def test_a_loop_that_waits_ends_so_and_the_way_out_goes_on(name: str, tmp_path: Path) -> None:
    result = shared(WAITS[name], tmp_path)
    assert set(kinds(result)) == {"PARKED", "WAITING"}
    assert covers(result)


@pytest.mark.parametrize("name", ["a spin lock", "a comparison", "a load", "a compare-exchange"])
def test_it_is_left_once_for_all_rounds(name: str, tmp_path: Path) -> None:
    assert kinds(shared(WAITS[name], tmp_path)) == ["PARKED", "WAITING"]


@pytest.mark.parametrize(
    "name",
    [
        *("a spin lock", "a lock without LOCK", "a lock with LOCK the first time only"),
        "a comparison",
    ],
)
def test_it_says_where_the_round_began(name: str, tmp_path: Path) -> None:
    for end in shared(WAITS[name], tmp_path).ends:
        if end.kind is EndKind.WAITING:
            assert end.round is not None
            begun, last = end.accesses[end.round], end.accesses[-1]
            assert begun.seen is not None
            assert begun.instruction == last.instruction == end.trace[-1][0]
        else:
            assert end.round is None


@pytest.mark.parametrize(("bits", "register"), [(32, "%esi"), (64, "%rsi")])
def test_it_is_so_at_all_bases_and_with_paging(bits: int, register: str, tmp_path: Path) -> None:
    result = shared(LOCK.format(f"OFF(scratch)({register})"), tmp_path, bits, base=None)
    assert kinds(result) == ["PARKED", "WAITING"]


def test_it_is_so_in_real_mode(tmp_path: Path) -> None:
    code = "movw %cs, %ax; movw %ax, %ds; " + LOCK.format("OFF(scratch)")
    assert kinds(shared(code, tmp_path, 16)) == ["PARKED", "WAITING"]


def test_the_way_out_has_taken_the_lock(tmp_path: Path) -> None:
    result = shared(WAITS["a spin lock"], tmp_path)
    (end,) = result.ends_of(EndKind.PARKED)
    (access,) = (a for a in end.accesses if a.seen is not None)
    assert access.seen is not None
    assert Prover(result.hypotheses).holds(end.path, access.seen & 1 == 0)
    assert Prover(result.hypotheses).holds(end.path, access.value == access.seen | 1)


def test_two_locks_are_waited_for_one_after_the_other(tmp_path: Path) -> None:
    second = LOCK.format("OFF(status)(%esi)").replace("1", "3").replace("$0", "$1")
    code = WAITS["a spin lock"] + second.replace("2f", "4f").replace("2:", "4:")
    result = shared(code, tmp_path)
    assert kinds(result) == ["PARKED", "WAITING", "WAITING"]
    assert covers(result)


CHANGES = {
    "a counter": f"1: incl %edx; movl {WORD}, %eax; testl %eax, %eax; jz 1b; ",
    "a counted wait": f"movl $20, %ecx; 1: btl $0, {WORD}; jc 2f; decl %ecx; jnz 1b; 2: ",
    "a store of what was read": f"1: movl {WORD}, %eax; movl %eax, OFF(area)(%esi); "
    "testl %eax, %eax; jz 1b; ",
    "a store to the shared word": f"1: movl {WORD}, %eax; movl $1, {WORD}; testl %eax, %eax; "
    "jz 1b; ",
    "a lock that changes the word": f"1: lock btcl $0, {WORD}; jnc 1b; ",
    "a sum of all that was read": f"1: movl {WORD}, %eax; addl %eax, %ebx; testl $1, %eax; jz 1b; ",
    "what the last round saw": f"1: movl %eax, %ebx; movl {WORD}, %eax; testl $1, %eax; jz 1b; ",
    "a carry that is kept": f"clc; 1: movl {WORD}, %eax; setc %bl; movzbl %bl, %ebx; "
    "addl $0x7fffffff, %eax; jno 1b; ",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_round_that_changes_something_is_not_taken_for_waiting_at_once(
    name: str, tmp_path: Path
) -> None:
    """The way out after one round leaves another state than that after none, and is there."""
    result = shared(CHANGES[name], tmp_path)
    assert len(result.ends_of(EndKind.PARKED)) > 1


def test_the_rounds_of_a_counter_are_all_different(tmp_path: Path) -> None:
    result = shared("xorl %edx, %edx; " + CHANGES["a counter"], tmp_path)
    assert not result.ends_of(EndKind.WAITING)
    counted = [
        value_of(end.state.registers["rdx"], Chosen()) & 0xFF
        for end in result.ends_of(EndKind.PARKED)
    ]
    assert counted == list(range(1, len(counted) + 1))
    assert "more than" in result.ends_of(EndKind.UNSUPPORTED)[0].detail


def test_what_the_last_round_saw_is_still_open_on_the_way_out(tmp_path: Path) -> None:
    result = shared("movl $7, %eax; " + CHANGES["what the last round saw"], tmp_path)
    ends = result.ends_of(EndKind.PARKED)
    solver = z3.Solver()
    found = [z3.Extract(31, 0, end.state.registers["rbx"]) for end in ends]
    solver.add(z3.Or(*(z3.And(*e.path, rbx == 10) for e, rbx in zip(ends, found, strict=True))))
    assert solver.check() == z3.sat


def test_a_path_that_reads_shared_words_for_ever_is_refused_soon(tmp_path: Path) -> None:
    (end,) = shared(f"1: lock btcl $0, {WORD}; jmp 1b; ", tmp_path).ends
    assert end.kind is EndKind.UNSUPPORTED
    assert f"more than {MAX_READINGS} reads of shared words on one path" in end.detail


def test_a_cpu_that_differs_in_what_nobody_thought_of_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Cpu.copy

    def copy(self: Cpu, memo: dict[int, Any] | None = None) -> Cpu:
        twin = copied(self, memo)
        twin.later = object()  # type: ignore[attr-defined]
        return twin

    monkeypatch.setattr(Cpu, "copy", copy)
    result = shared(WAITS["a spin lock"], tmp_path)
    assert kinds(result)[-1] == "UNSUPPORTED"


@pytest.mark.parametrize("back", ["jmp 1b", "testl %ebx, %ebx; jnz 1b"])
def test_a_loop_that_is_never_left_spins(back: str, tmp_path: Path) -> None:
    code = f"movl $1, %eax; cpuid; testl %ebx, %ebx; jz 2f; 1: movl {WORD}, %eax; {back}; 2: "
    assert kinds(shared(code, tmp_path)) == ["PARKED", "SPINNING"]


def test_a_word_that_nobody_else_writes_is_not_waited_for(tmp_path: Path) -> None:
    code = WAITS["a comparison"].replace("scratch", "area") + "hlt"
    ends = run(tmp_path, code, 32).ends
    assert EndKind.WAITING not in {end.kind for end in ends}
