# SPDX-License-Identifier: GPL-2.0-only
"""A run that lost a path proves nothing, nor does one that was refused somewhere."""

from __future__ import annotations

import pytest
import z3

from harness.replay.evidence import Machines
from harness.solve.obligation import Obligation, Verdict
from harness.x86 import execute as execution
from proofs.prove import Court
from proofs.subject import Subject
from tests.proofs.variants import TINY
from trampoline.contract import load_contract
from trampoline.image import load_image


def test_a_claim_on_a_run_with_lost_paths_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "MAX_PATHS", 0)
    contract = load_contract(TINY / "contract.toml")
    image = load_image(contract)
    run = execution.execute(contract, image)
    assert "more than 0 paths" in run.lost
    court = Court(Subject(contract, image, run), Machines(), lambda text: None)
    record = court.judge("paths", "no path is lost", ())
    assert record.verdict == Verdict.INCOMPLETE
    assert run.lost in record.reason
    assert not record.as_expected


HOLDS = Obligation("it holds", (), {"true": z3.BoolVal(True)})
FAILS = Obligation("it fails", (), {"false": z3.BoolVal(False)})


@pytest.mark.parametrize(
    ("obligation", "gaps", "verdict"),
    [
        (HOLDS, (), Verdict.PROVED),
        (HOLDS, ("at image offset 0x5: `in`",), Verdict.UNSUPPORTED),
        (FAILS, (), Verdict.REFUTED),
        (FAILS, ("at image offset 0x5: `in`",), Verdict.REFUTED),
    ],
)
def test_what_was_refused_on_another_run_of_the_claim_counts(
    obligation: Obligation,
    gaps: tuple[str, ...],
    verdict: Verdict,
    without_qemu: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A claim on two runs is not proved by one of them; what one refutes stays refuted."""
    monkeypatch.setenv("PATH", without_qemu["PATH"])
    contract = load_contract(TINY / "contract.toml")
    image = load_image(contract)
    run = execution.execute(contract, image)
    court = Court(Subject(contract, image, run), Machines(), lambda text: None)
    record = court.judge("determined", "it does", (obligation,), gaps)
    assert record.verdict == verdict
    assert ("`in`" in record.reason) == (verdict is Verdict.UNSUPPORTED)
