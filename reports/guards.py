# SPDX-License-Identifier: GPL-2.0-only
"""Guard files: written whole, read back if they are of the files that the project has now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from harness.guard import GuardRecord
from reports.files import OUT, ReportError, write_atomically
from reports.fingerprint import fingerprint

FOLDER = "guards"
"""Below the folder of the verdict files."""
NAMES = (
    "needed",
    "model-rules",
    "lock-step-single",
    "lock-step-single-qemu",
    "lock-step-unicorn",
    "lock-step-qemu",
    "lock-step-kvm",
    "certificates",
    "steady",
    "mutants",
)
"""Those that there are."""


def write_guard(guard: GuardRecord, out: Path = OUT) -> None:
    """Write it in place of what an earlier run left. Raises ReportError."""
    path = out / FOLDER / f"{guard.name}.json"
    write_atomically({path: guard.model_dump_json(indent=2).encode() + b"\n"})


def read_guards(out: Path = OUT) -> list[GuardRecord]:
    """All guards that were run with the project as it is. Those of another state count for nothing.

    Raises ReportError naming the first file that is no guard file.
    """
    mark = fingerprint()
    return [
        guard for guard in _read(sorted((out / FOLDER).glob("*.json"))) if guard.fingerprint == mark
    ]


def _read(paths: Iterable[Path]) -> Iterator[GuardRecord]:
    for path in paths:
        try:
            guard = GuardRecord.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ReportError(f"{path}: cannot be read ({error.strerror}); delete it.") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise ReportError(
                f"{path}: no guard file ({first['msg']}); delete it, and run the check again."
            ) from None
        if path.stem != guard.name:  # a copy would show one guard twice
            raise ReportError(f"{path}: holds the guard {guard.name}; rename it or delete it.")
        yield guard
