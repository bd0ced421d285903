# SPDX-License-Identifier: GPL-2.0-only
"""A schedule counts only if the clauses break the same property on that way."""

from __future__ import annotations

import pytest

from harness.protocol import follow, verdict
from harness.protocol.history import Event, Schedule
from models.protocol_claims import CLAIMS
from tests.protocol import pairs

CLAIM = {claim.name: claim for claim in CLAIMS}


@pytest.fixture(scope="module")
def schedules() -> dict[str, Schedule]:
    return verdict.search(pairs.RFC)


def events(found: Schedule | tuple[Event, ...]) -> tuple[Event, ...]:
    """As the clauses go, where stores have to become visible."""
    plain = found if isinstance(found, Schedule) else Schedule(found)
    return plain.with_buffers(pairs.RFC.host, pairs.RFC.cpu)


@pytest.mark.parametrize("name", [name for name in CLAIM if name != "progress"])
def test_schedule_breaks_its_property(schedules, name):
    assert follow.breaks(pairs.RFC, CLAIM[name], events(schedules[name]))


@pytest.mark.parametrize("name", ["no_false_start", "own_mail", "honest_verdict"])
def test_schedule_without_its_last_event_breaks_nothing(schedules, name):
    """But for those that break before it: a write that is about to become visible."""
    *before, jump = schedules[name].events
    before = before[:-1] if jump.what == "jump" else before
    assert not follow.breaks(pairs.RFC, CLAIM[name], events(tuple(before)))


def test_schedule_of_one_property_does_not_break_another(schedules):
    assert not follow.breaks(pairs.RFC, CLAIM["own_tables"], events(schedules["no_lost_start"]))


def test_way_that_the_pair_cannot_go_breaks_nothing(schedules):
    schedule = schedules["honest_verdict"].events
    for number in range(len(schedule)):
        left_out = (*schedule[:number], *schedule[number + 1 :])
        stopped = not follow.breaks(pairs.RFC, CLAIM["honest_verdict"], events(left_out))
        assert stopped, f"without event {number}, {schedule[number]}"


def test_schedule_of_one_pair_does_not_break_another(schedules):
    for name, schedule in schedules.items():
        if name in CLAIM:
            assert not follow.breaks(pairs.HARDENED, CLAIM[name], schedule.events)


def test_schedule_that_the_clauses_do_not_follow_refutes_nothing(monkeypatch, schedules):
    wrong = {"own_mail": schedules["no_lost_start"]}
    monkeypatch.setattr(verdict, "search", lambda pair, searches: wrong)
    monkeypatch.setattr(
        verdict,
        "_proved",
        lambda pair, claims: (
            None,
            dict.fromkeys((claim.name for claim in claims), verdict.Verdict("UNKNOWN")),
        ),
    )
    found = verdict.decide(pairs.RFC).verdicts["own_mail"]
    assert (found.verdict, found.schedule) == ("DISAGREE", schedules["no_lost_start"])
