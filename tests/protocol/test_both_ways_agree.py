# SPDX-License-Identifier: GPL-2.0-only
"""The explorer and the clauses share no code, and find the same properties broken."""

from __future__ import annotations

import pytest

from harness.protocol import invariant_file, saturate, verdict
from models.process import Edge, Kind, Location, Process
from models.protocol import Pair
from models.protocol_claims import LIMITS
from tests.protocol import mutants, pairs
from tests.protocol.test_verdicts import KEPT

CHANGED = dict(mutants.of(pairs.HARDENED))
SAMPLE = {
    "a plain store offers": CHANGED["host 8, xchg status: a plain store"],
    "paging on too soon": CHANGED["CPU 3, fence: left out"],
    "anyone after a refusal": pairs.ANYONE_AFTER_REFUSAL,
    "blind to free": pairs.BLIND_TO_FREE,
}


@pytest.mark.parametrize("pair", SAMPLE.values(), ids=SAMPLE)
def test_same_properties_break(pair: Pair):
    by_search = {name for name in verdict.search(pair) if ":" not in name}
    assert by_search
    assert saturate.Saturation(pair, verdict.STATES).run().bad - {LIMITS.name} == by_search


def test_host_that_stores_without_end_is_not_decided():
    stores = Process("host", (Location(Kind.STORE, (Edge(0),), "status", 0),))
    decision = verdict.decide(Pair(stores, pairs.HARDENED.cpu, pairs.LEAVE))
    reasons = {one.reason for one in decision.verdicts.values()}
    assert reasons == {"the host stores without end at location 0"}


def test_an_invariant_that_proves_too_much_is_contradicted(monkeypatch: pytest.MonkeyPatch):
    pair = pairs.ANYONE_AFTER_REFUSAL
    kept = invariant_file.parse(KEPT.read_text(), {})
    monkeypatch.setattr(verdict, "proves", lambda *arguments: ("PROVED", ""))
    decision = verdict.decide(pair, kept=kept)
    found = {name for name, one in decision.verdicts.items() if one.verdict == "DISAGREE"}
    assert found == {"own_tables"}
    assert decision.verdicts["own_tables"].schedule is not None
