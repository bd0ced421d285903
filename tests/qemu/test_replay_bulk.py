# SPDX-License-Identifier: GPL-2.0-only
"""One machine serves many jobs of every kind in any order, and outlives those that kill it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.qemu.bench import replay_ms
from harness.qemu.job import Job, OutcomeKind
from harness.qemu.machine import Machine, Patience
from harness.qemu.vm import QEMU, QemuFailed, QemuMissing
from tests.qemu.jobs import GIB, MIB, REFUSED, make_job, qemu_children


def test_two_hundred_mixed_jobs_end_as_predicted(machine: Machine) -> None:
    draw = random.Random(2)
    predicted: list[OutcomeKind] = []

    def jobs() -> Iterator[Job]:
        for index in range(200):
            base = draw.randrange(1, 0x9C) << 12
            kernel = draw.choice((MIB, 4 * GIB, 512 * GIB)) + draw.randrange(3 * GIB)
            if index % 100 == 50:
                predicted.append(OutcomeKind.HANG)
                yield make_job("hang", base)
            elif index % 4 == 0:
                predicted.append(OutcomeKind.SHUTDOWN)
                yield make_job("fault", base, kernel)
            elif index % 4 == 1:
                predicted.append(OutcomeKind.PARKED)
                yield make_job("park", base, kernel, refusals=(REFUSED,))
            elif index % 8 == 2:
                predicted.append(OutcomeKind.SHUTDOWN_AFTER_HAND_OFF)
                yield make_job("boot", base, kernel, 1 << 41)
            else:
                predicted.append(OutcomeKind.HAND_OFF)
                yield make_job("boot", base, kernel, draw.randrange(4 * GIB, 800 * GIB))

    outcomes = list(machine.run(jobs()))
    assert [outcome.kind for outcome in outcomes] == predicted
    assert all(outcome.loads_match() for outcome in outcomes)
    assert machine.restarts == 0


def test_outcomes_stream(machine: Machine) -> None:
    drawn = 0

    def jobs() -> Iterator[Job]:
        nonlocal drawn
        while True:
            drawn += 1
            yield make_job("boot")

    outcomes = machine.run(jobs())
    for expected in (1, 2, 3):
        assert next(outcomes).kind is OutcomeKind.HAND_OFF
        assert drawn == expected


def test_job_that_ends_the_machine_twice_is_dead(needs_qemu: None) -> None:
    with Machine() as machine:
        kinds = [o.kind for o in machine.run([make_job("poweroff"), make_job("boot")])]
        assert kinds == [OutcomeKind.DEAD, OutcomeKind.HAND_OFF]
        assert machine.restarts == 2


def test_job_on_a_machine_that_went_silent_is_run_again(needs_qemu: None) -> None:
    others = qemu_children(os.getpid())
    with Machine(patience=Patience(silent=0.5)) as machine:
        assert machine.replay(make_job("boot")).kind is OutcomeKind.HAND_OFF
        (qemu,) = set(qemu_children(os.getpid())).difference(others)
        os.kill(qemu, signal.SIGSTOP)
        assert machine.replay(make_job("boot")).kind is OutcomeKind.HAND_OFF
        assert machine.restarts == 1
        assert qemu not in qemu_children(os.getpid())


def test_median_is_measured(needs_qemu: None) -> None:
    assert 0 < replay_ms([make_job("boot")] * 20) < 1000


def test_missing_qemu_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QemuMissing) as error, Machine():
        pass
    sentence = "qemu-system-x86_64 not found; install Debian's qemu-system-x86"
    assert str(error.value) == sentence


def test_qemu_that_does_not_start_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / QEMU
    fake.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(QemuFailed) as error, Machine():
        pass
    assert str(error.value) == f"{fake} did not start: no memory"
