# SPDX-License-Identifier: GPL-2.0-only
"""A few mutants of each shipped trampoline: some claim turns, or there is a reason why none does.

`python -m proofs.mutants` tries all of them, which takes hours of one core.
"""

from __future__ import annotations

import pytest

from proofs.mutants.__main__ import in_order
from proofs.mutants.record import Mutant
from proofs.mutants.survivors import explained, survivors_of
from proofs.mutants.trial import EQUIVALENT, NOT_BUILT, SURVIVED, Trial, all_proved
from proofs.mutants.workers import UNDECIDED
from reports.fingerprint import ROOT

TRIED = 6
CONTRACTS = [p for p in sorted((ROOT / "trampoline").glob("*/contract.toml")) if all_proved(p)]


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.parent.name)
def test_no_mutant_goes_unnoticed_without_a_reason(path) -> None:
    trial = Trial(path)
    sample = in_order(trial.changes)[:TRIED]
    mutants = explained(
        [Mutant.of(change, trial.of(change)) for change in sample], survivors_of(path)
    )
    assert not [one for one in mutants if one.verdict in (SURVIVED, UNDECIDED)]
    assert [one for one in mutants if one.verdict not in (EQUIVALENT, NOT_BUILT)]
