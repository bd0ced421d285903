# SPDX-License-Identifier: GPL-2.0-only
"""What the page tells of a finding that compares two starts."""

from __future__ import annotations

from harness.record import Evidence, SecondStartRecord
from reports.html import render_page
from tests.reports.factory import instead, refuted, replay, two_starts
from tests.reports.test_page import Page


def test_two_starts_that_are_compared_stand_side_by_side() -> None:
    text = Page(render_page([refuted(claim="determined", witness=two_starts())])).text
    text = text[text.index("Witness: two starts that refute the claim") :]
    parts = [
        "The first: input value base 0x7000",
        "The second, otherwise the same: input value RFLAGS at entry 0x400",
        "Story of the first start, step by step: 2 steps",
        "Story of the second start, step by step: 1 steps",
        "Replay of the first start in QEMU",
        "Replay of the second start in QEMU",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    unseen = two_starts(replay=None)
    text = Page(render_page([refuted(claim="determined", witness=unseen)])).text
    assert "Replay of the second start" not in text
    its = {"RFLAGS at entry": "0x200"}
    other = SecondStartRecord(inputs=its, end="", path=(), replay=replay())
    instead_of_it = unseen.model_copy(update={"another": instead(second=other)})
    text = Page(render_page([refuted(claim="determined", witness=instead_of_it)])).text
    assert "The second start, otherwise the same: RFLAGS at entry = 0x200" in text
    assert "Replay of the second start in QEMU" in text


def test_what_is_amiss_with_the_second_start_is_the_evidence_and_not_said_of_the_first() -> None:
    either = replay(predicted={"end": "any failure"}, observed={"end": "triple fault"})
    odd = replay(Evidence.CONTRADICTED, reason="rip", predicted={"rip": "1"}, observed={"rip": "2"})
    finding = refuted(witness=two_starts(replay=odd).model_copy(update={"replay": either}))
    assert finding.evidence == "CONTRADICTED (the second start: rip)"
    html = render_page([finding])
    assert html.count('<tr class="differs">') == 1
    assert "any failure triple fault allowed by the prediction" in Page(html).text
