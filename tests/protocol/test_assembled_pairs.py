# SPDX-License-Identifier: GPL-2.0-only
"""The six properties of the two pairs as they are: the assembled trampoline, the compiled host."""

from __future__ import annotations

import pytest

from harness.host.extract import extract
from harness.protocol.target import process_of
from harness.protocol.verdict import Decision, decide
from harness.x86.execute import execute
from models.protocol import Pair
from models.protocol_claims import CLAIMS
from tests.proofs.variants import MULTIKERNEL
from trampoline.contract import load_contract
from trampoline.host_object import HOST_FOLDER, load_host
from trampoline.image import load_image

BASE = 0x90000
RUNNING, FREE = 0xB0000001, 0


def decided(name: str, leave: tuple[int, int] | None) -> Decision:
    contract = load_contract(MULTIKERNEL.parent / name / "contract.toml")
    image = load_image(contract)
    cpu = process_of(contract, image, execute(contract, image, BASE))
    host = extract(load_host(HOST_FOLDER / name), contract)
    return decide(Pair(host, cpu, leave))


def test_the_hardened_pair_has_all_six() -> None:
    verdicts = decided("multikernel", (RUNNING, FREE)).verdicts
    assert {name: found.verdict for name, found in verdicts.items()} == {
        claim.name: "PROVED" for claim in CLAIMS
    }


def test_the_rfc_pair_has_none() -> None:
    found = decided("multikernel_rfc", None)
    assert {verdict.verdict for verdict in found.verdicts.values()} == {"REFUTED"}
    for name, verdict in found.verdicts.items():
        assert verdict.schedule is not None, name
        assert not verdict.schedule.not_replayable, name
    assert {"own_mail: one word of each", "own_mail: another CPU's pair"} <= set(found.more)


@pytest.mark.parametrize("name", ["multikernel", "multikernel_rfc"])
def test_every_step_says_where_in_the_code_it_is(name: str) -> None:
    contract = load_contract(MULTIKERNEL.parent / name / "contract.toml")
    image = load_image(contract)
    cpu = process_of(contract, image, execute(contract, image, BASE))
    assert all(location.place for location in cpu.locations)
    assert all(len(location.addresses) == 1 for location in cpu.locations)
