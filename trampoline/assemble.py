# SPDX-License-Identifier: GPL-2.0-only
"""From assembly source to an ELF object, with the C preprocessor and GNU as."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

INCLUDE_FOLDER = Path(__file__).parent / "include"


def assemble(source: Path, target: Path) -> str | None:
    """Assemble `source` into the ELF64 object `target`, with a line table.

    Returns None, or the one sentence that says why there is no object.
    """
    if not source.is_file():
        return f"{source}: no such file; name the assembly source in [image] source."
    for tool, package in (("gcc", "gcc"), ("as", "binutils")):
        if shutil.which(tool) is None:
            return f"{source}: cannot be assembled without {tool}; install the package {package}."
    done = subprocess.run(
        [
            "gcc", "-c", "-m64", "-g", "-x", "assembler-with-cpp", "-Wa,--fatal-warnings",
            "-I", str(INCLUDE_FOLDER), str(source), "-o", str(target),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return None
    return f"{source}: does not assemble; mend this first: {_first_complaint(done.stderr)}."


def _first_complaint(stderr: str) -> str:
    """The first error in gcc's output, else the first warning; other lines give context."""
    lines = [line.strip() for line in stderr.splitlines()]
    lines = [line for line in lines if line and "treating warnings as errors" not in line]
    for mark in ("error:", "warning:", ""):
        for line in lines:
            if mark in line.lower():
                return line.rstrip(".")
    return "gcc failed without a message"
