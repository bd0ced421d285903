# SPDX-License-Identifier: GPL-2.0-only
"""Whole trampolines, stepped through for many inputs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from harness.lockstep import kvm, qemu
from harness.lockstep.alone import ElsewhereError
from harness.lockstep.compare import Agreement, Mismatch, compare
from harness.lockstep.inputs import predictions
from harness.lockstep.record import MismatchRecord, WholeRecord
from harness.lockstep.unicorn_cpu import NAME
from harness.replay.places import source_of, symbol_before
from harness.replay.predict import Prediction, Predictor
from harness.x86.execute import execute
from harness.x86.lift import MAX_LENGTH, lift
from harness.x86.run import EndKind
from models.modes import Mode
from trampoline.contract import Contract
from trampoline.errors import UserError
from trampoline.image import Image, load_image

Progress = Callable[[str], None]


class Beside(NamedTuple):
    """A CPU that is stepped beside the run. `compared`: so many inputs for each entry, with what
    was found; `name`: the CPU's, with its version."""

    compared: Callable[[Predictor, int], Iterator[tuple[Prediction, Mismatch | Agreement]]]
    name: Callable[[], str]


def _beside_unicorn(
    predictor: Predictor, number: int
) -> Iterator[tuple[Prediction, Mismatch | Agreement]]:
    for prediction in predictions(predictor, number):
        yield prediction, compare(predictor, prediction)


BESIDE = {
    "unicorn": Beside(_beside_unicorn, lambda: NAME),
    "qemu": Beside(qemu.compared, qemu.name),
    "kvm": Beside(kvm.compared, kvm.name),
}
"""The CPUs that there are. KVM's is there if the host lets us use it."""


def step_through(
    contract: Contract, number: int, mark: str, progress: Progress, name: str = "unicorn"
) -> WholeRecord:
    """`number` inputs for each entry, up to the first mismatch, beside the CPU of that name.

    `mark`: see `WholeRecord.of`.
    """
    beside = BESIDE[name]
    began, image = time.monotonic(), load_image(contract)
    progress("executing")
    run = execute(contract, image)
    refused = [end.detail for end in run.ends if end.kind is EndKind.UNSUPPORTED]
    if lost := run.lost or next(iter(refused), ""):
        raise UserError(f"{contract.name}: {lost}; only what the machine executes is compared.")
    predictor = Predictor(contract, image, run)
    inputs: Counter[str] = Counter()
    ends = steps = registers = writes = 0
    mismatch, lacks = None, ""
    try:
        for prediction, found in beside.compared(predictor, number):
            entry = contract.entry[prediction.end.entry].called
            inputs[entry] += 1
            progress(f"{entry}: {inputs[entry]} of {number} inputs, {steps:,} steps")
            if isinstance(found, Mismatch):
                mismatch = _record(image, entry, prediction, found)
                break
            ends, steps = ends + found.end, steps + found.steps
            registers, writes = registers + found.registers, writes + found.writes
    except ElsewhereError as error:
        lacks = str(error)
    return WholeRecord(
        trampoline=contract.name,
        beside=beside.name(),
        of=mark,
        asked=number,
        inputs=dict(inputs),
        ends=ends,
        steps=steps,
        registers=registers,
        writes=writes,
        seconds=time.monotonic() - began,
        mismatch=mismatch,
        not_compared=lacks,
    )


def _record(image: Image, entry: str, prediction: Prediction, found: Mismatch) -> MismatchRecord:
    mode = Mode[prediction.end.trace[found.step][1]]
    data = image.data[found.offset : found.offset + MAX_LENGTH]
    return MismatchRecord(
        by="run",
        where=f"entry {entry}, step {found.step}, {symbol_before(image, found.offset)}",
        source=source_of(image, found.offset),
        instruction=str(lift(data, found.offset, mode.bits)),
        what=found.what,
        predicted=found.predicted,
        observed=found.observed,
        values={name: f"{value:#x}" for name, value in prediction.given.values.items()},
    )
