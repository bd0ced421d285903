# SPDX-License-Identifier: GPL-2.0-only
"""How long a replay takes."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from harness.qemu.job import Job
from harness.qemu.machine import Machine


def replay_ms(jobs: Iterable[Job]) -> float:
    """Return the median wall-clock milliseconds of one replay in bulk, QEMU's start not counted.

    Raises QemuMissing, BadJob.
    """
    with Machine() as machine:
        return 1e3 * median(outcome.seconds for outcome in machine.run(jobs))
