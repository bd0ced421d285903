# SPDX-License-Identifier: GPL-2.0-only
"""Nights that are kept: a folder for each, and a line of the history, below the verdict files."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.record import ClaimRecord
from reports.changes import Change, Kind, changes
from reports.files import ReportError, read_all, write_atomically
from reports.guards import FOLDER as GUARDS
from reports.junit import junit
from reports.markdown import summary
from reports.sarif import sarif

FOLDER = "nights"
HISTORY = f"{FOLDER}/history.jsonl"
SCHEMA = 1
CHANGED = 1
"""The exit status of a night that is as expected, but not as the one before."""


class Entry(BaseModel):
    """One night: `name` is that of its folder, `began` in UTC (ISO 8601), `status` the exit status
    and `seconds` how long it took. `changes`: since the night before, None if there was none to
    compare with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    name: str
    began: str
    fingerprint: str
    status: int
    seconds: float
    verdicts: dict[str, int]
    changes: tuple[Change, ...] | None


class Since(BaseModel):
    """What changed since the night of that name; or why nobody can say, in `problem`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: str
    changes: tuple[Change, ...] = ()
    problem: str = ""


def history(out: Path) -> list[Entry]:
    """All nights, the oldest first. Raises ReportError naming the line that is damaged."""
    path = out / HISTORY
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read ({error}).") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Entry.model_validate_json(line))
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise ReportError(
                f"{path}: line {number} is damaged ({why}); remove that line, the night's folder "
                "stays."
            ) from None
    return found


def folder(out: Path, name: str) -> Path:
    """Of the verdict files of a kept night; or the folder itself that a path names.

    Raises ReportError.
    """
    if (path := Path(name)).is_dir():
        return path
    if (path := out / FOLDER / name).is_dir() and name not in ("", ".", ".."):
        return path
    known = ", ".join(entry.name for entry in history(out)[-5:]) or "none is kept yet"
    raise ReportError(f"{name}: neither a folder nor a night; the last nights: {known}.")


def since_last(records: Sequence[ClaimRecord], out: Path) -> Since | None:
    """What changed since the last night that was kept; None if there is none."""
    nights = history(out)
    if not nights:
        return None
    name = nights[-1].name
    try:
        before = read_all(out / FOLDER / name)
    except ReportError as error:  # such as files of an older schema
        return Since(night=name, problem=str(error))
    if not before:
        return Since(night=name, problem=f"{out / FOLDER / name}: holds no verdict files.")
    return Since(night=name, changes=tuple(changes(before, records)))


def keep(out: Path, mark: str, status: int, seconds: float, now: datetime) -> Entry:
    """Keep what `out` holds now as a night, and write it in all forms. `mark`: the project's
    fingerprint; `status`: without what has changed; `now`: in UTC.

    The folder appears whole, and the history gets its line after that. Raises ReportError.
    """
    records = read_all(out)
    since = since_last(records, out)
    changed = None if since is None or since.problem else since.changes
    if any(change.kind is not Kind.SLOWER for change in changed or ()):
        status = max(status, CHANGED)
    forms = {
        "summary.md": summary(records, changed).encode(),
        "proofs.sarif": sarif(records),
        "junit.xml": junit(records),
    }
    write_atomically({out / form: data for form, data in forms.items()})
    name = _free(out, f"{now:%Y-%m-%d}")
    place = out / FOLDER / name
    beside = place.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        for path in (*out.glob("*.json"), out / "index.html", *(out / form for form in forms)):
            shutil.copy2(path, beside)
        if (out / GUARDS).is_dir():
            shutil.copytree(out / GUARDS, beside / GUARDS)
        beside.rename(place)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise ReportError(
            f"{place}: the night cannot be kept ({error.strerror or error}); make room for it."
        ) from None
    entry = Entry(
        name=name,
        began=now.isoformat(timespec="seconds"),
        fingerprint=mark,
        status=status,
        seconds=round(seconds, 1),
        verdicts=dict(Counter(record.verdict for record in records)),
        changes=changed,
    )
    lines = [one.model_dump_json() for one in (*history(out), entry)]
    write_atomically({out / HISTORY: ("\n".join(lines) + "\n").encode()})
    return entry


def _free(out: Path, name: str) -> str:
    """The name, or with a number behind it if there is such a night."""
    number, free = 1, name
    while (out / FOLDER / free).exists():
        number += 1
        free = f"{name}.{number}"
    return free
