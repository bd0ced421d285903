# SPDX-License-Identifier: GPL-2.0-only
"""A trampoline is changed in all the ways that are said, and what came of each mutant is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import z3

from harness.qemu.job import OutcomeKind
from harness.replay.evidence import Machines
from harness.x86.execute import execute
from harness.x86.run import Run
from proofs.mutants import trial as mutants
from proofs.mutants.kinds import Change
from proofs.mutants.same import differences
from proofs.mutants.same import explained as left_open
from proofs.mutants.trial import CONTRADICTED, Trial
from reports.fingerprint import ROOT
from tests.proofs.variants import TINY, variant

TINY_CONTRACT = TINY / "contract.toml"


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with Machines() as running:
        yield running


@pytest.fixture(scope="module")
def trial(machines: Machines) -> Trial:
    subject = Trial(TINY_CONTRACT, machines)
    assert subject.original()[0] == ""
    return subject


def the(trial: Trial, kind: str, was: str, becomes: str | None = None) -> Change:
    """The one mutant that fits."""
    found = [
        change
        for change in trial.changes
        if (change.kind, change.was) == (kind, was) and becomes in (None, change.becomes)
    ]
    assert len(found) == 1, found
    return found[0]


def test_every_instruction_is_changed_in_every_way(trial: Trial) -> None:
    executed = set(execute(trial.contract, trial.image).covered)
    for kind in ("dropped", "duplicated"):
        assert {c.offset for c in trial.changes if c.kind == kind} == executed
    assert len({change.name for change in trial.changes}) == len(trial.changes)


@pytest.mark.parametrize(
    ("kind", "was", "becomes"),
    [
        ("swapped", "mov ds, ax", "mov dword ptr [0x160], 1; mov ds, ax"),
        ("immediate", "or eax, 0x20", "or eax, 0x21"),
        ("immediate", "or eax, 0x20", "or eax, 0"),
        ("immediate", "or eax, 0x20", "or eax, 0xffffffa0"),
        ("register", "mov ds, ax", "mov ds, cx"),
        ("register", "mov ds, ax", "mov ss, ax"),
        ("register", "mov r14, qword ptr [rsi + 0x150]", "mov r15, qword ptr [rsi + 0x150]"),
        ("register", "mov r14, qword ptr [rsi + 0x150]", "mov r14, qword ptr [rdi + 0x150]"),
        ("width", "mov r14, qword ptr [rsi + 0x150]", "mov r14d, dword ptr [rsi + 0x150]"),
        ("displacement", "mov r14, qword ptr [rsi + 0x150]", "mov r14, qword ptr [rsi + 0x151]"),
        ("width", "shl esi, 4", "shl si, 4"),
        ("operation", "cld", "std"),
    ],
)
def test_a_change_of_this_kind_is_made(trial: Trial, kind: str, was: str, becomes: str) -> None:
    change = the(trial, kind, was, becomes)
    assert change.data and len(change.data) >= change.length


def test_conditions_are_turned_round(trial: Trial) -> None:
    turned = {(c.was[:3], c.becomes[:3]) for c in trial.changes if c.kind == "condition"}
    assert turned == {("jne", "je "), ("ja ", "jbe"), ("jb ", "jae")}


def test_each_bit_of_a_descriptor_and_of_a_table_pointer_is_turned_round(trial: Trial) -> None:
    symbols = trial.image.symbols
    bits = [c for c in trial.changes if c.kind == "bit of a table"]
    gdt = range(symbols["gdt"], symbols["gdt_end"])
    assert {c.offset for c in bits} == {*gdt, *range(symbols["gdt"] - 6, symbols["gdt"])}
    assert all(bin(c.data[0] ^ trial.image.data[c.offset]).count("1") == 1 for c in bits)


@pytest.mark.parametrize(
    ("kind", "was", "becomes", "verdict", "claim"),
    [
        ("dropped", "mov ds, ax", None, "UNSUPPORTED", "paths"),
        ("immediate", "or eax, 0x20", "or eax, 0", "REFUTED", "no_fault"),
        ("dropped", "mov esp, esp", None, "REFUTED", "stack"),
        ("duplicated", "mov esp, esp", None, "EQUIVALENT", ""),
        ("dropped", "mov gs, eax", None, "REFUTED", "determined"),
    ],
)
def test_what_comes_of_a_mutant(
    trial: Trial, kind: str, was: str, becomes: str | None, verdict: str, claim: str
) -> None:
    outcome = trial.of(the(trial, kind, was, becomes))
    assert (outcome.verdict, outcome.claim) == (verdict, claim), outcome


def test_what_no_claim_notices_is_replayed_in_qemu(trial: Trial) -> None:
    assert trial.of(the(trial, "duplicated", "mov esp, esp")).replays > 0
    assert trial.of(the(trial, "dropped", "mov esp, esp")).replays == 0  # a claim notices it


def test_a_proof_that_is_wrong_is_contradicted_there(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine takes the mutant for the original, and no claim is asked."""
    subject = Trial(TINY_CONTRACT, machines)
    subject.claims = ()
    of_original = partial(execute, subject.contract, subject.image)
    monkeypatch.setattr(mutants, "execute", lambda _contract, _image, base=None: of_original(base))
    outcome = subject.of(the(subject, "immediate", "or eax, 0x20", "or eax, 0"))
    assert outcome.verdict == CONTRADICTED
    assert outcome.reason == f"in QEMU outcome: {OutcomeKind.SHUTDOWN}"


def test_a_label_is_not_written_twice(trial: Trial) -> None:
    looped = [
        c
        for c in trial.changes
        if c.kind == "duplicated" and c.was.startswith("mov dword ptr [edi]")
    ]
    assert len(looped) == 1
    assert trial.of(looped[0]).verdict != "NOT BUILT"


def test_a_run_is_the_same_as_itself_and_no_other(trial: Trial) -> None:
    again = execute(trial.contract, trial.image)
    assert differences(trial.run, again) == ()
    end = again.ends[0]
    assert differences(trial.run, replace(again, lost="a path")) != ()
    assert differences(trial.run, replace(again, ends=again.ends[1:])) != ()
    fewer = replace(end, accesses=())
    assert "writes" in differences(trial.run, replace(again, ends=(fewer, *again.ends[1:])))[0]


def test_only_registers_that_a_kernel_must_not_rely_on_are_left_open() -> None:
    assert left_open(()) and left_open(("rax", "r15"))
    for name in ("rsi", "rsp", "rip", "cr0", "cs", "rflags", "the value of a store"):
        assert not left_open(("rax", name))


LEGOOS = ROOT / "trampoline" / "legoos"


def test_a_read_that_comes_after_the_lock_is_free_is_noticed(tmp_path: Path) -> None:
    """All that is written stays the same, and so does the CPU."""
    read = {"no_long_mode:\n": "no_long_mode:\n\tmovl\tOFF(tr_idt), %ecx\n"}
    trial = Trial(variant(tmp_path, LEGOOS, read))
    swapped = [change for change in trial.changes if change.kind == "swapped"]
    (late,) = [change for change in swapped if change.becomes.startswith("lock btr")]
    assert trial.of(late).claim == "one_at_a_time"
    assert trial.of(late, without="one_at_a_time").verdict == "EQUIVALENT"


def test_a_trampoline_that_is_not_used_by_one_at_a_time_has_no_mutants(tmp_path: Path) -> None:
    no_lock = {"1:\tlock btsl\t$LOCK_BIT, OFF(tr_lock)": "1:\tbtl\t$LOCK_BIT, OFF(tr_lock)"}
    subject = Trial(variant(tmp_path, LEGOOS, no_lock))
    subject.claims = ()
    assert subject.original()[0] == "one_at_a_time"


def test_an_instruction_with_a_colon_behind_it_is_written_twice(tmp_path: Path) -> None:
    subject = Trial(LEGOOS / "contract.toml")
    (halt,) = [c for c in subject.changes if (c.kind, c.was) == ("duplicated", "hlt")]
    assert ": for good */" in (LEGOOS / "trampoline.S").read_text()
    assert subject.of(halt).verdict != "NOT BUILT"


def test_a_table_that_a_loop_fills_otherwise_is_no_copy(trial: Trial) -> None:
    end = next(end for end in trial.run.ends if any(a.count > 1 for a in end.accesses))
    other = tuple(
        replace(one, value=one.value ^ 0x10) if one.count > 1 else one for one in end.accesses
    )
    ends = tuple(replace(one, accesses=other) if one is end else one for one in trial.run.ends)
    found = differences(trial.run, replace(trial.run, ends=ends))
    assert found and not left_open(found)


def test_which_read_of_a_shared_word_decides_makes_a_difference(trial: Trial) -> None:
    end, seen = trial.run.ends[0], [z3.BitVec(f"status_seen_{n}", 32) for n in (1, 2)]
    reads = tuple(replace(end.accesses[0], kind="load", seen=one, value=one) for one in seen)

    def decides(which: z3.BitVecRef) -> Run:
        path = (*end.path, which == 1)
        first = replace(end, path=path, accesses=(*reads, *end.accesses))
        return replace(trial.run, ends=(first, *trial.run.ends[1:]))

    assert differences(decides(seen[1]), decides(seen[1])) == ()
    assert differences(decides(seen[1]), decides(seen[0])) == ("which inputs take a path",)
