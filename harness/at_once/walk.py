# SPDX-License-Identifier: GPL-2.0-only
"""Random schedules of two CPUs in one image: what comes next is drawn, and followed in QEMU."""

from __future__ import annotations

import time
from random import Random
from statistics import median

from harness.at_once.explore import START, Explorer
from harness.at_once.machine import Machine
from harness.at_once.replay import BREAKS, Disagreement, Follower
from harness.protocol.history import Event
from harness.record import Evidence, ReplayRecord, SamplesRecord
from models.at_once import OneImage
from models.protocol import KERNEL

WALKS, EVENTS = 40, 60
_GOES_ON = 4.0  # how much likelier an event is that goes on with the CPU that moved last
_WAITS = 0.3  # one more look of a CPU that waits
_AGAIN = 0.02  # a start of a CPU that is still on its way


def sample(
    machine: Machine, image: OneImage, shown: tuple[int, ...], count: int = WALKS
) -> SamplesRecord:
    """Random schedules, the same ones each time. One that breaks the property contradicts a proof.

    `shown`: see `verdict.decide`.
    """
    wrong, seconds = [], []
    counts = dict.fromkeys(("jumps to the kernel", "waits for the lock"), 0)
    for seed in range(count):
        began = time.monotonic()
        said = _walk(machine, image, shown, seed, counts)
        seconds.append(time.monotonic() - began)
        if said:
            predicted = {"breaks": "nothing"}
            wrong.append(
                ReplayRecord(
                    evidence=Evidence.CONTRADICTED,
                    reason=f"random schedule {seed}: {said}",
                    predicted=predicted,
                    observed={},
                )
            )
    return SamplesRecord(
        of="random schedules",
        count=count,
        agreed=count - len(wrong),
        contradictions=tuple(wrong),
        spread=counts,
        milliseconds=1e3 * median(seconds),
    )


def _walk(
    machine: Machine, image: OneImage, shown: tuple[int, ...], seed: int, counts: dict[str, int]
) -> str:
    """What is wrong with it; empty if nothing is."""
    random, last = Random(seed), ""
    follower = Follower(machine, image)
    explorer = Explorer(image, plain=True, starts=shown)
    try:
        for _ in range(EVENTS):
            state = follower.states[0]
            weights: dict[Event, float] = {}
            for event, after, _ in explorer.next(state):
                number = int(event.who.removeprefix("CPU "))
                at = state.cpus[number].at
                weights[event] = _GOES_ON if event.who == last else 1.0
                if event.what == START and at >= 0:
                    weights[event] = _AGAIN
                elif after.cpus[number].at == at:
                    weights[event] = _WAITS
            if not weights:
                break
            (event,) = random.choices(list(weights), list(weights.values()))
            number = int(event.who.removeprefix("CPU "))
            before = state.cpus[number].at
            if follower.follow(event):
                return BREAKS
            at, last = follower.states[0].cpus[number].at, event.who
            counts["jumps to the kernel"] += at == KERNEL
            counts["waits for the lock"] += at == before
        follower.finish()
    except Disagreement as error:
        return str(error)
    return ""
