# SPDX-License-Identifier: GPL-2.0-only
"""The six properties: what is decided of the RFC's pair, the hardened one, and near misses."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.protocol import invariant_file, verdict
from harness.protocol.history import FOREIGN_PAIR, MIXED_PAIR, PROPERTIES, Event
from harness.protocol.verdict import Decision
from models.protocol import Pair
from models.protocol_claims import CLAIMS
from tests.protocol import pairs

KEPT = Path(__file__).parent / "hardened.invariant"


@pytest.fixture(scope="module")
def rfc() -> Decision:
    return verdict.decide(pairs.RFC)


def said(events: tuple[Event, ...], who: str) -> list[str]:
    return [event.what for event in events if event.who == who]


def test_both_ways_speak_of_the_same_properties():
    assert tuple(claim.name for claim in CLAIMS) == PROPERTIES


def test_rfc_breaks_all_that_can_be_broken(rfc):
    assert {name: one.verdict for name, one in rfc.verdicts.items()} == {
        "no_false_start": "REFUTED",
        "no_lost_start": "REFUTED",
        "own_mail": "REFUTED",
        "own_tables": "REFUTED",
        "honest_verdict": "REFUTED",
        "progress": "VACUOUS",
    }


def test_late_marker_of_one_cpu_is_taken_for_the_other_cpus_start(rfc):
    schedule = rfc.verdicts["no_false_start"].schedule
    assert schedule[-1].what == "conclude: started"
    assert "begin: CPU 1" in said(schedule, "host")
    assert "store status" in said(schedule, "CPU 0")
    assert not said(schedule, "CPU 1")


def test_hosts_late_clear_overwrites_the_marker(rfc):
    *_, marker, clear = rfc.verdicts["no_lost_start"].schedule
    assert marker == Event("CPU 0", None, "a store becomes visible")
    assert clear == Event("host", None, "a store becomes visible")


def test_cpu_starts_after_the_host_has_said_that_it_does_not_respond(rfc):
    schedule = rfc.verdicts["honest_verdict"].schedule
    assert "conclude: not responding" in said(schedule, "host")
    assert schedule[-1] == Event("CPU 0", 0, "store status")


def test_second_cpu_rewrites_the_tables_under_the_first(rfc):
    schedule = rfc.verdicts["own_tables"].schedule
    writer = schedule[-1].who
    assert schedule[-1].what == "a store becomes visible"
    assert said(schedule, writer)[-3:-1] == ["fence", "store tables"]


@pytest.mark.parametrize("name", [FOREIGN_PAIR, MIXED_PAIR])
def test_cpu_jumps_with_what_was_written_for_another_attempt(rfc, name):
    assert rfc.more[name][-1].what == "jump"


def test_hardened_pair_has_all_six():
    kept = invariant_file.parse(KEPT.read_text())
    decision = verdict.decide(pairs.HARDENED, kept=kept)
    assert {one.verdict for one in decision.verdicts.values()} == {"PROVED"}
    assert decision.invariant == kept, "the kept invariant is not the one that proves them"


@pytest.mark.parametrize(
    ("pair", "broken", "last"),
    [
        (pairs.ANYONE_AFTER_REFUSAL, "own_tables", "a store becomes visible"),
        (pairs.LEAVES_WHEN_GIVEN_UP, "own_tables", "a store becomes visible"),
        (pairs.BLIND_TO_FREE, "progress", "the kernel leaves"),
    ],
    ids=["anyone after a refusal", "leaves when given up", "blind to free"],
)
def test_near_miss_breaks_one_property(pair: Pair, broken, last):
    schedules = verdict.search(pair)
    assert list(schedules) == [broken]
    assert schedules[broken][-1].what == last
