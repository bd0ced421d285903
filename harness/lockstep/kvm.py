# SPDX-License-Identifier: GPL-2.0-only
"""An image on the CPU that the host's KVM gives, where there is one: another implementation of x86.

QEMU's debugger has it do one instruction at a time; between two of them QEMU's monitor shows all
registers. Writes are not seen as they happen: at the end memory is compared with what is foretold
of it, where that is a hand-over or a halt.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.lockstep.alone import ElsewhereError
from harness.lockstep.compare import Agreement, Mismatch, against
from harness.lockstep.emulated import MAX_STEPS, Emulation, Step
from harness.lockstep.followed import FOUND_AT_ENTRY
from harness.lockstep.qemu import ALL_IS_SEEN, job_for, suitable
from harness.lockstep.qemu_log import shown
from harness.lockstep.unicorn_cpu import PHYS_BITS
from harness.qemu.debugger import DebuggerError
from harness.qemu.job import Job, Outcome, OutcomeKind
from harness.qemu.machine import TARGET, Machine, NotReached
from harness.qemu.vm import RESET_VECTOR, QemuFailed, VirtualMachine, VmDead
from harness.replay.compare import compare
from harness.replay.cpu import AT_ENTRY, linear
from harness.replay.predict import Prediction, Predictor
from harness.replay.writes import Values
from harness.x86.run import EndKind
from models.mode_switches import LEGACY_REGISTERS
from models.modes import CR0_CD, CR0_NW

DEVICE = Path("/dev/kvm")
HLT = bytes((0xF4,))
HALTS = 0.2
"""Seconds after which a CPU that was to do one instruction is looked at: it may have halted."""
PATIENCE = 5.0
"""Seconds that one instruction may take, on a machine with much to do."""


def opens() -> bool:
    """Whether the host lets us use KVM."""
    with suppress(OSError):
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
        return True
    return False


def name() -> str:
    """KVM with its host's kernel."""
    return f"KVM of {platform.system()} {platform.release()}"


def compared(
    predictor: Predictor, number: int
) -> Iterator[tuple[Prediction, Mismatch | Agreement]]:
    """`number` random inputs for each entry, each with what was found, all in one QEMU.

    Raises ElsewhereError, QemuMissing, QemuFailed, UserError.
    """
    with Machine(PHYS_BITS, accel="kvm") as machine:
        check(predictor, machine)
        for prediction in suitable(predictor, machine, number):
            yield prediction, observed(predictor, machine, prediction)


def check(predictor: Predictor, machine: Machine) -> None:
    """Whether this CPU can be given what the trampoline needs. Raises ElsewhereError."""
    contract = predictor.contract
    tables = contract.map is not None or any(one.mode == "long64" for one in contract.entry)
    if tables and "pdpe1gb" in machine.lacking:
        raise ElsewhereError("KVM's CPU has no 1 GiB pages here, of which its page tables are made")


def observed(
    predictor: Predictor, machine: Machine, prediction: Prediction
) -> Mismatch | Agreement:
    """What the CPU does, beside what is foretold. Raises QemuFailed, UserError."""
    job = job_for(predictor, machine, prediction)
    assert isinstance(job, Job)
    try:
        vm = machine.stop_before(job, linear(prediction, 0))
        prediction = _as_found(predictor, prediction, shown(vm.registers(TARGET)))
        seen, memory = _stepped(machine, vm, job, prediction)
    except (VmDead, DebuggerError, NotReached) as error:
        given = ", ".join(f"{n} = {v:#x}" for n, v in prediction.given.values.items() if v)
        raise QemuFailed(f"QEMU was lost while KVM did single steps: {error}; {given}") from error
    found = against(prediction, seen)
    if isinstance(found, Mismatch) or seen.died:
        return found
    as_left = Outcome(OutcomeKind.HAND_OFF, memory=memory)  # or parked: only memory is looked at
    left = compare(predictor.contract, predictor.image, prediction, ALL_IS_SEEN, job, as_left)
    if not left.differences:
        return found
    last, wrong = len(prediction.end.trace) - 1, "; ".join(left.differences)
    return Mismatch(last, prediction.end.trace[last][0], "memory", "as foretold", wrong)


def _as_found(predictor: Predictor, prediction: Prediction, step: Step) -> Prediction:
    """The same input, with CD and NW as INIT has left them, which changes neither (SDM 3A table
    9-1)."""
    if not prediction.real_mode:
        return prediction
    found = {FOUND_AT_ENTRY: step.registers["cr0"] & (CR0_CD | CR0_NW)}
    given = prediction.given
    return predictor.predict(replace(given, values=Values({**given.values, **found})))


def _stepped(
    machine: Machine, vm: VirtualMachine, job: Job, prediction: Prediction
) -> tuple[Emulation, tuple[bytes, ...]]:
    """What the CPU does up to the kernel's first instruction, a halt, or a shutdown, and what
    memory then holds of what the job asks for."""
    debugger, boots = vm.debugger, machine.boots
    if prediction.real_mode:  # INIT leaves the CPU's signature in EDX
        for register in LEGACY_REGISTERS:
            value = prediction.values.get(f"{register}{AT_ENTRY}", 0)
            debugger.write(TARGET, register, value)
    kernel = prediction.registers()["rip"] if prediction.end.kind is EndKind.HAND_OFF else None
    done = Emulation(shows_writes=False)
    while len(done.steps) < MAX_STEPS:
        step = shown(vm.registers(TARGET))
        if step.address == kernel:
            done.last = step
            break
        if not done.steps or done.steps[-1].address != step.address:  # else one more turn of a REP
            done.steps.append(step)
        halts = vm.read(step.address, len(HLT)) == HLT  # such code is mapped to itself
        debugger.go_alone(TARGET, step=not halts)  # behind HLT a step goes on
        if not debugger.stopped(HALTS) and _stands(vm, done):
            break
    done.last = done.last or done.steps[-1]
    memory = tuple(vm.read(address, size) for address, size in job.dumps)
    machine.resume(boots + done.died)
    return done, memory


def _stands(vm: VirtualMachine, done: Emulation) -> bool:
    """Whether a CPU whose instruction takes long has halted or shut down."""
    cpu = vm.cpu(TARGET)
    done.died = cpu.address == RESET_VECTOR
    if done.died or cpu.halted:
        vm.debugger.pause()  # it still waits for the CPU to stop
        return True
    if not vm.debugger.stopped(PATIENCE):
        raise VmDead(f"it does not come to the end of the instruction at {cpu.address:#x}")
    return False
