# SPDX-License-Identifier: GPL-2.0-only
"""One number for all that a result depends on: it counts only while nothing of that has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from reports.files import OUT

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("harness", "models", "proofs", "trampoline")
"""Not the reports: how a result is shown does not change it."""
SURVIVORS = "survivors.toml"
"""Beside a contract: reasons for what a campaign has found. They change nothing of that."""


def fingerprint(
    options: Sequence[str] = (), out: Path = OUT, contracts: Sequence[Path] = ()
) -> str:
    """Changes when any file of the project does, or of a contract's folder, or the options do.

    Contracts may be among the options, too. What lies in `out` does not count.
    """
    digest = hashlib.sha256("\0".join(options).encode())
    given = [path.parent for path in (*map(Path, options), *contracts) if path.is_file()]
    folders = [*(ROOT / part for part in PARTS), *given]
    files = {path.resolve() for folder in folders for path in folder.rglob("*")}
    for path in sorted((*files, ROOT / "requirements.lock", ROOT / "pyproject.toml")):
        kept = {OUT, out} & {*path.parents} or "__pycache__" in path.parts
        if path.is_file() and not kept and path.name != SURVIVORS:
            digest.update(shown(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def shown(path: Path) -> str:
    """A path of the project from its top level, so that it is the same in every checkout."""
    inside = path.is_relative_to(ROOT)
    return str(path.relative_to(ROOT) if inside else path)
