# SPDX-License-Identifier: GPL-2.0-only
"""Forms of instructions compared on all cores: each process has a CPU of its own beside it."""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import cache, partial

from harness.lockstep.beside import Beside
from harness.lockstep.beside_qemu import BesideQemu
from harness.lockstep.beside_unicorn import BesideUnicorn
from harness.lockstep.singles import Asked, Compare, Compared, compare_one
from trampoline.errors import UserError


@contextmanager
def workers(qemu: bool) -> Iterator[Compare]:
    """What compares forms, beside QEMU's CPU or unicorn's. It raises UserError."""
    processes = multiprocessing.get_context("spawn")  # z3 does not survive a fork
    with ProcessPoolExecutor(mp_context=processes) as pool:

        def compare(everything: Sequence[Asked]) -> Iterator[Compared]:
            try:
                yield from pool.map(partial(_compare, qemu), everything)
            except BrokenProcessPool:
                raise UserError(
                    "A process that compares instructions was killed, for want of memory perhaps; "
                    "run again: modes that are complete are kept."
                ) from None

        yield compare


def _compare(qemu: bool, one: Asked) -> Compared:
    return compare_one(one, _beside(qemu))


@cache
def _beside(qemu: bool) -> Beside:
    """One for each process."""
    if not qemu:
        return BesideUnicorn()
    open_until_the_end = ExitStack()
    atexit.register(open_until_the_end.close)
    return open_until_the_end.enter_context(BesideQemu())
