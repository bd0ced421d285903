# SPDX-License-Identifier: GPL-2.0-only
"""One defect has one fingerprint, whatever input shows it and wherever it has moved to."""

from __future__ import annotations

from typing import Any

import pytest

from harness.record import ClaimRecord, EventRecord, ScheduleRecord, StepRecord
from reports.causes import Cause, cause
from tests.reports.factory import broken, host_broken, proved, refuted, witness

STORE = "access 28, a store at 0xf0, stays where it may"


def step(offset: str, instruction: str, **changes: Any) -> StepRecord:
    fields: dict[str, Any] = {
        "offset": offset, "mode": "real", "symbol": "start+0x7", "source": "trampoline.S:9",
        "instruction": instruction,
    }  # fmt: skip
    return StepRecord(**fields | changes)


def by_path(violated: str, *path: StepRecord) -> ClaimRecord:
    return refuted(witness=witness(violated=(violated,), path=path))


def of(record: ClaimRecord) -> Cause:
    found = cause(record)
    assert found is not None
    return found


def test_what_is_not_refuted_has_no_cause() -> None:
    assert cause(proved()) is None
    assert cause(refuted(verdict="UNKNOWN")) is None


def test_the_instruction_is_the_one_that_the_violated_condition_names() -> None:
    found = of(by_path(STORE, step("0xf0", "push eax"), step("0xf8", "end: halted", count=0)))
    assert (found.place, found.operation, found.source) == ("start", "push", "trampoline.S:9")
    assert found.condition == "access, a store, stays where it may"


def test_else_it_is_the_last_one() -> None:
    jump = step("0x10", "jmp rax", source="trampoline.S:30")
    found = of(by_path("it is mapped", jump, step("0x10", "end: jump", count=0)))
    assert (found.operation, found.source) == ("jmp", "trampoline.S:30")
    fault = step("0x20", "end: #GP", count=0, source="trampoline.S:31")
    assert of(by_path("it is mapped", jump, fault)).source == "trampoline.S:31"


def test_a_fingerprint_survives_an_edit_elsewhere_and_another_input() -> None:
    moved = "access 31, a store at 0x104, stays where it may"
    there = step("0x104", "push eax", source="trampoline.S:12", symbol="start+0x1b")
    one = by_path(STORE, step("0xf0", "push eax"))
    other = by_path(moved, there)
    assert one.witness is not None and other.witness is not None
    assert of(one).fingerprint == of(other).fingerprint
    assert of(one).source != of(other).source


@pytest.mark.parametrize(
    "other",
    [
        by_path("access 28, a load at 0xf0, stays where it may", step("0xf0", "push eax")),
        by_path(STORE, step("0xf0", "mov [eax],ebx")),
        by_path(STORE, step("0xf0", "push eax", symbol="elsewhere")),
        by_path(STORE, step("0xf0", "push eax")).model_copy(update={"claim": "stack"}),
        by_path(STORE, step("0xf0", "push eax")).model_copy(update={"trampoline": "la57"}),
    ],
)
def test_another_defect_has_another_fingerprint(other: ClaimRecord) -> None:
    assert of(other).fingerprint != of(by_path(STORE, step("0xf0", "push eax"))).fingerprint


def test_a_schedule_and_a_hosts_goal_have_causes_too() -> None:
    found = of(broken())
    assert (found.operation, found.place, found.source) == ("CPU 1: SIPI", "", "")
    assert of(host_broken()).condition == "only checked images"


def test_more_that_is_violated_is_another_cause() -> None:
    path = (step("0xf0", "push eax"), step("0xf8", "end: halted", count=0))
    one = refuted(witness=witness(violated=(STORE,), path=path))
    both = refuted(witness=witness(violated=(STORE, "it is mapped"), path=path))
    turned = refuted(witness=witness(violated=("it is mapped", STORE), path=path))
    assert of(one).fingerprint != of(both).fingerprint == of(turned).fingerprint
    (goal,) = host_broken().goals
    more = host_broken(goals=(goal, goal.model_copy(update={"goal": "a new defect"})))
    assert of(more).fingerprint != of(host_broken()).fingerprint
    assert of(broken(schedules=broken().schedules[:1])).fingerprint != of(broken()).fingerprint


def test_operands_and_the_number_of_a_cpu_are_no_part_of_a_cause() -> None:
    end = step("0x10", "end", count=0)
    far, near = (
        by_path(f"no input ends with: `push {to}` in the copy", end) for to in ("0x7", "0x9")
    )
    assert of(far).fingerprint == of(near).fingerprint
    first, second = (
        of(broken(schedules=(schedule_of(f"CPU {number}"),))).fingerprint for number in (0, 1)
    )
    assert first == second


def schedule_of(who: str) -> ScheduleRecord:
    event = EventRecord(who=who, what="load kernel", where="start+0x7")
    return broken().schedules[0].model_copy(update={"events": (event,)})
