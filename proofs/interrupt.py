# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C that arrives inside a destructor (z3's terms have one) is put off until that is over.

Python ignores exceptions of destructors, so a KeyboardInterrupt raised there would be lost.
"""

from __future__ import annotations

import signal
from types import FrameType

DELAY = 0.01  # seconds


def install() -> None:
    """Handle SIGINT so from now on. SIGALRM is used for what was put off."""
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGALRM, _interrupted)


def _interrupted(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            signal.setitimer(signal.ITIMER_REAL, DELAY)
            return
        frame = frame.f_back
    raise KeyboardInterrupt
