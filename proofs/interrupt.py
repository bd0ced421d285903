# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C that arrives where an exception would not come through is put off until that is over.

Python ignores exceptions of destructors (z3's terms have one), so a KeyboardInterrupt raised there
would be lost. What `from_param` raises, with which ctypes takes arguments (z3's types have one),
becomes an ArgumentError.
"""

from __future__ import annotations

import signal
from types import FrameType

DELAY = 0.01  # seconds
NOT_THROUGH = ("__del__", "from_param")
"""Functions out of which an exception does not come as what it is."""


def install() -> None:
    """Handle SIGINT so from now on. SIGALRM is used for what was put off."""
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGALRM, _interrupted)


def _interrupted(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_name in NOT_THROUGH:
            signal.setitimer(signal.ITIMER_REAL, DELAY)
            return
        frame = frame.f_back
    raise KeyboardInterrupt
