# SPDX-License-Identifier: GPL-2.0-only
"""One finding told in a terminal, from what is violated to what QEMU showed."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from rich.console import Console

from harness.record import ClaimRecord, Evidence, ReplayRecord, StepRecord, WitnessRecord
from reports.causes import cause
from reports.hints import HINTS
from reports.summary import (
    commands,
    evidence_words,
    holds_for,
    name_of,
    verdict_words,
    what_is_said,
)
from trampoline.errors import UserError


def find(records: Sequence[ClaimRecord], name: str) -> ClaimRecord:
    """The claim by the id of its finding, or as TRAMPOLINE.CLAIM. Raises UserError, which names
    those that are most like it."""
    by_name = {f"{one.trampoline}.{one.claim}": one for one in records}
    by_name |= {one.finding: one for one in records if one.finding}
    same = {key.lower(): one for key, one in by_name.items()}
    if name.lower() in same:
        return same[name.lower()]
    near = get_close_matches(name.upper(), by_name, 3) or get_close_matches(name, by_name, 3)
    hint = f"do you mean {' or '.join(near)}?" if near else "tramp report lists all."
    raise UserError(f"{name}: no finding or claim has this name; {hint}")


def tell(record: ClaimRecord, console: Console) -> None:
    """All that is known of it."""
    console.print(f"{name_of(record)}: {what_is_said(record) or verdict_words(record)}")
    console.print(f"\nclaim {record.claim} on {record.trampoline}: {verdict_words(record)}")
    console.print(f"  {record.sentence}")
    found = cause(record)
    if found is not None and found.condition and not record.goals:  # these come below, each
        console.print(f"\nviolated: {found.condition}")
        where = " ".join(part for part in (found.place, found.operation, found.source) if part)
        console.print(f"  at {where}" if where else "")
    if found is not None and (hint := HINTS.get(record.claim)):
        console.print(f"\nwhat usually mends it: {hint}")
    if holds := holds_for(record):
        console.print(f"\n{holds}")
    if record.witness is not None:
        _tell_witness(record.witness, console)
    for schedule in record.schedules:
        console.print(f"\nschedule{f': {schedule.shows}' if schedule.shows else ''}")
        for number, event in enumerate(schedule.events, start=1):
            console.print(f"  {number:3} {event.who:8} {event.what} {event.where}".rstrip())
    for goal in record.goals:
        console.print(f"\nviolated: {goal.goal}")
        for name, value in goal.inputs.items():
            console.print(f"  {name} = {value}")
    console.print(f"\nevidence: {evidence_words(record)}")
    for command in commands(record):
        console.print(f"  {command}")


def _tell_witness(witness: WitnessRecord, console: Console) -> None:
    second = witness.second
    console.print("\nsmallest input:" if second is None else "\nof two starts, the first:")
    for name, value in witness.inputs.items():
        console.print(f"  {name} = {value}")
    if second is not None:
        console.print("the second, otherwise the same:")
        for name, value in second.inputs.items():
            console.print(f"  {name} = {value}")
    console.print(f"\nwhat the code does with {'it' if second is None else 'the first'}:")
    _tell_path(witness.path, console)
    if second is not None:
        console.print("\nwhat it does with the second:")
        _tell_path(second.path, console)
    if witness.another is not None:
        console.print(f"\nQEMU cannot show this: {witness.another.why}")
        console.print("another input, which violates:")
        for condition in witness.another.violated:
            console.print(f"  {condition}")
        for name, value in witness.another.inputs.items():
            console.print(f"    {name} = {value}")
        if witness.another.second is not None:
            console.print("  and of the second start, otherwise the same:")
            for name, value in witness.another.second.inputs.items():
                console.print(f"    {name} = {value}")
    replayed = witness.second_replayed
    which = ", this input" if witness.another is not None else ""
    _tell_replay(witness.replay, which if replayed is None else ", the first start", console)
    if replayed is not None and replayed.replay is not None:
        _tell_replay(replayed.replay, ", the second start", console)


def _tell_path(path: Sequence[StepRecord], console: Console) -> None:
    mode = ""
    for step in path:
        if step.mode != mode:
            mode = step.mode
            console.print(f"  {mode}")
        times = f"  ({step.count} times)" if step.count > 1 else ""
        console.print(f"    {step.source:18} {step.symbol:28} {step.instruction}{times}".rstrip())
        for change in step.changes:
            console.print(f"        {change}")


def _tell_replay(replay: ReplayRecord, which: str, console: Console) -> None:
    if not replay.observed:
        return
    console.print(f"\nin QEMU{which}:")
    confirmed = replay.evidence is Evidence.CONFIRMED
    for name, value in replay.observed.items():
        predicted = replay.predicted.get(name, value)
        allowed = "allowed by the prediction" if confirmed else f"predicted: {predicted}"
        console.print(f"  {name} = {value}{'' if predicted == value else f'  ({allowed})'}")
