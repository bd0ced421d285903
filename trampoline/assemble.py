# SPDX-License-Identifier: GPL-2.0-only
"""From assembly source to an ELF object, with the C preprocessor and GNU as."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

INCLUDE_FOLDER = Path(__file__).parent / "include"


CARRIED = "trampoline.bin"
"""The name by which a carrier's source includes the image."""


def assemble(source: Path, target: Path, include: Path | None = None) -> str | None:
    """Assemble `source` into the ELF64 object `target`, with a line table.

    `include`: a further folder to look for included files in. Returns None, or the one sentence
    that says why there is no object.
    """
    if not source.is_file():
        return f"{source}: no such file; name the assembly source in [image] source."
    for tool, package in (("gcc", "gcc"), ("as", "binutils")):
        if shutil.which(tool) is None:
            return f"{source}: cannot be assembled without {tool}; install the package {package}."
    done = subprocess.run(
        [
            "gcc", "-c", "-m64", "-g", "-x", "assembler-with-cpp", "-Wa,--fatal-warnings",
            "-I", str(INCLUDE_FOLDER), *(("-I", str(include)) if include else ()),
            str(source), "-o", str(target),
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


def flatten(target: Path, folder: Path) -> str | None:
    """Link the object `target` at address 0 and write its bytes to CARRIED in `folder`.

    Returns None, or the one sentence that says why that cannot be done.
    """
    linked = folder / "linked.elf"
    for command in (
        ["ld", "-Ttext=0", "--entry=0", "--build-id=none", str(target), "-o", str(linked)],
        ["objcopy", "-O", "binary", "-j", ".text", str(linked), str(folder / CARRIED)],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return f"cannot be linked without {command[0]}; install the package binutils."
        if done.returncode != 0:
            return (
                f"cannot be linked at address 0; mend this first: {_first_complaint(done.stderr)}."
            )
    target.write_bytes(linked.read_bytes())
    return None


def _first_complaint(stderr: str) -> str:
    """The first error in gcc's output, else the first warning; other lines give context."""
    lines = [line.strip() for line in stderr.splitlines()]
    lines = [line for line in lines if line and "treating warnings as errors" not in line]
    # ld names the function first, and then file and line, or section and offset.
    lines = [line for line in lines if ": in function `" not in line] or lines
    for mark in ("error:", "warning:", ""):
        for line in lines:
            if mark in line.lower():
                return line.rstrip(".")
    return "gcc failed without a message"
