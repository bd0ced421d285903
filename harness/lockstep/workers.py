# SPDX-License-Identifier: GPL-2.0-only
"""Trampolines, and forms of instructions, compared on all cores: each process has its own CPU."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path

from harness.lockstep.beside import Beside
from harness.lockstep.beside_qemu import beside_qemu
from harness.lockstep.beside_unicorn import BesideUnicorn
from harness.lockstep.record import WholeRecord
from harness.lockstep.singles import Asked, Compare, Compared, compare_one
from harness.lockstep.whole import step_through
from harness.processes import all_cores
from trampoline.contract import load_contract


def stepped(paths: Sequence[Path], number: int, mark: str, beside: str) -> Iterator[WholeRecord]:
    """Trampolines by their contracts, in this order, each as by `step_through`.

    Raises UserError.
    """
    with all_cores() as pool:
        yield from pool.map(partial(_step_through, number, mark, beside), paths)


def _step_through(number: int, mark: str, beside: str, path: Path) -> WholeRecord:
    return step_through(load_contract(path), number, mark, lambda text: None, beside)


@contextmanager
def workers(qemu: bool) -> Iterator[Compare]:
    """What compares forms, beside QEMU's CPU or unicorn's. It raises UserError."""
    with all_cores() as pool:
        yield partial(pool.map, partial(_compare, qemu))


def _compare(qemu: bool, one: Asked) -> Compared:
    return compare_one(one, _beside(qemu))


@cache
def _beside(qemu: bool) -> Beside:
    """One for each process."""
    if not qemu:
        return BesideUnicorn()
    open_until_the_end = ExitStack()
    atexit.register(open_until_the_end.close)
    return open_until_the_end.enter_context(beside_qemu())
