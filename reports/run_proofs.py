# SPDX-License-Identifier: GPL-2.0-only
"""Runs the proofs, `pytest proofs/`, for some trampolines and claims."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from reports.fingerprint import ROOT
from trampoline.shipped import contracts

NOTHING_ASKED = 5
"""pytest's exit status where no test was selected."""


def run_proofs(
    paths: Sequence[Path],
    names: Sequence[str],
    claims: Sequence[str],
    out: Path,
    depth: Sequence[str],
    output: int | None,
) -> int:
    """Prove claims of trampolines, all if none is named; pytest's exit status.

    `paths` of the contracts and `names` of the trampolines belong together. `depth`: more options.
    `output`: the descriptor that it writes to; None: our own.
    """
    command = [sys.executable, "-m", "pytest", "proofs/", "-q", "-n", "auto", "--out", str(out)]
    shipped = contracts()
    for path in paths:
        if path not in shipped:
            command += ["--trampoline", str(path)]
    command += depth
    if asked := [part for part in (these(names), " or ".join(claims)) if part]:
        command += ["-k", " and ".join(f"({part})" for part in asked)]
    return subprocess.run(command, cwd=ROOT, stdout=output, check=False).returncode


def these(names: Sequence[str]) -> str:
    """An expression for pytest's -k: these trampolines, and none whose name only contains one."""
    known = {path.parent.name for path in contracts()} | set(names)
    return " or ".join(
        " and not ".join([f"({name}", *sorted(k for k in known if name in k and k != name)]) + ")"
        for name in names
    )
