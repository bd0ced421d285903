# SPDX-License-Identifier: GPL-2.0-only
"""What changed between two nights is said, what is gone as loudly as what is new."""

from __future__ import annotations

import pytest

from harness.record import ClaimRecord, Evidence
from reports.changes import Change, Kind, changes
from tests.reports.factory import (
    not_replayed,
    proved,
    refuted,
    replay,
    safe_set,
    samples,
    witness,
    working,
)

UNKNOWN = proved(verdict="UNKNOWN", as_expected=False, reason="z3 gave up")
BAD_SAMPLE = samples(contradictions=(replay(Evidence.CONTRADICTED, reason="rip"),))
THERE = "multikernel_rfc", "kernel_identity_map"


def refuted_here(**changed: object) -> ClaimRecord:
    return refuted("multikernel", "hand_off", **changed)


def only(before: ClaimRecord | None, after: ClaimRecord | None) -> Change:
    (found,) = changes([before] if before else [], [after] if after else [])
    return found


def test_two_equal_nights_have_no_changes() -> None:
    night = [proved(), refuted(safe_set=safe_set())]
    assert changes(night, reversed(night)) == []


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (proved(), refuted_here(), Kind.NEW_FINDING),
        (refuted_here(), proved(), Kind.FIXED),
        (proved(), UNKNOWN, Kind.UNDECIDED),
        (UNKNOWN, proved(), Kind.VERDICT),
        (UNKNOWN, refuted_here(), Kind.NEW_FINDING),
        (None, refuted_here(), Kind.NEW_FINDING),
        (None, proved(), Kind.NEW_CLAIM),
        (proved(), None, Kind.GONE),
        (refuted_here(), None, Kind.GONE),
        (proved(), proved(samples=BAD_SAMPLE), Kind.CONTRADICTED),
        (working(8_000_000), working(12_000_000), Kind.SLOWER),
        (refuted(), refuted(witness=witness(replay=not_replayed())), Kind.EVIDENCE),
        (refuted(), refuted(witness=witness(violated=("another",))), Kind.OTHER_CAUSE),
        (
            refuted(safe_set=safe_set()),
            refuted(safe_set=safe_set(inside=("less",), sentence="It holds for less.")),
            Kind.SAFE_SET,
        ),
        (refuted(safe_set=safe_set()), refuted(safe_set=safe_set(exact=False)), Kind.SAFE_SET),
    ],
)
def test_each_change_is_named(
    before: ClaimRecord | None, after: ClaimRecord | None, kind: Kind
) -> None:
    assert only(before, after).kind is kind


def test_a_contradiction_of_something_new_is_said_beside_it() -> None:
    kinds = [one.kind for one in changes([], [proved(samples=BAD_SAMPLE)])]
    assert kinds == [Kind.CONTRADICTED, Kind.NEW_CLAIM]


def test_a_contradiction_that_was_there_before_is_no_change() -> None:
    assert changes([proved(samples=BAD_SAMPLE)], [proved(samples=BAD_SAMPLE)]) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (working(20_000_000), working(29_000_000)),
        (working(1_000_000), working(9_000_000)),
        (proved(seconds=2.0), proved(seconds=9.0)),
        (proved(), proved(samples=samples(count=9, agreed=9))),
        (refuted(safe_set=safe_set()), refuted()),
    ],
)
def test_chance_and_depth_are_no_change(before: ClaimRecord, after: ClaimRecord) -> None:
    assert changes([before], [after]) == []


def test_the_worst_comes_first_and_both_sides_are_told() -> None:
    before = [proved(), refuted(), proved(claim="stack")]
    after = [working(50_000_000), proved(*THERE), UNKNOWN.model_copy(update={"claim": "stack"})]
    found = changes(before, after)
    assert [one.kind for one in found] == [Kind.UNDECIDED, Kind.FIXED, Kind.SLOWER]
    assert found[1].text == "REFUTED (MKRFC-2) before, now PROVED"
    assert (found[1].trampoline, found[1].claim) == THERE
