# SPDX-License-Identifier: GPL-2.0-only
"""A schedule as a JSON file that people can read: who does what, in which order, and around it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from harness.protocol.history import Event
from harness.schedule.agree import Mail
from harness.schedule.follow import Around, Fails
from harness.schedule.subject import Parts
from models.protocol import Pair
from trampoline.errors import UserError


class ScheduleError(UserError):
    """The file is no schedule, or does not fit."""


_Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{1,16}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Attempt(_Record):
    kernel: _Address
    boot_params: _Address
    fails: Fails = Fails.NOTHING


class _Event(_Record):
    who: str
    location: int | None
    what: str
    place: str = ""


class _File(_Record):
    schema_version: Literal[1] = Field(alias="schema")
    trampoline: str
    host: str
    digest: str
    breaks: str
    attempts: tuple[_Attempt, ...]
    events: tuple[_Event, ...] = Field(min_length=1)


@dataclass(frozen=True)
class SavedSchedule:
    """`trampoline` and `host`: names; `digest`: of both (Parts.digest). `breaks`: what the last
    event breaks, or empty. `around`: of each attempt.
    """

    trampoline: str
    host: str
    digest: str
    breaks: str
    around: tuple[Around, ...]
    events: tuple[Event, ...]


def of(
    parts: Parts, events: tuple[Event, ...], around: tuple[Around, ...], breaks: str = ""
) -> SavedSchedule:
    """A schedule for these parts."""
    names = parts.contract.name, parts.host.name
    return SavedSchedule(*names, parts.digest(), breaks, around, events)


def write(path: Path, schedule: SavedSchedule, pair: Pair) -> None:
    """Write it, one event a line, with the place in the code beside each. The folder is made.

    Raises ScheduleError.
    """
    processes = {"host": pair.host}
    attempts: list[dict[str, object]] = [
        {
            "kernel": f"{one.mail.kernel:#x}",
            "boot_params": f"{one.mail.boot_params:#x}",
            "fails": one.fails,
        }
        for one in schedule.around
    ]
    events: list[dict[str, object]] = []
    for event in schedule.events:
        row: dict[str, object] = event._asdict()
        if event.location is not None:
            process = processes.get(event.who, pair.cpu)
            row["place"] = process.locations[event.location].place
        events.append(row)
    head = {
        "schema": 1,
        "trampoline": schedule.trampoline,
        "host": schedule.host,
        "digest": schedule.digest,
        "breaks": schedule.breaks,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    lines += [f'  "attempts": {_rows(attempts)},', f'  "events": {_rows(events)}']
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["{", *lines, "}", ""]))
    except OSError as error:
        raise ScheduleError(
            f"{path}: cannot be written ({error.strerror}); name a folder that can be."
        ) from None


def _rows(rows: list[dict[str, object]]) -> str:
    return "[\n" + ",\n".join(f"    {json.dumps(row)}" for row in rows) + "\n  ]"


def read(path: Path) -> SavedSchedule:
    """Raises ScheduleError."""
    try:
        found = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ScheduleError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f" at {key}" if key else ""
        raise ScheduleError(f"{path}: not a schedule{where}: {first['msg']}.") from None
    return SavedSchedule(
        found.trampoline,
        found.host,
        found.digest,
        found.breaks,
        tuple(
            Around(Mail(int(one.kernel, 16), int(one.boot_params, 16)), one.fails)
            for one in found.attempts
        ),
        tuple(Event(one.who, one.location, one.what) for one in found.events),
    )


def check(path: Path, schedule: SavedSchedule, parts: Parts) -> None:
    """Whether it was made for these parts. Raises ScheduleError."""
    names = parts.contract.name, parts.host.name
    if (schedule.trampoline, schedule.host) != names:
        made = f"trampoline {schedule.trampoline} and host {schedule.host}"
        raise ScheduleError(f"{path}: made for {made}, not for {' and '.join(names)}.")
    if schedule.digest != parts.digest():
        raise ScheduleError(
            f"{path}: made for another build of {names[0]}'s image or host; find it anew."
        )
    begins = sum(
        event.who == "host" and event.what.startswith("begin") for event in schedule.events
    )
    if begins != len(schedule.around):
        raise ScheduleError(
            f"{path}: {len(schedule.around)} attempts are described, {begins} begin."
        )
