# SPDX-License-Identifier: GPL-2.0-only
"""What a proof does not use is told from what it does; and nothing is said of what is no proof."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import z3

from harness.solve.core import core
from harness.x86.execute import execute
from proofs import needed as module
from proofs.needed import guard_of, lines, main, needed
from proofs.subject import Subject
from proofs.two_starts import Other
from reports.fingerprint import ROOT
from tests.proofs.variants import TINY
from trampoline.contract import load_contract
from trampoline.image import load_image

A, B, C = (z3.BitVec(name, 64) for name in "abc")
MEMORY = z3.Array("memory", z3.BitVecSort(64), z3.BitVecSort(8))


@pytest.mark.parametrize(
    ("hypotheses", "goal", "used"),
    [
        ([z3.ULT(A, 4), B == A, C == 3], z3.ULT(B, 4), {0, 1}),
        ([z3.ULT(A, 4), B == A, C == 3], C == 3, {2}),
        ([z3.BoolVal(True), A == 1], A + 1 == 2, {1}),
        ([A == B, MEMORY[A] == 7], MEMORY[B] == 7, {0, 1}),
        ([A == 1], B ^ B == 0, set()),
        ([A == 1, A == 2], B == 0, {0, 1}),
    ],
)
def test_the_core_is_what_the_goal_needs(
    hypotheses: list[z3.BoolRef], goal: z3.BoolRef, used: set[int]
) -> None:
    assert core(hypotheses, goal) == frozenset(used)


def test_what_does_not_follow_has_no_core() -> None:
    assert core([z3.ULT(A, 4)], z3.ULT(A, 3)) is None


def test_each_assumption_says_which_claims_use_it() -> None:
    found = needed(TINY / "contract.toml")
    assert found.open == () and found.obligations > 20
    assert 0 < found.unused < found.hypotheses
    (base,) = [sentence for sentence in found.uses if "page-aligned base" in sentence]
    assert "kernel_identity_map" in found.uses[base]
    assert not any("A20" in sentence for sentence in found.uses)  # it restricts no input
    assert all(line.startswith("tiny: ") for line in lines(found))


def test_an_assumption_that_none_or_all_use_is_said_to() -> None:
    found = module.Needed("t", {"one": (), "two": ("a", "b")}, ("a", "b"), 1, 1, 1, ())
    assert lines(found) == ["t: one: used by no proof", "t: two: used by every claim"]


def test_an_obligation_without_a_proof_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "core", lambda *_: None)
    found = needed(TINY / "contract.toml")
    assert len(found.open) == found.obligations
    assert guard_of([found], "m", 1.0, True).problems


def test_a_wrong_contract_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.toml")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "none.toml" in said


def test_the_guard_file_is_json_that_names_the_command() -> None:
    found = module.Needed("t", {}, (), 0, 0, 0, ())
    assert json.loads(guard_of([found], "m", 1.0, True).model_dump_json())["command"].endswith(
        "needed"
    )


def test_a_trampoline_without_obligations_is_a_problem_and_the_guard_is_of_the_begin() -> None:
    found = guard_of([module.Needed("t", {}, (), 0, 0, 0, ())], "m", 1.0, True)
    assert found.problems == ("t: it has no obligation",) and found.fingerprint == "m"


def test_an_assumption_that_only_the_other_start_needs_is_used() -> None:
    contract = load_contract(ROOT / "trampoline" / "start64" / "contract.toml")
    image = load_image(contract)
    subject = Subject(contract, image, execute(contract, image))
    other = Other(subject, same_entry=False)
    renamed = [
        (sentence, there)
        for sentence, condition in subject.run.assumptions
        if not (there := other.of(condition)).eq(condition)
    ]
    assert renamed
    known = module.assumed(subject)
    assert all(sentence in known[there.get_id()][1] for sentence, there in renamed)
