# SPDX-License-Identifier: GPL-2.0-only
"""A few mutants of two shipped trampolines: some claim turns, or there is a reason why none does.

`python -m proofs.mutants` tries all of them, which takes hours of one core.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client

from proofs.mutants import workers
from proofs.mutants.__main__ import LEFT, in_order
from proofs.mutants.record import Mutant
from proofs.mutants.survivors import explained, survivors_of
from proofs.mutants.trial import EQUIVALENT, NOT_BUILT, Trial
from reports.fingerprint import ROOT

TRIED = 6
PATIENCE = 60
"""Seconds for one."""
QUICK = ("la57", "legoos")
"""Of the others one mutant may take half a minute."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers.cluster(1, None) as one:
        yield one


@pytest.mark.parametrize("name", QUICK)
def test_no_mutant_goes_unnoticed_without_a_reason(name: str, client: Client) -> None:
    path = ROOT / "trampoline" / name / "contract.toml"
    sample = in_order(Trial(path).changes)[:TRIED]
    jobs = [(change, workers.of(change)) for change in sample]
    tried = [Mutant.of(*found) for found in workers.tried(client, path, jobs, PATIENCE)]
    mutants = explained(tried, survivors_of(path))
    assert not [one for one in mutants if one.verdict in LEFT]
    assert [one for one in mutants if one.verdict not in (EQUIVALENT, NOT_BUILT)]
