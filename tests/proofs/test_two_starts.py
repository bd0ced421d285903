# SPDX-License-Identifier: GPL-2.0-only
"""What is recorded of a refutation by two starts that a claim compares."""

from __future__ import annotations

import pytest

from harness.record import Evidence, WitnessRecord
from harness.replay.another import Another
from harness.replay.evidence import Machines, Shown
from harness.replay.replay import not_replayed
from harness.solve.obligation import Obligation, Witness
from harness.x86.execute import execute
from harness.x86.terms import OTHER
from proofs import prove
from proofs.prove import Court
from proofs.subject import Subject
from tests.proofs.variants import TINY
from trampoline.contract import load_contract
from trampoline.image import load_image

FLAGS = "rflags_at_entry"
SEEN = not_replayed(Evidence.CONFIRMED, "")
UNSEEN = not_replayed(Evidence.NOT_REPLAYABLE, "so it is")


@pytest.fixture(scope="module")
def court() -> Court:
    contract = load_contract(TINY / "contract.toml")
    image = load_image(contract)
    subject = Subject(contract, image, execute(contract, image))
    return Court(subject, Machines(), lambda text: None)


def recorded(
    court: Court, monkeypatch: pytest.MonkeyPatch, shown: Shown, another: Shown | None = None
) -> WitnessRecord:
    """Of a witness with these flags in both starts, and another one with others."""

    def starts(first: int, second: int) -> Witness:
        both = {FLAGS: first, f"{FLAGS}_{OTHER}": second}
        return Witness({**court.defaults, **both}, {}, ())

    found = Another(OBLIGATION, starts(1, 0x400), another) if another is not None else None
    monkeypatch.setattr(prove, "show", lambda *some: shown)
    monkeypatch.setattr(prove, "show_another", lambda *some: found)
    return court._witness("determined", OBLIGATION, starts(0x400, 0), [])


OBLIGATION = Obligation("a test", (), {})


def test_both_starts_have_their_own_inputs_and_replays(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = recorded(court, monkeypatch, Shown(SEEN, SEEN))
    assert record.second is not None and record.second.replay == SEEN
    assert record.inputs["RFLAGS at entry"] == "0x400"
    assert record.second.inputs == {"RFLAGS at entry": "0x0"}
    assert record.second.path and record.of_both == SEEN


def test_what_is_amiss_with_the_second_start_decides(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = recorded(court, monkeypatch, Shown(SEEN, UNSEEN))
    assert record.replay == SEEN
    assert record.of_both.evidence is Evidence.NOT_REPLAYABLE
    assert record.of_both.reason == "the second start: so it is"


@pytest.mark.parametrize("shown", [Shown(UNSEEN), Shown(SEEN, UNSEEN)])
def test_another_input_has_its_own_second_start(
    court: Court, monkeypatch: pytest.MonkeyPatch, shown: Shown
) -> None:
    record = recorded(court, monkeypatch, shown, another=Shown(SEEN, SEEN))
    assert record.another is not None and record.second is not None
    assert record.second.replay is None  # the smallest input's, of which nothing was seen
    assert record.another.why.endswith("so it is")
    assert record.another.inputs["RFLAGS at entry"] == "0x1"
    assert record.another.second is not None and record.another.second == record.second_replayed
    assert record.another.second.inputs == {"RFLAGS at entry": "0x400"}
    assert record.of_both == SEEN
