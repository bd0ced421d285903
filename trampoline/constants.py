# SPDX-License-Identifier: GPL-2.0-only
"""Integer constants of a C header, so that nobody writes them down twice."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from trampoline.errors import UserError

_DEFINE = re.compile(r"#define ([A-Za-z]\w*) (0[xX][0-9a-fA-F]+|\d+)")


def read_constants(header: Path) -> dict[str, int]:
    """Name to value of each macro of `header`, and of what it includes, that is a plain integer."""
    done = subprocess.run(
        ["gcc", "-E", "-dM", "-ffreestanding", "-x", "c", str(header)],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )
    if done.returncode:
        raise UserError(f"{header}: gcc cannot preprocess it; mend what it includes.")
    found = (_DEFINE.fullmatch(line.strip()) for line in done.stdout.splitlines())
    return {match[1]: int(match[2], 0) for match in found if match}
