# SPDX-License-Identifier: GPL-2.0-only
"""A machine stopped before an instruction: where its CPU stands, and that it runs on as ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.qemu.job import Injection, OutcomeKind
from harness.qemu.machine import TARGET, Machine, NotReached
from harness.qemu.vm import VirtualMachine
from tests.qemu.jobs import make_job, target

BASE = 0x90000
START64 = BASE + target("boot").labels["start64"]


def go_on(machine: Machine, vm: VirtualMachine) -> None:
    """Let the CPU end what it was stopped in, and show that the machine replays as before."""
    vm.debugger.go()
    assert machine.replay(make_job("boot", BASE)).kind is OutcomeKind.HAND_OFF
    assert machine.restarts == 0


def test_the_cpu_stands_before_the_instruction(machine: Machine) -> None:
    vm = machine.stop_before(make_job("boot", BASE), START64)
    cpu = vm.cpu(TARGET)
    assert (cpu.address, cpu.in_64_bit_mode) == (START64, True)
    go_on(machine, vm)


@pytest.mark.parametrize("place", [START64, BASE])
def test_registers_are_injected_on_the_way_or_there(machine: Machine, place: int) -> None:
    job = make_job("boot", BASE)
    injection = Injection(START64, {"r9": 5})
    if place == BASE:
        injection = Injection(BASE, registers={"rdi": 5})
    vm = machine.stop_before(replace(job, injection=injection), START64)
    assert vm.cpu(TARGET).address == START64
    held = vm.debugger.registers(TARGET)
    assert (held["r9"], held["rdi"]) == ((5 << 32, 0) if place == START64 else (0, 5))
    go_on(machine, vm)


def test_an_instruction_that_is_not_reached_is_named(machine: Machine) -> None:
    with pytest.raises(NotReached, match="0x90800"):
        machine.stop_before(make_job("fault", BASE), BASE + 0x800)
    with pytest.raises(NotReached, match="0x90800"):
        job = replace(make_job("fault", BASE), injection=Injection(BASE + 0x800, {"rsi": 1}))
        machine.stop_before(job, BASE)


def test_it_passes_through_an_instruction_as_often_as_is_asked(machine: Machine) -> None:
    loop = BASE + target("loop").labels["again"]
    for passes in (0, 1, 3, 4, 2):
        vm = machine.stop_before(make_job("loop", BASE), loop, passes)
        assert vm.debugger.registers(TARGET)["rcx"] & 0xFFFF == 5 - passes
        go_on(machine, vm)
    with pytest.raises(NotReached):
        machine.stop_before(make_job("loop", BASE), loop, 5)
