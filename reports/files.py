# SPDX-License-Identifier: GPL-2.0-only
"""Verdict files: written all or none, read back in the order of the reports."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from harness.record import SCHEMA, ClaimRecord, file_name
from reports.summary import in_order
from trampoline.errors import UserError

OUT = Path(__file__).resolve().parent / "out"


class ReportError(UserError):
    """A verdict file or page that cannot be written or read."""


class _Version(BaseModel):
    """The one key that every schema has."""

    schema_version: int


def write_atomically(contents: Mapping[Path, bytes]) -> None:
    """Write every file or, on an error before the last step, none; no reader sees half a file.

    All are written under temporary names in their own folders first and renamed when all are on
    the disk. Folders are created. Raises ReportError naming the file that could not be written.
    """
    temporary: dict[Path, Path] = {}
    path = Path()
    try:
        for path, data in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            with temporary[path].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # some file systems notice only here that they are full
        for path, written in temporary.items():
            os.replace(written, path)
    except OSError as error:
        raise ReportError(
            f"{path}: cannot be written ({error.strerror or error}); make room for it or make "
            "its folder writable, then run again."
        ) from error
    finally:
        for written in temporary.values():
            with suppress(OSError):
                written.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else who asks for it writes here meanwhile: waits until that is so. The folder is
    made, and locked itself, so that no file is left. Raises ReportError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ReportError(
            f"{folder}: cannot be written ({error.strerror}); name a folder that can be."
        ) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def write_records(records: Iterable[ClaimRecord], folder: Path) -> None:
    """Write one verdict file per trampoline and claim, in place of what an earlier run left.

    Files of other claims and trampolines stay. Raises ReportError if a file cannot be written, or
    if two records speak of the same claim of the same trampoline.
    """
    contents: dict[Path, bytes] = {}
    for record in records:
        path = folder / file_name(record.trampoline, record.claim)
        if path in contents:
            raise ReportError(
                f"{path}: two verdicts for this one file; give each contract a name of its own."
            )
        contents[path] = record.model_dump_json(indent=2).encode() + b"\n"
    write_atomically(contents)


def schema() -> bytes:
    """The JSON Schema (draft 2020-12) of a verdict file of this version, in UTF-8."""
    body = ClaimRecord.model_json_schema(mode="serialization")
    body["properties"]["schema_version"]["const"] = SCHEMA
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | body, indent=2).encode() + b"\n"


def read_all(folder: Path) -> list[ClaimRecord]:
    """All verdicts in `folder` by trampoline and claim; none if there is no such folder.

    Raises ReportError naming the first file that is not a verdict of this schema.
    """
    try:
        names = sorted(entry for entry in os.listdir(folder) if entry.endswith(".json"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ReportError(
            f"{folder}: cannot be read ({error.strerror}); give the folder that holds the verdict "
            "files."
        ) from error
    return in_order(read_one(folder / name) for name in names)


def read_one(path: Path) -> ClaimRecord:
    """The verdict in one file. Raises ReportError if it is not one of this schema."""
    remedy = "delete it or run make prove again."
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ReportError(f"{path}: there is no such file; run make prove to get one.") from error
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    try:
        version = _Version.model_validate_json(data).schema_version
        if version != SCHEMA:
            raise ReportError(
                f"{path}: has verdict schema {version}, but schema {SCHEMA} is needed; {remedy}"
            )
        record = ClaimRecord.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f" at {key}" if key else ""
        raise ReportError(
            f"{path}: not a verdict file{where} ({first['msg']}); {remedy}"
        ) from error
    if path.name != file_name(record.trampoline, record.claim):
        # A copy under another name would show the same claim twice.
        raise ReportError(
            f"{path}: holds the verdict on {record.claim} of {record.trampoline}, which belongs "
            f"into {file_name(record.trampoline, record.claim)}; rename it or delete it."
        )
    return record
