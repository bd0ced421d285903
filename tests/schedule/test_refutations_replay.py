# SPDX-License-Identifier: GPL-2.0-only
"""Each property of the RFC's pair breaks in QEMU, step by step as the explorer says, each time."""

from __future__ import annotations

import pytest

from harness.protocol.history import OUTCOMES, Schedule
from harness.schedule.machine import Machine
from harness.schedule.replay import Replayer, plan_for

REPEAT = 10


@pytest.mark.parametrize("name", OUTCOMES)
def test_refutation_goes_as_predicted_ten_times(
    rfc_machine: Machine,
    schedules: dict[str, Schedule],
    name: str,
) -> None:
    events = schedules[name].events
    planned = plan_for(rfc_machine.subject, events, name)
    replayer = Replayer(rfc_machine)
    outcomes = {replayer.replay(planned) for _ in range(REPEAT)}
    assert len(outcomes) == 1
    (outcome,) = outcomes
    assert not outcome.difference
    assert outcome.steps == len(events)
    assert name in outcome.broken


def test_cpu_whose_tables_are_cleared_shuts_the_machine_down(
    rfc_machine: Machine, schedules: dict[str, Schedule]
) -> None:
    planned = plan_for(rfc_machine.subject, schedules["own_tables"].events, "own_tables")
    outcome = Replayer(rfc_machine).replay(planned)
    assert outcome.aftermath == (
        "CPU 1 changes the tables, and CPU 0 is lost: it shuts the machine down"
    )
