# SPDX-License-Identifier: GPL-2.0-only
"""Run as a script: becomes the given command, bound to die with the process that started it.

    python lifeline.py PARENT_PID COMMAND [ARGUMENT ...]

A wrapper, because code between fork and exec is not safe in a parent that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL at the death of the parent, whose process this is."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the prctl
        sys.exit(1)


def main() -> None:
    """Become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    die_with(parent)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
