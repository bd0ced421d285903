# SPDX-License-Identifier: GPL-2.0-only
"""Replay one input in QEMU and compare the whole outcome with the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as changed

from harness.job_record import job_record
from harness.qemu.job import Job, OutcomeKind
from harness.qemu.machine import Machine
from harness.qemu.protocol import P
from harness.record import Evidence, ReplayRecord
from harness.replay.compare import compare, dumps
from harness.replay.cpu import fault_not_raised, injection, lacking, linear
from harness.replay.expect import FAILED, PAYLOAD, Expected, expected
from harness.replay.platform import hand_over
from harness.replay.predict import OUTSIDE_MAX, Input, Prediction, Predictor
from harness.x86.memory import stretches
from harness.x86.run import EndKind
from trampoline.contract import Contract

CONVENTIONAL_END = 0xA0000  # first physical address of video memory
BEFORE_MAX = 64  # stretches of memory outside the image that are set before a run
UNSEEN = "nothing that QEMU shows depends on what is violated"
GOES_ON = "QEMU goes on behind the end of the path, where nothing is foretold"
INJECTED = "upper halves injected through the debugger"
INJECTED_AT_ENTRY = "registers and flags at entry injected through the debugger"
VISIBLE = frozenset({OutcomeKind.HAND_OFF, OutcomeKind.PARKED})


def replay(
    contract: Contract,
    predictor: Predictor,
    machine: Machine,
    given: Input,
    probes: tuple[int, ...] = (),
    shown_by: Sequence[tuple[str, ...]] | None = None,
) -> ReplayRecord:
    """Replay an input and say whether QEMU does what was predicted. Addresses are linear.

    With `shown_by`, agreement counts only if all of one of these tuples was seen: what an
    obligation says of its violated goals.
    """
    prediction = predictor.predict(given)
    wanted = expected(prediction, probes)
    job = prepare(predictor, machine, prediction, wanted, probes)
    if isinstance(job, str):
        return not_replayed(Evidence.NOT_REPLAYABLE, job)
    injected, outcome = job.injection, machine.replay(job)
    if wanted.open and outcome.kind is OutcomeKind.HAND_OFF:
        return not_replayed(Evidence.NOT_REPLAYABLE, GOES_ON)
    named = {name for names in shown_by or () for name in names}
    result = compare(contract, predictor.image, prediction, wanted, job, outcome, named)
    at_entry = injected is not None and injected.rflags is not None
    if at_entry and not outcome.injected:
        result.differences.append("the entry is not reached: no register was changed")
    elif injected is not None and not outcome.injected and wanted.kinds != FAILED:
        result.differences.append("64-bit code is not reached: no register was changed")
    how = INJECTED_AT_ENTRY if at_entry else INJECTED
    evidence, reason = Evidence.CONFIRMED, how if outcome.injected else ""
    if result.differences:
        evidence, reason = Evidence.CONTRADICTED, "; ".join(result.differences)
    elif shown_by is not None and not any(result.seen.issuperset(names) for names in shown_by):
        evidence, reason = Evidence.NOT_REPLAYABLE, UNSEEN
    return ReplayRecord(
        evidence=evidence,
        reason=reason,
        predicted=result.predicted,
        observed=result.observed,
        job=job_record(job, machine.phys_bits, machine.lacking, *_last(prediction)),
    )


def _last(prediction: Prediction) -> tuple[int, int, int]:
    """Of the path's last instruction: linear address, offset in the image, how many times the path
    was there before."""
    trace = prediction.end.trace
    way = [linear(prediction, number) for number in range(len(trace))]
    return way[-1], trace[-1][0], way[:-1].count(way[-1])


def prepare(
    predictor: Predictor,
    machine: Machine,
    prediction: Prediction,
    wanted: Expected,
    probes: tuple[int, ...] = (),
) -> Job | str:
    """The job that gives QEMU the prediction's input; a string says why there is none."""
    contract, given = predictor.contract, prediction.given
    reason = obstacle(machine, prediction, wanted)
    if reason := reason or _too_lenient(predictor, prediction, wanted, probes):
        return reason
    injected = injection(prediction)
    if isinstance(injected, str):
        return injected
    before = _before(machine, prediction)
    if len(before) > BEFORE_MAX:
        return f"the path depends on or writes to {len(before)} places outside the image"
    status, refused = None, None
    if contract.status is not None:
        status = given.base + predictor.image.symbols[contract.status.word]
        refused = contract.status.refused
    boot_params = None
    if predictor.run.boot_params is not None:  # the payload looks where RSI says
        boot_params = prediction.registers().get("rsi", given.values["boot_params_phys_addr"])
    return Job(
        image=prediction.image_before(prediction.end.found),  # an earlier start may have left it
        base=given.base,
        kernel=prediction.kernel,
        boot_params=boot_params,
        entry=hand_over(predictor, prediction),
        probes=probes,
        before=before,
        dumps=dumps(prediction) if wanted.kinds != FAILED else (),
        place_payload=machine.has_ram(prediction.kernel, PAYLOAD),
        status_address=status,
        refusals=refused.values if refused else (),
        injection=injected,
    )


def not_replayed(evidence: Evidence, reason: str) -> ReplayRecord:
    """The record of a replay that was not made."""
    return ReplayRecord(evidence=evidence, reason=reason, predicted={}, observed={})


def obstacle(machine: Machine, prediction: Prediction, wanted: Expected) -> str:
    """Why an input cannot be replayed on this machine; empty if it can."""
    given, length = prediction.given, len(prediction.entry)
    kernel = prediction.kernel
    if given.values["maxphyaddr"] != machine.phys_bits:
        return f"QEMU runs with MAXPHYADDR {machine.phys_bits}"
    if lacking(given.values) != machine.lacking:
        return "QEMU runs with a CPU of other features"
    real = prediction.real_mode
    if real and given.base + length > CONVENTIONAL_END:
        return "the image would reach into video memory"
    if not machine.has_ram(given.base, length):
        return f"QEMU has no RAM for an image at {given.base:#x}"
    fetched = prediction.end.kind is EndKind.HAND_OFF and wanted.kinds != {OutcomeKind.SHUTDOWN}
    if fetched and not machine.has_ram(kernel, PAYLOAD):
        return f"QEMU has no RAM for a kernel at {kernel:#x}"
    payload = range(kernel, kernel + PAYLOAD) if machine.has_ram(kernel, PAYLOAD) else range(0)
    if any(_meet(payload, range(at, at + len(data))) for at, data in given.blocks):
        return "the payload would overwrite page tables"
    if prediction.left_open:
        return prediction.left_open
    image = range(given.base, given.base + length)
    if _meet(payload, image):
        if not (kernel in image and kernel == prediction.inside):
            return "the payload would overwrite the image"
        if fetched and prediction.writes_to(payload):
            return "the path writes to the image where the payload lies"
    return _obstacle_outside(machine, prediction, wanted, payload) or fault_not_raised(prediction)


def _obstacle_outside(
    machine: Machine, prediction: Prediction, wanted: Expected, payload: range
) -> str:
    """What the path finds and leaves outside the image must be RAM that nothing else uses."""
    if wanted.kinds != FAILED and prediction.outside_size > OUTSIDE_MAX:
        return f"the path writes {prediction.outside_size} bytes outside the image: too many to see"
    image = range(prediction.given.base, prediction.given.base + len(prediction.entry))
    found = [address for address in prediction.given.unknown if address not in image]
    written = list(prediction.outside) if wanted.kinds != FAILED else []
    for what, addresses in (("depends on", found), ("writes to", written)):
        for address in addresses:
            if not machine.has_ram(address, 1):
                return f"the path {what} {address:#x}, where QEMU has no free RAM"
            if address in payload:
                return f"the path {what} {address:#x}, where the payload lies"
    return ""


def _meet(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _before(machine: Machine, prediction: Prediction) -> tuple[tuple[int, bytes], ...]:
    """What RAM outside the image must hold at entry for the prediction to be right.

    Where there is no RAM nothing can be set: QEMU's own content then shows in the outcome.
    """
    # These ask for what they depend on.
    _ = prediction.image_after, prediction.registers()
    entry = prediction.outside_at_entry()
    parts = stretches(address for address in entry if machine.has_ram(address, 1))
    bytes_before = [(part.start, bytes(entry[address] for address in part)) for part in parts]
    # Those of a 64-bit entry are the platform's own; what lies in the image comes with it.
    image = range(prediction.given.base, prediction.given.base + len(prediction.entry))
    blocks = [
        (start, data)
        for start, data in prediction.given.blocks
        if start not in image and start != P["TABLES"]
    ]
    return (*bytes_before, *blocks)


def _too_lenient(
    predictor: Predictor, prediction: Prediction, wanted: Expected, probes: tuple[int, ...]
) -> str:
    """Why QEMU's CPU does not fail as predicted: it has 1 GiB pages even if it says it has not."""
    values = prediction.given.values
    if wanted.kinds & VISIBLE or values.get("cpu_has_1gib_pages", 1):
        return ""
    with_them = changed(prediction.given, values={**values, "cpu_has_1gib_pages": 1})
    other = predictor.predict(with_them)
    if expected(other, probes) == wanted:
        return ""
    return "QEMU lets a CPU without 1 GiB pages use them"
