# SPDX-License-Identifier: GPL-2.0-only
"""A running machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from harness.qemu.machine import Machine, Patience
from harness.qemu.vm import QEMU


@pytest.fixture(scope="session")
def needs_qemu() -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} not found")


@pytest.fixture(scope="session")
def machine(needs_qemu: None) -> Iterator[Machine]:
    """One machine for all tests: that it serves many is part of what is tested."""
    with Machine(patience=Patience(halted=0.1, running=0.4)) as running:
        yield running
