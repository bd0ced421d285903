# SPDX-License-Identifier: GPL-2.0-only
"""Whole trampolines, stepped through for many inputs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from harness.lockstep.compare import Mismatch, compare
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


def step_through(contract: Contract, number: int, mark: str, progress: Progress) -> WholeRecord:
    """`number` inputs for each entry, up to the first mismatch. `mark`: see `WholeRecord.of`."""
    began, image = time.monotonic(), load_image(contract)
    progress("executing")
    run = execute(contract, image)
    refused = [end.detail for end in run.ends if end.kind is EndKind.UNSUPPORTED]
    if lost := run.lost or next(iter(refused), ""):
        raise UserError(f"{contract.name}: {lost}; only what the machine executes is compared.")
    predictor = Predictor(contract, image, run)
    inputs: Counter[str] = Counter()
    ends = steps = registers = writes = 0
    mismatch = None
    for prediction in predictions(predictor, number):
        entry = contract.entry[prediction.end.entry].called
        progress(f"{entry}: {inputs[entry]} of {number} inputs, {steps:,} steps")
        found = compare(predictor, prediction)
        inputs[entry] += 1
        if isinstance(found, Mismatch):
            mismatch = _record(image, entry, prediction, found)
            break
        ends, steps = ends + found.end, steps + found.steps
        registers, writes = registers + found.registers, writes + found.writes
    return WholeRecord(
        trampoline=contract.name,
        beside=NAME,
        of=mark,
        asked=number,
        inputs=dict(inputs),
        ends=ends,
        steps=steps,
        registers=registers,
        writes=writes,
        seconds=time.monotonic() - began,
        mismatch=mismatch,
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
