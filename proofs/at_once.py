# SPDX-License-Identifier: GPL-2.0-only
"""Several CPUs started in one image at once: the verdict, its schedule in QEMU, the record."""

from __future__ import annotations

import time

from harness.at_once.machine import Machine, Scene
from harness.at_once.process import Started, started
from harness.at_once.replay import show
from harness.at_once.verdict import decide
from harness.at_once.walk import sample
from harness.protocol.history import Schedule
from harness.protocol.target import ProcessError
from harness.qemu.protocol import P
from harness.qemu.vm import QemuMissing
from harness.record import (
    ClaimRecord,
    EventRecord,
    Evidence,
    ReplayRecord,
    SamplesRecord,
    ScheduleRecord,
)
from harness.replay.evidence import usual_phys_bits
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Predictor
from harness.solve.evaluate import evaluate
from harness.solve.obligation import Verdict
from models.at_once import ASSUMPTIONS
from proofs.prove import Court

PATIENCE = 2.0  # seconds until a CPU that runs on counts as lost
NO_PLACE = "QEMU has no RAM for the kernel, or no entry in real mode to start CPUs at"


def judge(court: Court, claim: str, sentence: str) -> ClaimRecord:
    """Decide the claim, show its schedule in QEMU, or random ones beside a proof."""
    began = time.perf_counter()
    subject = court.subject
    court.progress(f"{claim}: two CPUs in one image")

    def record(verdict: str, reason: str, **fields: object) -> ClaimRecord:
        seconds = time.perf_counter() - began
        return court.record(
            claim, sentence, verdict, reason, seconds, promises=ASSUMPTIONS, **fields
        )

    try:
        read = started(subject.contract, subject.image, subject.run)
    except ProcessError as error:
        lost = bool(subject.run.lost)
        return record(Verdict.INCOMPLETE if lost else Verdict.UNSUPPORTED, str(error))
    found = decide(read.image, read.real)
    if found.schedule is not None:
        court.progress(f"{claim}: replaying the schedule in QEMU")
        events = _events(read, found.schedule)
        replay = _shown(court, read, found.schedule)
        schedule = ScheduleRecord(shows="", events=events, replay=replay)
        return record(found.verdict, found.reason, schedules=(schedule,))
    if found.verdict == Verdict.PROVED:
        court.progress(f"{claim}: random schedules in QEMU")
        return record(found.verdict, "", samples=_samples(court, read))
    return record(found.verdict, found.reason)


def _events(read: Started, schedule: Schedule) -> tuple[EventRecord, ...]:
    places = [location.place for location in read.image.cpu.locations]
    return tuple(
        EventRecord(who=e.who, what=e.what, where="" if e.location is None else places[e.location])
        for e in schedule.events
    )


def _shown(court: Court, read: Started, schedule: Schedule) -> ReplayRecord:
    made = scene(court.predictor, court.defaults)

    def not_shown(evidence: Evidence, reason: str) -> ReplayRecord:
        return ReplayRecord(evidence=evidence, reason=reason, predicted={}, observed={})

    if schedule.not_replayable or made is None:
        return not_shown(Evidence.NOT_REPLAYABLE, schedule.not_replayable or NO_PLACE)
    try:
        with Machine(made, PATIENCE) as machine:
            return show(machine, read.image, schedule)
    except QemuMissing as error:
        return not_shown(Evidence.NOT_REPLAYED, str(error))


def _samples(court: Court, read: Started) -> SamplesRecord:
    made, reason = scene(court.predictor, court.defaults), NO_PLACE
    if made is not None and read.real:
        try:
            with Machine(made, PATIENCE) as machine:
                return sample(machine, read.image, read.real)
        except QemuMissing as error:
            reason = str(error)
    return SamplesRecord(
        of="random schedules", count=0, agreed=0, contradictions=(), spread={}, milliseconds=0.0,
        reason=reason,
    )  # fmt: skip


def scene(predictor: Predictor, values: dict[str, int]) -> Scene | None:
    """What lies in memory before the first start, for this input. None: it cannot be set up."""
    contract, image = predictor.contract, predictor.image
    bits = usual_phys_bits(contract)
    given = as_on_qemu(predictor, {**values, "maxphyaddr": bits}, {})
    kernel = evaluate(predictor.run.kernel, given.values, lambda address: 0)
    area = range(given.base, given.base + len(image.data))
    if kernel in area or kernel >= P["OWN_BASE"] - len(image.data):
        return None
    others = tuple((at, data) for at, data in given.blocks if at not in area)
    lock = given.base + image.symbols[contract.lock.word] if contract.lock is not None else None
    parts = ((given.base, predictor.entry_bytes(given)), *others)
    return Scene(given.base, parts, kernel, lock, bits)
