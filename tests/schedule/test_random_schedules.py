# SPDX-License-Identifier: GPL-2.0-only
"""Random schedules on the machine: the hardened pair keeps all properties, the RFC's does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.protocol.history import PROPERTIES
from harness.protocol.target import process_of
from harness.schedule.machine import Machine
from harness.schedule.replay import Replayer, plan_for
from harness.schedule.subject import BASE, Subject
from harness.schedule.walk import walk
from harness.schedule.walks import Sum, add, walk_all
from harness.x86.execute import execute
from tests.proofs.variants import MULTIKERNEL, variant
from trampoline.contract import load_contract
from trampoline.image import load_image

WALKS, FIRES = 500, 60


@pytest.fixture(scope="module")
def walked(hardened_machine: Machine) -> Sum:
    return add(walk_all(hardened_machine, range(WALKS)))


def test_no_random_schedule_breaks_the_hardened_pair(walked: Sum) -> None:
    assert walked.walks == WALKS
    assert not walked.differences
    assert not walked.broken


def test_random_schedules_meet_all_that_the_protocol_is_for(walked: Sum) -> None:
    verdicts = {"running", "refused", "stuck", "not responding", "busy", "failed"}
    assert set(walked.verdicts) == verdicts
    assert min(walked.verdicts.values()) > WALKS / 10
    assert walked.jumps > WALKS / 5
    assert walked.rekicks > WALKS / 5


def test_monitor_fires_on_the_rfc_pair(rfc_machine: Machine) -> None:
    found = add(walk_all(rfc_machine, range(FIRES)))
    assert not found.differences
    assert set(PROPERTIES) <= set(found.broken)


def test_monitor_fires_on_a_cpu_that_jumps_though_it_was_given_up(
    needs_qemu: None, hardened: Subject, tmp_path: Path
) -> None:
    edits = {"(%rsi)\n\tjne\tgiven_up\n": "(%rsi)\n"}
    contract = load_contract(variant(tmp_path, MULTIKERNEL, edits))
    image = load_image(contract)
    cpu = process_of(contract, image, execute(contract, image, BASE))
    careless = Subject(
        replace(hardened.parts, contract=contract, image=image), replace(hardened.pair, cpu=cpu)
    )
    with Machine(careless) as machine:
        found = add(walk_all(machine, range(FIRES)))
    assert not found.differences
    assert found.broken["honest_verdict"]


def test_same_seed_gives_the_same_walk(rfc_machine: Machine) -> None:
    one, other = walk(rfc_machine, 1), walk(rfc_machine, 1)
    assert one.events == other.events
    assert one.broken == other.broken
    assert walk(rfc_machine, 2).events != one.events


@pytest.mark.parametrize("pair", ["rfc_machine", "hardened_machine"])
def test_walk_can_be_replayed(request: pytest.FixtureRequest, pair: str) -> None:
    machine = request.getfixturevalue(pair)
    for seed in range(10):
        walked = walk(machine, seed)
        planned = plan_for(machine.subject, walked.events)
        outcome = Replayer(machine).replay(planned, walked.around)
        assert not outcome.difference
        assert outcome.steps == len(walked.events)
