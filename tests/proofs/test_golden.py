# SPDX-License-Identifier: GPL-2.0-only
"""When a verdict is the expected one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.record import ClaimRecord, Evidence
from proofs.golden import claim_record
from reports.causes import cause
from reports.summary import verdict_words
from tests.reports.factory import refuted, replay, witness
from trampoline.sections import Expected


@dataclass
class Contract:
    """What is asked of one."""

    expected: dict[str, Expected]
    name: str = "own"
    summary: str = ""


def record(mark: str | None = None, **changes: object) -> ClaimRecord:
    """Of a claim that is refuted as the contract has it, but for `mark`, the cause there."""
    expected = Expected(
        verdict="REFUTED", finding="OWN-1", title="it is so", cause=mark, evidence="CONFIRMED"
    )
    contract = Contract({"stack": expected})
    fields = {"witness": refuted().witness, "assumptions": ()} | changes
    return claim_record(contract, "stack", "", "REFUTED", "why", 1.0, **fields)  # type: ignore[arg-type]


def test_a_finding_is_known_by_its_cause_or_by_its_claim_alone() -> None:
    found = cause(record())
    assert found is not None
    assert record().as_expected
    assert record(found.fingerprint).as_expected


def test_another_cause_than_that_of_the_finding_is_a_new_one() -> None:
    other = record("0123456789abcdef")
    found = cause(record())
    assert found is not None
    assert not other.as_expected
    said = f"another cause than that of OWN-1 (0123456789abcdef): {found.fingerprint}: why"
    assert other.reason == said
    assert verdict_words(other) == "REFUTED (not as OWN-1)"


@pytest.mark.parametrize("evidence", [Evidence.CONTRADICTED, Evidence.NOT_REPLAYABLE])
def test_the_right_cause_with_other_evidence_is_not_expected(evidence: Evidence) -> None:
    found = cause(record())
    assert found is not None
    shown = witness(replay=replay(evidence))
    assert not record(found.fingerprint, witness=shown).as_expected
