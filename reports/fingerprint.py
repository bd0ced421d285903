# SPDX-License-Identifier: GPL-2.0-only
"""One number for all that a result depends on: it counts only while nothing of that has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.files import OUT

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("harness", "models", "proofs", "trampoline", "tests/models")
"""The cases that the models are measured by are one. Not the reports: how a result is shown does
not change it."""
ENDS = ("py", "ini", "cfg", "toml", "lock")
"""Of files beside them: what Python finds first, how pytest is run, which packages there are."""
SURVIVORS = "survivors.toml"
"""Beside a contract: reasons for what a campaign has found. They change nothing of that."""


def fingerprint(
    options: Sequence[str] = (), out: Path = OUT, contracts: Sequence[Path] = ()
) -> str:
    """Changes when any file of the project does, or of a contract's folder, or the options do.

    Contracts may be among the options, too. What lies in `out` does not count.
    """
    digest = hashlib.sha256(_fixed("\0".join(options).encode()))
    given = [path.parent for path in (*map(Path, options), *contracts) if path.is_file()]
    folders = [*(ROOT / part for part in PARTS), *given]
    files = {path.resolve() for folder in folders for path in _below(folder)}
    files |= {path.resolve() for end in ENDS for path in ROOT.glob(f"*.{end}")}
    for path in sorted(files):
        kept = {OUT, out} & {*path.parents} or "__pycache__" in path.parts
        if path.is_file() and not kept and path.name != SURVIVORS:
            digest.update(_fixed(shown(path).encode()) + _fixed(path.read_bytes()))
    return digest.hexdigest()


def _fixed(data: bytes) -> bytes:
    """Of a length that is always the same, so that it is known where one thing ends."""
    return hashlib.sha256(data).digest()


def _below(folder: Path) -> Iterator[Path]:
    """All files below a folder, also where a link leads: contracts are found there, too."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()  # a link leads back
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)


def shown(path: Path) -> str:
    """A path of the project from its top level, so that it is the same in every checkout."""
    inside = path.is_relative_to(ROOT)
    return str(path.relative_to(ROOT) if inside else path)
