# SPDX-License-Identifier: GPL-2.0-only
"""The debugger changes registers at one instruction, and leaves the machine as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.qemu.job import BadJob, Injection, OutcomeKind
from harness.qemu.machine import Machine
from tests.qemu.jobs import make_job, target

BASE = 0x90000
DF = 0x400
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


@pytest.mark.parametrize(
    "injection",
    [
        Injection(BASE, {"rsi": 1}),
        Injection(BASE, registers={"rdi": 1 << 32}),
        Injection(BASE, registers={"r9": 1}),
        Injection(BASE, {"rsi": 1}, rflags=DF),
    ],
)
def test_what_16_bit_code_does_not_have_is_not_changed(
    machine: Machine, injection: Injection
) -> None:
    """The breakpoint is met there, too, but the debugger cannot write upper halves."""
    outcome = machine.replay(replace(make_job("boot", BASE), injection=injection))
    assert (outcome.injected, outcome.kind) == (False, OutcomeKind.HAND_OFF)
    assert not outcome.registers["rflags"] & DF


def test_registers_and_flags_are_there_at_the_first_instruction(machine: Machine) -> None:
    """The image uses neither EDI nor EBP, and leaves DF alone."""
    job = make_job("boot", BASE)
    held = {"rdi": 0xFFFF_0001, "rbp": 0x1234_5678}
    for flag in (DF, 0):
        outcome = machine.replay(
            replace(job, injection=Injection(BASE, registers=held, rflags=flag))
        )
        assert outcome.injected and outcome.kind is OutcomeKind.HAND_OFF
        assert {name: outcome.registers[name] for name in held} == held
        assert outcome.registers["rflags"] & DF == flag
    assert machine.replay(job).registers["rdi"] == 0


def test_a_flag_that_cannot_be_set_is_refused(machine: Machine) -> None:
    with pytest.raises(BadJob, match="rflags 0x200"):
        machine.replay(replace(make_job("boot", BASE), injection=Injection(BASE, rflags=0x200)))
