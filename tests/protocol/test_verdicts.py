# SPDX-License-Identifier: GPL-2.0-only
"""The six properties: what is decided of the RFC's pair, the hardened one, and near misses."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.protocol import invariant_file, verdict
from harness.protocol.history import FOREIGN_PAIR, MIXED_PAIR, NOT_PLAIN, PROPERTIES, Event
from harness.protocol.verdict import Decision
from models.protocol import Pair
from models.protocol_claims import CLAIMS
from tests.protocol import mutants, pairs

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
    schedule = rfc.verdicts["no_false_start"].schedule.events
    assert schedule[-1].what == "conclude: started"
    assert "begin: CPU 1" in said(schedule, "host")
    assert "store status" in said(schedule, "CPU 0")
    assert not said(schedule, "CPU 1")


def test_hosts_late_clear_overwrites_the_marker(rfc):
    *_, marker, clear = rfc.verdicts["no_lost_start"].schedule.events
    assert marker == Event("CPU 0", 0, "store status")
    assert clear == Event("host", 6, "store status")


def test_cpu_starts_after_the_host_has_said_that_it_does_not_respond(rfc):
    schedule = rfc.verdicts["honest_verdict"].schedule.events
    assert "conclude: not responding" in said(schedule, "host")
    assert schedule[-1] == Event("CPU 0", 0, "store status")


def test_second_cpu_rewrites_the_tables_under_the_first(rfc):
    schedule = rfc.verdicts["own_tables"].schedule.events
    writer = schedule[-1].who
    assert said(schedule, writer)[-2:] == ["fence", "store tables"]


@pytest.mark.parametrize("name", [FOREIGN_PAIR, MIXED_PAIR])
def test_cpu_jumps_with_what_was_written_for_another_attempt(rfc, name):
    assert rfc.more[name].events[-1].what == "jump"


def test_what_breaks_at_once_is_shown_without_store_buffers(rfc):
    for one in rfc.verdicts.values():
        if one.schedule is not None:
            assert not one.schedule.not_replayable
            assert all(event.what != "a store becomes visible" for event in one.schedule.events)


def test_what_takes_a_store_buffer_is_not_replayable():
    found = verdict.search(dict(mutants.of(pairs.HARDENED))["CPU 3, fence: left out"])
    for schedule in found.values():
        assert schedule.not_replayable == NOT_PLAIN
        assert "a store becomes visible" in {event.what for event in schedule.events}
    assert found


def test_hardened_pair_has_all_six():
    kept = invariant_file.parse(KEPT.read_text(), {})
    decision = verdict.decide(pairs.HARDENED, kept=kept)
    assert {one.verdict for one in decision.verdicts.values()} == {"PROVED"}
    assert decision.invariant == kept, "the kept invariant is not the one that proves them"


@pytest.mark.parametrize(
    ("pair", "broken", "last"),
    [
        (pairs.ANYONE_AFTER_REFUSAL, "own_tables", "store tables"),
        (pairs.LEAVES_WHEN_GIVEN_UP, "own_tables", "store tables"),
        (pairs.BLIND_TO_FREE, "progress", "the kernel leaves"),
    ],
    ids=["anyone after a refusal", "leaves when given up", "blind to free"],
)
def test_near_miss_breaks_one_property(pair: Pair, broken, last):
    schedules = verdict.search(pair)
    assert list(schedules) == [broken]
    assert schedules[broken].events[-1].what == last
