# SPDX-License-Identifier: GPL-2.0-only
"""Locks that keep CPUs apart are proved, others refuted; proofs are questions that can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
import z3

from harness.at_once import verdict
from harness.at_once.explore import Explorer
from harness.at_once.verdict import decide, invariant, questions
from harness.protocol import check
from models import at_once
from models.at_once import OneImage, within
from models.process import Edge, Kind, Location, Process
from models.protocol import OUTSIDE
from tests.at_once.processes import (
    FENCE,
    GIVE_BACK,
    JUMP,
    LOAD,
    PARK,
    STORE,
    UNLOCK,
    image,
    look_and_store,
    spin,
)

KEPT = {
    "a spin lock, given back by the kernel": image(spin(0), (STORE, LOAD, JUMP)),
    "accesses behind a fence": image(spin(0), (STORE, FENCE, STORE, LOAD, JUMP)),
    "a lock that begins by a fence": image((FENCE,), spin(1), (STORE, JUMP)),
    "one CPU after the other, that all jump with nothing done": image(spin(0), (JUMP,)),
}
BROKEN = {
    "no lock": image((STORE, JUMP), lock=None),
    "no lock, nothing written": image((LOAD, JUMP), lock=None),
    "an access before the lock": image((LOAD,), spin(1), (STORE, JUMP)),
    "given back too early": image(spin(0), (STORE, GIVE_BACK, STORE, JUMP)),
    "given back before the jump": image(spin(0), (STORE, LOAD, GIVE_BACK, JUMP)),
    "a look and a store": image(look_and_store(0), (STORE, JUMP)),
}
SHOWN = (0,)


def branching(*, unlocks: bool) -> OneImage:
    """Takes the lock, writes; then parks, having given the lock back, or jumps."""
    release = Location(Kind.STORE if unlocks else Kind.FENCE, (Edge(4),), "lock", 0)
    return OneImage(
        Process("CPU", (
            *spin(0),
            Location(Kind.STORE, (Edge(2),), "image"),
            Location(Kind.LOAD, (Edge(3), Edge(5)), "image"),
            release,
            Location(Kind.PARK, ()),
            Location(Kind.JUMP, ()),
        )), (0,), 0,
    )  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_keeps_them_apart_is_proved(name: str) -> None:
    assert decide(KEPT[name], SHOWN).verdict == "PROVED"


def test_a_plain_store_gives_the_lock_back_behind_all_stores_before_it() -> None:
    assert decide(branching(unlocks=True), SHOWN).verdict == "PROVED"


def test_a_cpu_that_parks_with_the_lock_held_keeps_the_others_out() -> None:
    found = decide(branching(unlocks=False), SHOWN)
    assert found.verdict == "VACUOUS" and "keeps the lock" in found.reason


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_is_refuted_by_two(name: str) -> None:
    found = decide(BROKEN[name], SHOWN)
    assert found.verdict == "REFUTED"
    assert found.schedule is not None and not found.schedule.not_replayable
    assert {event.who for event in found.schedule.events} == {"CPU 0", "CPU 1"}


def test_the_schedule_is_a_shortest_one() -> None:
    found = decide(BROKEN["no lock"], SHOWN)
    assert found.schedule is not None
    assert [(event.who, event.what) for event in found.schedule.events] == [
        *(("CPU 0", "start"), ("CPU 0", "store image")),
        *(("CPU 1", "start"), ("CPU 1", "store image")),
    ]


def test_what_breaks_amid_an_instruction_only_is_not_for_qemu() -> None:
    one = look_and_store(0)
    one[1] = replace(one[1], addresses=one[0].addresses)
    found = decide(image(one, (STORE, JUMP)), SHOWN)
    assert found.verdict == "REFUTED"
    assert found.schedule is not None and "amid an instruction" in found.schedule.not_replayable


def test_what_breaks_while_a_store_waits_only_is_not_for_qemu() -> None:
    # Each CPU writes once: that is over at once, unless the store is still on its way.
    found = decide(image((STORE, PARK), lock=None), SHOWN)
    assert found.verdict == "REFUTED"
    assert found.schedule is not None and "store buffer" in found.schedule.not_replayable


def test_a_start_that_qemu_cannot_make_is_said_to_be_one() -> None:
    found = decide(BROKEN["no lock"], ())
    assert found.verdict == "REFUTED"
    assert found.schedule is not None and "64-bit mode" in found.schedule.not_replayable


@pytest.mark.parametrize(
    "nobody",
    [
        image(spin(0), (STORE, PARK)),
        image(spin(0), (STORE, JUMP), lock=1),
    ],
)
def test_where_a_cpu_never_comes_to_its_kernel_nothing_is_shown(nobody: OneImage) -> None:
    found = decide(nobody, SHOWN)
    assert found.verdict == "VACUOUS"
    assert "no CPU enters a kernel" in found.reason


def test_a_cpu_is_in_the_image_from_its_first_access_to_its_last() -> None:
    there = image(spin(0), (FENCE, STORE, FENCE, LOAD, FENCE, PARK))
    assert within(there) == {3, 4}
    assert within(image(spin(0), (STORE, FENCE, JUMP))) == {2, 3}


@pytest.mark.parametrize("name", ["initial", "inductive", "safe"])
def test_each_question_can_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KEPT["a spin lock, given back by the kernel"]
    lemma = invariant(kept, Explorer(kept).run())
    columns = dict(zip(lemma.features, zip(*lemma.allowed, strict=True), strict=True))
    assert set(columns["holder"]) == {at_once.NOBODY, verdict.MINE, verdict.OTHER}
    rows = {
        "initial": [row for row in lemma.allowed if row[2] != OUTSIDE],
        "inductive": [row for row in lemma.allowed if row[2] != 1],
        "safe": [(0, at_once.NOBODY, at, *row[3:]) for row in lemma.allowed for at in (1, 2)],
    }[name]
    spoilt = replace(
        lemma, allowed=tuple(sorted({*rows, *(lemma.allowed if name == "safe" else ())}))
    )
    monkeypatch.setattr(verdict, "invariant", lambda image, found: spoilt)
    asked = {one.name: one for one in questions(kept, Explorer(kept).run())}
    assert check.z3_answers(asked[name]) == "sat"
    assert check.judge(asked.values())[0] == "UNKNOWN"


def test_a_schedule_that_the_model_does_not_know_is_no_refutation() -> None:
    broken, kept = BROKEN["given back too early"], KEPT["accesses behind a fence"]
    found = decide(broken, SHOWN)
    assert found.schedule is not None
    events = found.schedule.with_buffers(broken.cpu, broken.cpu)
    assert verdict.breaks(broken, events)
    assert not verdict.breaks(kept, events)
    assert not verdict.breaks(broken, events[:-2])


def test_the_model_has_room_for_each_store() -> None:
    kept = image(spin(0), (STORE, STORE, UNLOCK, FENCE, STORE, JUMP))
    assert verdict.slots(kept) == 3
    for count, possible in ((3, z3.unsat), (2, z3.sat)):
        _, cpu = verdict.state(count)
        filled = [slot.word != 0 for slot in cpu.buffer[:2]]
        solver = z3.Solver()
        solver.add(at_once.overflows(kept, cpu), cpu.at == 3, *filled)
        solver.add(*(slot.word == 0 for slot in cpu.buffer[2:]))
        assert solver.check() == possible
