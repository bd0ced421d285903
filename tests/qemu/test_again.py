# SPDX-License-Identifier: GPL-2.0-only
"""A CPU is started several times; memory is as the starts before left it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.qemu.job import Entry64, Injection, Job, OutcomeKind
from harness.qemu.machine import Machine
from tests.qemu.jobs import GIB, REFUSED, make_job, target

BASE, KERNEL = 7 * GIB, 9 * GIB
AGAIN = target("again")
JOB = Job(
    AGAIN.code,
    BASE,
    KERNEL,
    None,
    probes=(KERNEL, 10 * GIB),
    dumps=((BASE + AGAIN.labels["starts"], 4),),
    entry=Entry64(BASE, {"rbx": KERNEL}),
)


def test_first_start_parks(machine: Machine) -> None:
    outcome = machine.replay(JOB)
    assert (outcome.kind, outcome.starts) == (OutcomeKind.PARKED, 1)
    assert outcome.stopped_at == BASE + AGAIN.labels["parked"]


@pytest.mark.parametrize("again", [1, 2, 5])
def test_later_start_takes_the_jump_that_the_first_has_patched(
    machine: Machine, again: int
) -> None:
    outcome = machine.replay(replace(JOB, again=again))
    assert (outcome.kind, outcome.starts) == (OutcomeKind.HAND_OFF, again + 1)
    assert outcome.memory == ((again + 1).to_bytes(4, "little"),)
    assert outcome.registers["rip"] == KERNEL
    assert outcome.probes_done == 2
    assert outcome.probe_values == outcome.probe_expected
    assert machine.replay(JOB).kind is OutcomeKind.PARKED  # placed anew for another job


def test_outcome_of_a_second_start_that_fails_is_told(machine: Machine) -> None:
    """boot.S adds its base to its own pointers at each start."""
    outcome = machine.replay(make_job("boot", again=1))
    assert (outcome.kind, outcome.starts) == (OutcomeKind.SHUTDOWN, 2)
    assert not outcome.arrived and outcome.registers == {}


def test_no_start_after_one_that_failed(machine: Machine) -> None:
    outcome = machine.replay(make_job("fault", again=3))
    assert (outcome.kind, outcome.starts) == (OutcomeKind.SHUTDOWN, 1)


def test_refusal_is_found_at_each_start(machine: Machine) -> None:
    outcome = machine.replay(make_job("park", refusals=(REFUSED,), again=2))
    assert (outcome.kind, outcome.starts) == (OutcomeKind.PARKED, 3)


def test_injection_is_made_at_the_last_start(machine: Machine) -> None:
    jump = BASE + AGAIN.labels["jump"]
    job = replace(JOB, again=1, injection=Injection(jump, registers={"rbx": KERNEL, "r9": 9 << 60}))
    outcome = machine.replay(job)
    assert outcome.injected and outcome.kind is OutcomeKind.HAND_OFF
    assert outcome.registers["r9"] == 9 << 60


@pytest.mark.parametrize("base", [0x1000, 0x90000])
def test_real_mode_code_patched_just_before_it_runs(machine: Machine, base: int) -> None:
    outcome = machine.replay(make_job("patched", base))
    assert outcome.kind is OutcomeKind.PARKED
    assert outcome.stopped_at == base + target("patched").labels["parked"]
