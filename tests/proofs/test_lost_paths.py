# SPDX-License-Identifier: GPL-2.0-only
"""A run that lost a path proves nothing."""

from __future__ import annotations

import pytest

from harness.replay.evidence import Machines
from harness.solve.obligation import Verdict
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
    assert "branches" in run.lost
    court = Court(Subject(contract, image, run), Machines(), lambda text: None)
    record = court.judge("paths", "no path is lost", ())
    assert record.verdict == Verdict.INCOMPLETE
    assert run.lost in record.reason
    assert not record.as_expected
