# SPDX-License-Identifier: GPL-2.0-only
"""A start over the image that an earlier one has patched is replayed over that image."""

from __future__ import annotations

from dataclasses import replace

from harness.qemu.job import OutcomeKind
from harness.qemu.machine import Machine
from harness.replay.expect import expected
from harness.replay.platform import as_on_qemu
from harness.replay.replay import prepare
from harness.x86.given import kept_parts
from harness.x86.terms import ENTRY, VECTOR
from tests.replay.conftest import BASE, RFC, load

LEGOOS = RFC.parents[1] / "legoos_posted" / "contract.toml"


def test_a_later_start_finds_what_the_first_one_has_left(machine: Machine) -> None:
    subject, jobs = load(LEGOOS, BASE), []
    for entry in range(2):
        values = {VECTOR: BASE >> 12, "maxphyaddr": 40, ENTRY: entry}
        prediction = subject.predictor.predict(as_on_qemu(subject.predictor, values, {}))
        job = prepare(subject.predictor, machine, prediction, expected(prediction, ()))
        assert not isinstance(job, str)
        jobs.append(job)
    first, later = jobs
    kept = kept_parts(subject.contract, subject.image)
    there = [(BASE + part.start, len(part)) for part in kept]
    done = machine.replay(replace(first, dumps=tuple(there)))
    assert done.kind is OutcomeKind.HAND_OFF
    assert done.memory == tuple(later.image[part.start : part.stop] for part in kept)
    assert done.memory != tuple(first.image[part.start : part.stop] for part in kept)
