# SPDX-License-Identifier: GPL-2.0-only
"""The six properties of the two pairs as they are: the assembled trampoline, the compiled host."""

from __future__ import annotations

import pytest

from harness.protocol.assembled import Assembled, assemble, decide, read_kept
from harness.protocol.transitions import transitions
from harness.protocol.verdict import search
from models.protocol_claims import CLAIMS
from tests.proofs.variants import MULTIKERNEL
from trampoline.contract import load_contract


def assembled(name: str) -> Assembled:
    return assemble(load_contract(MULTIKERNEL.parent / name / "contract.toml"))


@pytest.fixture(scope="module")
def hardened() -> Assembled:
    return assembled("multikernel")


@pytest.fixture(scope="module")
def rfc() -> Assembled:
    return assembled("multikernel_rfc")


def test_the_hardened_pair_has_all_six_by_the_kept_invariant(hardened: Assembled) -> None:
    decision = decide(hardened)
    assert {name: found.verdict for name, found in decision.verdicts.items()} == {
        claim.name: "PROVED" for claim in CLAIMS
    }
    assert decision.not_kept == ""


def test_no_schedule_within_the_bounds_breaks_the_hardened_pair(hardened: Assembled) -> None:
    assert not search(hardened.pair)


def test_the_kept_invariant_is_written_as_it_would_be_now(hardened: Assembled) -> None:
    """The locations that it explains are those of this code. If not, write it anew:
    python -m harness.protocol trampoline/multikernel/contract.toml --write"""
    kept, reason = read_kept(hardened)
    assert kept is not None, reason
    assert hardened.text(kept) == hardened.kept.read_text(encoding="utf-8")


def test_the_rfc_pair_has_none(rfc: Assembled) -> None:
    found = decide(rfc)
    assert {verdict.verdict for verdict in found.verdicts.values()} == {"REFUTED"}
    for name, verdict in found.verdicts.items():
        assert verdict.schedule is not None, name
        assert not verdict.schedule.not_replayable, name
    assert {"own_mail: one word of each", "own_mail: another CPU's pair"} <= set(found.more)


def test_every_step_says_where_in_the_code_it_is(hardened: Assembled, rfc: Assembled) -> None:
    for pair in (hardened.pair, rfc.pair):
        assert all(location.place for location in pair.cpu.locations)
        assert all(len(location.addresses) == 1 for location in pair.cpu.locations)


def changes(pair: Assembled) -> set[tuple[str, str, str]]:
    """Of the status word, by name, and by whom."""
    names: dict[object, str] = {value: name for name, value in pair.statuses.items()}
    found = transitions(pair.pair)
    return {(names.get(t.before, "offered"), names.get(t.after, "offered"), t.who) for t in found}


def test_the_status_word_changes_as_the_protocol_says(hardened: Assembled) -> None:
    """The diagram in trampoline/PROTOCOL.md."""
    refused = {f"refused {what}" for what in ("kernel", "boot params", "cpu")}
    owned = {"free", "running", "given up", *refused}
    assert changes(hardened) == {
        *((before, "held", "host") for before in owned),
        ("held", "offered", "host"),
        ("offered", "started", "CPU"),
        ("started", "running", "CPU"),
        *(("started", after, "CPU") for after in refused),
        ("started", "given up", "host"),
        ("offered", "given up", "host"),
        ("offered", "free", "host"),
        ("running", "free", "kernel"),
    }


def test_the_rfcs_host_clears_what_the_cpu_has_set(rfc: Assembled) -> None:
    assert changes(rfc) == {("free", "started", "CPU"), ("started", "free", "host")}
