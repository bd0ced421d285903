# SPDX-License-Identifier: GPL-2.0-only
"""A few mutants of each shipped trampoline: some claim turns, or there is a reason why none does.

`python -m proofs.mutants` tries all of them, which takes hours of one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from proofs.mutants import workers
from proofs.mutants.__main__ import in_order
from proofs.mutants.record import Mutant
from proofs.mutants.survivors import explained, survivors_of
from proofs.mutants.trial import EQUIVALENT, NOT_BUILT, SURVIVED, Trial, all_proved
from proofs.mutants.workers import UNDECIDED
from reports.fingerprint import ROOT

TRIED = 4
PATIENCE = 30
"""Seconds for one. A mutant of the spin lock may have hundreds of paths."""
CONTRACTS = [p for p in sorted((ROOT / "trampoline").glob("*/contract.toml")) if all_proved(p)]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers.cluster(1, None) as one:
        yield one


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.parent.name)
def test_no_mutant_goes_unnoticed_without_a_reason(path: Path, client: Client) -> None:
    sample = in_order(Trial(path).changes)[:TRIED]
    jobs = [(change, workers.of(change)) for change in sample]
    tried = [Mutant.of(*found) for found in workers.tried(client, path, jobs, PATIENCE)]
    mutants = explained(tried, survivors_of(path))
    assert not [one for one in mutants if one.verdict == SURVIVED]
    decided = [one for one in mutants if one.verdict != UNDECIDED]
    assert len(decided) >= TRIED - 1
    assert [one for one in decided if one.verdict not in (EQUIVALENT, NOT_BUILT)]
