# SPDX-License-Identifier: GPL-2.0-only
"""What host and CPU do with their shared words must fit together, else there is no pair."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.protocol import pair
from models.process import Kind, Process
from tests.proofs.variants import MULTIKERNEL
from tests.protocol import pairs
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError

OFFER_TO_5 = 0x1000_0005


@pytest.fixture
def contract() -> Contract:
    return load_contract(MULTIKERNEL / "contract.toml")


def joined(monkeypatch: pytest.MonkeyPatch, contract: Contract, host: Process) -> None:
    """The pair of a host and the hardened CPU, both written down by hand."""
    cpu = pairs.HARDENED.cpu
    monkeypatch.setattr(pair, "process_of", lambda *given: cpu)
    monkeypatch.setattr(pair, "extract", lambda *given: host)
    monkeypatch.setattr(pair, "_never_written", lambda *given: ())
    nothing: Any = None
    named: Any = SimpleNamespace(name="host")
    pair.pair_of(contract, nothing, nothing, named)


def changed(kind: Kind, word: str, **fields: Any) -> Process:
    """The hardened host with its first such location changed."""
    host = pairs.HARDENED.host
    number, found = next(
        (n, one) for n, one in enumerate(host.locations) if (one.kind, one.word) == (kind, word)
    )
    locations = list(host.locations)
    locations[number] = replace(found, **fields)
    return replace(host, locations=tuple(locations))


def test_a_sound_pair_is_one(monkeypatch: pytest.MonkeyPatch, contract: Contract) -> None:
    joined(monkeypatch, contract, pairs.HARDENED.host)


def test_held_must_be_nobodys_offer(monkeypatch: pytest.MonkeyPatch, contract: Contract) -> None:
    """A late CPU 5 would take the area while its mailbox is written."""
    host = changed(Kind.EXCHANGE, "status", value=OFFER_TO_5)
    with pytest.raises(UserError, match="0x10000005 in the status word is also the offer to APIC"):
        joined(monkeypatch, contract, host)


def test_given_up_must_be_nobodys_offer(
    monkeypatch: pytest.MonkeyPatch, contract: Contract
) -> None:
    host = changed(Kind.COMPARE_EXCHANGE, "status", value=OFFER_TO_5)
    with pytest.raises(UserError, match="give one of them another value"):
        joined(monkeypatch, contract, host)


def test_each_word_of_the_mailbox_gets_its_own(
    monkeypatch: pytest.MonkeyPatch, contract: Contract
) -> None:
    host = changed(Kind.STORE, "kernel", value="boot_params")
    with pytest.raises(UserError, match="something else than this attempt's kernel"):
        joined(monkeypatch, contract, host)
