# SPDX-License-Identifier: GPL-2.0-only
"""An image on QEMU's CPU (TCG), started as for a replay: by SIPI, or handed over in 64-bit mode.

One QEMU serves many inputs. It logs all registers before each instruction, and each store with its
physical address and value when it is done (harness/qemu/log.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.lockstep.compare import Agreement, Mismatch, against
from harness.lockstep.emulated import Emulation
from harness.lockstep.inputs import predictions
from harness.lockstep.qemu_log import read
from harness.lockstep.unicorn_cpu import PHYS_BITS
from harness.qemu.job import Job, Outcome, OutcomeKind
from harness.qemu.log import EVERYWHERE, Logged
from harness.qemu.machine import Machine, Patience
from harness.qemu.vm import QEMU, QemuFailed, QemuMissing, VmDead
from harness.replay.cpu import FEATURES, QEMU_CPU
from harness.replay.expect import Expected
from harness.replay.predict import Prediction, Predictor
from harness.replay.replay import prepare
from harness.x86.execute import APIC_ID
from harness.x86.run import EndKind

PATIENCE = Patience(running=3.0)
"""An instruction that is logged takes 20 microseconds, not one. Within this time the log of an
endless loop grows to some hundred megabytes."""
ALL_IS_SEEN = Expected(frozenset({OutcomeKind.HAND_OFF}), None)
"""Of a replay that ends in a failure only that is seen. Here each step is: all that it writes must
go to RAM, and the kernel be there, as for a hand-off."""
ENDLESS = frozenset({EndKind.SPINNING, EndKind.WAITING})


def name() -> str:
    """QEMU's name and version. Raises QemuMissing."""
    if (program := shutil.which(QEMU)) is None:
        raise QemuMissing
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version ([0-9.]+)", said.stdout)
    return f"QEMU {found[1] if found else '(of unknown version)'}"


def compared(
    predictor: Predictor, number: int
) -> Iterator[tuple[Prediction, Mismatch | Agreement]]:
    """`number` random inputs for each entry, each with what was found, all in one QEMU.

    Raises QemuMissing, QemuFailed, UserError.
    """
    with logging_machine() as machine:
        wanted = suitable(predictor, machine, number)
        for prediction, found in steps_in_qemu(predictor, machine, wanted):
            assert not isinstance(found, str)
            yield prediction, found


def logging_machine(phys_bits: int = PHYS_BITS, lacking: frozenset[str] = frozenset()) -> Machine:
    """A machine whose target CPU is logged; to be entered. The arguments: see `Machine`."""
    return Machine(phys_bits, patience=PATIENCE, lacking=lacking, logs=EVERYWHERE)


def suitable(predictor: Predictor, machine: Machine, number: int) -> Iterator[Prediction]:
    """What the run foretells of `number` random inputs for each entry that this machine can be
    given."""
    features = {name: int(flag not in machine.lacking) for name, flag in FEATURES.items()}

    def suits(prediction: Prediction) -> bool:
        return not isinstance(job_for(predictor, machine, prediction), str)

    return predictions(predictor, number, {APIC_ID: QEMU_CPU[APIC_ID], **features}, suits)


def steps_in_qemu(
    predictor: Predictor, machine: Machine, wanted: Iterable[Prediction]
) -> Iterator[tuple[Prediction, Mismatch | Agreement | str]]:
    """Each prediction with what QEMU makes of it; a string says why QEMU cannot be asked.

    `machine`: a running one that logs. Raises QemuFailed, and UserError for a log that is damaged.
    """
    for prediction in wanted:
        seen = observe(predictor, machine, prediction)
        yield prediction, seen if isinstance(seen, str) else against(prediction, seen)


def observe(predictor: Predictor, machine: Machine, prediction: Prediction) -> Emulation | str:
    """What QEMU's CPU does, until it comes to the kernel if it shall, else as long as it runs.

    A string says why QEMU cannot be asked. Raises QemuFailed, UserError.
    """
    job = job_for(predictor, machine, prediction)
    if isinstance(job, str):
        return job
    given = ", ".join(f"{n} = {v:#x}" for n, v in prediction.given.values.items() if v)
    _, logged = watched(machine, replace(job, dumps=()), f"input: {given}")
    return as_far_as_foretold(prediction, read(logged))


def watched(machine: Machine, job: Job, what: str) -> tuple[Outcome, Logged]:
    """How a job ended, and what was logged of it. Raises QemuFailed, which names `what` it was."""
    try:
        outcome = machine.replay(job)
        if outcome.kind is OutcomeKind.DEAD:
            raise VmDead("it stopped answering, twice")
        return outcome, machine.logged()
    except VmDead as error:
        raise QemuFailed(f"QEMU was lost while it was watched: {error}; {what}") from error


def as_far_as_foretold(prediction: Prediction, seen: Emulation) -> Emulation:
    """Without what is executed from the first time on that the CPU comes to the kernel, if it shall
    come there; `last` is the CPU at that point."""
    if prediction.end.kind is EndKind.HAND_OFF:
        kernel = prediction.registers()["rip"]
        for number, step in enumerate(seen.steps):
            if step.address == kernel:
                return Emulation(seen.steps[:number], seen.writes[: step.writes], step)
    return seen


def job_for(predictor: Predictor, machine: Machine, prediction: Prediction) -> Job | str:
    """How the machine is given an input that is stepped through; a string says why it cannot be."""
    if prediction.end.kind in ENDLESS:
        return "the path ends in an endless loop, and the log of one has no end"
    return prepare(predictor, machine, prediction, ALL_IS_SEEN)
