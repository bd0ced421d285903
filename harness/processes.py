# SPDX-License-Identifier: GPL-2.0-only
"""Processes on all cores that end with the one that started them, and at once on Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from harness.qemu.lifeline import die_with
from trampoline.errors import UserError


@contextmanager
def all_cores() -> Iterator[ProcessPoolExecutor]:
    """As many processes as there are cores. Raises UserError if one of them was killed."""
    spawned = multiprocessing.get_context("spawn")  # z3 does not survive a fork
    given = (os.getpid(),)
    with ProcessPoolExecutor(mp_context=spawned, initializer=_bound, initargs=given) as pool:
        try:
            yield pool
        except UserError:
            pool.shutdown(cancel_futures=True)  # what is under way comes to its end, and no more
            raise
        except BaseException as error:
            for child in multiprocessing.active_children():
                child.kill()
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "A process of several was killed, for want of memory perhaps; run again: what "
                    "is complete is kept."
                ) from None
            raise


def _bound(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too, and ends this one
    die_with(parent)
