# SPDX-License-Identifier: GPL-2.0-only
"""Claim 9: the hand-off protocol of host and target CPUs, for any number of attempts and CPUs.

The six properties are those of `models.protocol_claims`; their docstrings are the claims.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.record import ClaimRecord
from models.protocol_claims import CLAIMS, Claim
from proofs.pair import PairCourt


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_protocol(pair: PairCourt, claim: Claim, record: Callable[[ClaimRecord], None]) -> None:
    """One of the six."""
    record(pair.protocol(claim))
