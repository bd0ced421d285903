# SPDX-License-Identifier: GPL-2.0-only
"""What holds is certified; what does not hold, or shows nothing, never is."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.certify import certify as certifying
from harness.certify import lrat, operations
from harness.certify.certify import Certificate, Certifier, Verdict
from harness.certify.circuit import Clause
from harness.certify.formula import Formula
from harness.certify.record import recorded
from harness.certify.sat import LIMIT, Cadical
from harness.solve.obligation import Obligation
from harness.x86.execute import execute
from harness.x86.terms import ENTRY_MEMORY
from proofs.certify import collected
from proofs.subject import Subject
from tests.solve.toys import X, Y, byte
from trampoline.contract import load_contract
from trampoline.image import load_image
from trampoline.shipped import contract_of

SMALL = Obligation("small", (z3.ULT(X, 8), Y == X + 1), {"sum": z3.ULT(X + Y, 16)})
HELD = z3.Select(ENTRY_MEMORY, z3.ZeroExt(32, X)), z3.Select(ENTRY_MEMORY, z3.ZeroExt(32, Y))
SAME = Obligation("the same byte", (X - Y == 0,), {"equal": HELD[0] == HELD[1]})


def certified(obligation: Obligation, solver: Cadical | None = None) -> Certificate:
    return Certifier(solver or Cadical()).certify(obligation)


@pytest.mark.parametrize("obligation", [SMALL, SAME], ids=lambda one: one.name)
def test_what_holds_is_certified_with_a_proof_that_is_accepted(obligation: Obligation) -> None:
    found = certified(obligation)
    assert (found.verdict, found.reason) == (Verdict.CERTIFIED, "")
    (proof,) = found.proofs
    assert lrat.check(proof.dimacs, proof.lrat) == proof.steps
    assert len(lrat.read_dimacs(proof.dimacs)) == proof.clauses


@pytest.mark.parametrize(
    "goal",
    [
        {"sum": z3.ULT(X + Y, 15)},
        {"sum": z3.ULT(X + Y, 16), "byte": byte(7) != 3},
        {"sum": HELD[0] == HELD[1]},
        {"never": z3.BoolVal(False)},
    ],
)
def test_what_does_not_hold_fails(goal: dict[str, z3.BoolRef]) -> None:
    found = certified(Obligation("false", SMALL.hypotheses, goal))
    assert found.verdict is Verdict.FAILED
    assert "breaks the goal" in found.reason
    assert found.proofs == ()


def test_hypotheses_that_nothing_meets_certify_nothing() -> None:
    found = certified(Obligation("vacuous", (z3.ULT(X, 8), z3.UGT(X, 9)), {"so": Y == 1}))
    assert (found.verdict, found.proofs) == (Verdict.NOT_CERTIFIED, ())
    assert "meets the hypotheses" in found.reason


def test_an_operation_without_gates_is_not_certified_and_named() -> None:
    found = certified(Obligation("division", (X != 0,), {"small": z3.ULE(z3.UDiv(Y, X), Y)}))
    assert found.verdict is Verdict.NOT_CERTIFIED
    assert "bvudiv" in found.reason


def test_gates_that_no_solver_decides_leave_it_not_certified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operations, "bitwuzla_answers", lambda script, limit: "none")
    found = certified(SMALL)
    assert found.verdict is Verdict.NOT_CERTIFIED
    assert "gates of" in found.reason


def test_reasons_are_proved_in_two_steps_and_wrong_ones_are_not_believed() -> None:
    right = Obligation("two steps", SMALL.hypotheses, SMALL.goals, because=(z3.ULT(X + Y, 16),))
    assert [proof.question for proof in certified(right).proofs] == [
        "hypotheses and a broken reason",
        "the reasons and a broken goal",
    ]
    for reason in (z3.ULT(X, 7), z3.ULT(X, 9)):  # not implied; not enough
        found = certified(
            Obligation("wrong reason", SMALL.hypotheses, SMALL.goals, because=(reason,))
        )
        assert found.verdict is Verdict.CERTIFIED
        assert [proof.question for proof in found.proofs] == ["hypotheses and a broken goal"]
    false = {"sum": z3.ULT(X + Y, 15)}
    found = certified(Obligation("false", SMALL.hypotheses, false, because=(z3.ULT(X, 8),)))
    assert found.verdict is Verdict.FAILED


class Lies(Cadical):
    """Says of everything that it is contradictory at once."""

    def proof(self, dimacs: str, limit: int = 0) -> list[Clause]:
        return [()]


def test_a_solver_that_lies_certifies_nothing() -> None:
    found = certified(Obligation("false", (z3.ULT(X, 8),), {"so": z3.ULT(X, 7)}), Lies())
    assert found.verdict is Verdict.FAILED
    assert "does not follow" in found.reason


def test_reasons_that_are_made_up_certify_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certifying, "written", lambda steps: "9999 0 1 2 0\n")
    found = certified(Obligation("false", (z3.ULT(X, 8),), {"so": z3.ULT(X, 7)}), Lies())
    assert found.verdict is Verdict.FAILED
    monkeypatch.setattr(certifying, "elaborate", lambda given, proof: [])
    found = certified(Obligation("false", (z3.ULT(X, 8),), {"so": z3.ULT(X, 7)}), Lies())
    assert (found.verdict, found.proofs) == (Verdict.FAILED, ())
    assert "step 9999" in found.reason


def test_clauses_of_a_stronger_claim_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stronger = Formula((X != X, X == X, X == X))
    monkeypatch.setattr(certifying, "Formula", lambda conditions: stronger)
    found = certified(Obligation("false", (z3.ULT(X, 8), X == X), {"so": z3.ULT(X, 7)}))
    assert found.verdict is Verdict.FAILED
    assert "condition 1" in found.reason


def test_a_solver_that_gives_up_leaves_it_not_certified(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\n[ $1 = --version ] && echo 1.0 || echo c UNKNOWN\n")
    slow.chmod(0o755)
    found = certified(SMALL, Cadical(str(slow)))
    assert found.verdict is Verdict.NOT_CERTIFIED
    assert f"gave up within {LIMIT} s" in found.reason


def test_a_proof_of_an_earlier_run_is_checked_again_and_not_found_again() -> None:
    first = certified(SMALL)
    kept = {proof.name: proof.lrat for proof in first.proofs}
    again = Certifier(Lies(), kept.get).certify(SMALL)
    assert again.verdict is Verdict.CERTIFIED
    damaged = {name: text.split("\n", 1)[1] for name, text in kept.items()}
    again = Certifier(Cadical(), damaged.get).certify(SMALL)
    assert again.verdict is Verdict.FAILED


def test_what_the_verified_checker_rejects_has_failed() -> None:
    found = certified(SMALL)
    (proof,) = found.proofs
    assert recorded(found, "own", None, {}).verdict is Verdict.CERTIFIED
    assert recorded(found, "own", "other", {proof.name: True}).proofs[0].checkers == (
        "own",
        "other",
    )
    rejected = recorded(found, "own", "other", {proof.name: False})
    assert rejected.verdict is Verdict.FAILED
    assert proof.name in rejected.reason
    assert rejected.proofs[0].checkers == ("own",)


def shipped(name: str) -> Subject:
    contract = load_contract(contract_of(name))
    image = load_image(contract)
    return Subject(contract, image, execute(contract, image))


def test_the_identity_map_of_a_shipped_trampoline_is_certified() -> None:
    found = certified(collected(shipped("legoos"), "kernel_identity_map")[0])
    assert (found.verdict, found.reason) == (Verdict.CERTIFIED, "")
    assert found.proofs[0].steps > 100


def test_the_finding_of_a_shipped_trampoline_is_not_certified() -> None:
    certifier = Certifier(Cadical())
    found = [certifier.certify(one) for one in collected(shipped("legoos_posted"), "hand_off")]
    assert {one.verdict for one in found} == {Verdict.CERTIFIED, Verdict.FAILED}
