# SPDX-License-Identifier: GPL-2.0-only
"""Schedules of two CPUs in one image, in QEMU: they go as predicted; if not, that is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.at_once.machine import Machine, Scene
from harness.at_once.replay import show
from harness.at_once.verdict import decide
from harness.at_once.walk import sample
from harness.protocol.history import Schedule
from harness.record import Evidence, ReplayRecord
from tests.at_once.conftest import Read

pytestmark = pytest.mark.usefixtures("needs_qemu")
JNC = b"\x73"
LOCK_BTS = b"\x66\xf0\x0f\xba\x2e"


def patched(scene: Scene, old: bytes, new: bytes) -> Scene:
    """Another image, in which these bytes, found once, are others."""
    (area, data), *others = scene.parts
    assert data.count(old) == 1
    return replace(scene, parts=((area, data.replace(old, new)), *others))


def shown(read: Read, scene: Scene | None = None, patience: float = 2.0) -> ReplayRecord:
    found = decide(read.started.image, read.started.real)
    assert found.schedule is not None
    with Machine(scene or read.scene, patience) as machine:
        return show(machine, read.started.image, found.schedule)


def test_the_second_legoos_cpu_adds_the_base_once_more(read: Callable[[str], Read]) -> None:
    record = shown(read("legoos_posted"))
    assert record.evidence is Evidence.CONFIRMED
    assert record.observed["then"] == (
        "CPU 1 enters the kernel with RSP = 0x901c0, then CPU 0 is lost: it shuts the machine down"
    )


def test_two_start64_cpus_enter_their_kernels_with_one_stack(read: Callable[[str], Read]) -> None:
    record = shown(read("start64_posted"))
    assert record.evidence is Evidence.CONFIRMED
    assert record.observed["then"].endswith("both have the same stack")


def test_a_machine_serves_after_it_was_shut_down(read: Callable[[str], Read]) -> None:
    posted = read("legoos_posted")
    found = decide(posted.started.image, posted.started.real)
    assert found.schedule is not None
    with Machine(posted.scene, 2.0) as machine:
        records = [show(machine, posted.started.image, found.schedule) for _ in range(2)]
    assert records[0] == records[1]


def test_code_that_does_not_go_as_predicted_contradicts(read: Callable[[str], Read]) -> None:
    record = shown(read("legoos_posted"), read("legoos").scene, patience=0.3)
    assert record.evidence is Evidence.CONTRADICTED
    assert record.reason == "step 3 (CPU 0 at 1, load image): the lock holds 0x1"


def test_what_no_replay_can_show_is_not_replayed(read: Callable[[str], Read]) -> None:
    posted = read("legoos_posted")
    with Machine(posted.scene, 2.0) as machine:
        record = show(machine, posted.started.image, Schedule((), "for a reason"))
    assert (record.evidence, record.reason) == (Evidence.NOT_REPLAYABLE, "for a reason")


@pytest.mark.parametrize("name", ["legoos", "start64"])
def test_random_schedules_agree_with_the_hardened_ones(
    read: Callable[[str], Read], name: str
) -> None:
    hardened = read(name)
    with Machine(hardened.scene, 2.0) as machine:
        found = sample(machine, hardened.started.image, hardened.started.real)
    assert not found.contradictions
    assert found.agreed == found.count > 0
    assert min(found.spread.values()) > found.count / 2


def test_random_schedules_find_code_that_does_not_wait(read: Callable[[str], Read]) -> None:
    hardened = read("legoos")
    (_, data), *_ = hardened.scene.parts
    branch = data.index(JNC, data.index(LOCK_BTS))
    careless = patched(
        hardened.scene, data[branch : branch + 4], b"\xeb" + data[branch + 1 : branch + 4]
    )
    with Machine(careless, 0.3) as machine:
        found = sample(machine, hardened.started.image, hardened.started.real, 5)
    assert found.contradictions
    assert {one.evidence for one in found.contradictions} == {Evidence.CONTRADICTED}
