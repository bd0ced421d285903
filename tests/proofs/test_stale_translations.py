# SPDX-License-Identifier: GPL-2.0-only
"""A store that changes a present table entry is found, also among the stores of a small loop.

The mutants end with the right tables, so that only the claim on stale translations can tell.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import z3

from harness.replay.predict import Predictor
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Verdict
from harness.x86.execute import execute
from harness.x86.solver import ask
from proofs.prove import Prove
from proofs.subject import Subject
from proofs.test_stale import _spares_tables
from proofs.test_stale import test_no_stale_translation as claim
from tests.proofs.variants import MULTIKERNEL, ONE_BASE, variant
from trampoline.contract import load_contract
from trampoline.image import load_image

LOAD_CR3 = "\tmovl\t%eax, %cr3\n"
POOL = "\tleaq\tOFF(pgtable_extra_bsp)(%rsi), %rdx\n"
FIRST, TURNS = 98, 6
"""The loop writes this entry of the first page directory and those behind it. Its first and its
last turn are executed, those between are summarised."""
LOOP = f"""
	leaq	TABLE(2) + {FIRST} * ENTRY_SIZE(%rsi), %rdi
	movl	$({FIRST} * LARGE_PAGE_SIZE + LARGE_PAGE_FLAGS), %eax
	movl	${TURNS}, %ecx
1:	movq	%rax, (%rdi)
	addq	$LARGE_PAGE_SIZE, %rax
	addq	$ENTRY_SIZE, %rdi
	decl	%ecx
	jnz	1b
"""

EVERYDAY = {"sipi_vector": 0x90, "kernel_phys_addr": 16 << 20, "maxphyaddr": 40}


def elsewhere(entry: int) -> str:
    """Before paging is on: maps the 2 MiB of an entry to 1 GiB."""
    return f"\tmovl\t$(0x40000000 + LARGE_PAGE_FLAGS), TABLE(2) + {entry} * ENTRY_SIZE(%esi)\n"


def refuted(folder: Path, before_paging: str) -> list[int]:
    """Which of the loop's stores are refuted; the others must be PROVED."""
    edits = {LOAD_CR3: before_paging + LOAD_CR3, POOL: LOOP + POOL}
    contract = load_contract(variant(folder, MULTIKERNEL, edits, ONE_BASE))
    image = load_image(contract)
    run = execute(contract, image)
    subject, predictor = Subject(contract, image, run), Predictor(contract, image, run)
    assert len(subject.hand_offs) == 1 and not subject.gaps
    stores: list[Obligation] = []

    def collect(name: str, *obligations: Obligation) -> None:
        stores.extend(o for o in obligations if "after table store" in o.name)

    claim(subject, cast(Prove, collect))  # the loop's stores are the first with paging on
    verdicts = [decide(o, predictor).verdict for o in stores[:TURNS]]
    assert set(verdicts) <= {Verdict.PROVED, Verdict.REFUTED}
    return [turn for turn, verdict in enumerate(verdicts) if verdict is Verdict.REFUTED]


@pytest.mark.parametrize("turn", [0, 1, 3, TURNS - 1])
def test_the_store_that_changes_a_present_entry_is_refuted(turn: int, tmp_path: Path) -> None:
    assert refuted(tmp_path, elsewhere(FIRST + turn)) == [turn]


@pytest.mark.parametrize("entry", [FIRST - 1, FIRST + TURNS])
def test_an_entry_beside_the_loop_is_not_changed_by_it(entry: int, tmp_path: Path) -> None:
    assert refuted(tmp_path, elsewhere(entry)) == []


def test_two_changed_entries_are_two_refutations(tmp_path: Path) -> None:
    assert refuted(tmp_path, elsewhere(FIRST + 1) + elsewhere(FIRST + 4)) == [1, 4]


def test_each_store_of_an_instruction_that_stores_twice_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A goal that another one replaced would be proved unasked."""
    contract = load_contract(MULTIKERNEL.parent / "start64" / "contract.toml")
    image = load_image(contract)
    subject = Subject(contract, image, execute(contract, image))
    end = next(e for e in subject.hand_offs if any(a.writes and a.paged for a in e.accesses))
    good = next(access for access in end.accesses if access.writes and access.paged)
    root = z3.BitVec("cr3_at_hand_over", 64) & ~0xFFF
    bad = replace(good, linear=root)
    monkeypatch.setattr(Subject, "of", lambda self, end: "a path")
    for order in ((bad, good), (good, bad), (bad, bad)):
        obligation = _spares_tables(subject, replace(end, accesses=order))
        assert len(obligation.goals) == 3  # and that none is made at all
        wrong = [name for name, goal in obligation.goals.items() if not proved(obligation, goal)]
        assert len(wrong) == order.count(bad)


def proved(obligation: Obligation, goal: z3.BoolRef) -> bool:
    return bool(ask((*obligation.hypotheses, z3.Not(goal)), 10_000_000).status == z3.unsat)
