# SPDX-License-Identifier: GPL-2.0-only
"""The debugger changes upper halves at one instruction, and leaves the machine as it was."""

from __future__ import annotations

from dataclasses import replace

from harness.qemu.job import Injection, OutcomeKind
from harness.qemu.machine import Machine
from tests.qemu.jobs import make_job, target

BASE = 0x90000
START64 = BASE + target("boot").labels["start64"]


def test_an_upper_half_is_there_and_the_lower_one_stays(machine: Machine) -> None:
    job = make_job("boot", BASE)
    changed = replace(job, injection=Injection(START64, {"rdi": 0xFFFF_0000, "r9": 5}))
    for _ in range(5):
        outcome = machine.replay(changed)
        assert outcome.injected and outcome.kind is OutcomeKind.HAND_OFF
        assert outcome.registers["rdi"] == 0xFFFF_0000 << 32
        assert outcome.registers["r9"] == 5 << 32
        plain = machine.replay(job)
        assert not plain.injected
        assert plain.registers["r9"] == 0
    assert machine.restarts == 0


def test_an_instruction_that_is_not_reached_is_told(machine: Machine) -> None:
    job = make_job("fault", BASE)
    outcome = machine.replay(replace(job, injection=Injection(BASE + 0x800, {"rsi": 1})))
    assert (outcome.injected, outcome.kind) == (False, OutcomeKind.SHUTDOWN)
    assert machine.replay(make_job("boot")).kind is OutcomeKind.HAND_OFF
    assert machine.restarts == 0


def test_16_bit_code_is_not_changed(machine: Machine) -> None:
    """The breakpoint is met there, too, but the debugger cannot write upper halves."""
    outcome = machine.replay(replace(make_job("boot", BASE), injection=Injection(BASE, {"rsi": 1})))
    assert (outcome.injected, outcome.kind) == (False, OutcomeKind.HAND_OFF)
