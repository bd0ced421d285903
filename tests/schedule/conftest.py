# SPDX-License-Identifier: GPL-2.0-only
"""Both pairs, and machines that run them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from harness.protocol.history import Schedule
from harness.protocol.verdict import search
from harness.qemu.vm import QEMU
from harness.schedule.machine import Machine
from harness.schedule.subject import Subject, load_subject


@pytest.fixture(scope="session")
def needs_qemu() -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} not found")


@pytest.fixture(scope="session")
def rfc() -> Subject:
    return load_subject("multikernel_rfc")


@pytest.fixture(scope="session")
def hardened() -> Subject:
    return load_subject("multikernel")


@pytest.fixture(scope="session")
def schedules(rfc: Subject) -> dict[str, Schedule]:
    return search(rfc.pair)


@pytest.fixture(scope="session")
def rfc_machine(needs_qemu: None, rfc: Subject) -> Iterator[Machine]:
    """One machine for all tests: that it serves many is part of what is tested."""
    with Machine(rfc) as machine:
        yield machine


@pytest.fixture(scope="session")
def hardened_machine(needs_qemu: None, hardened: Subject) -> Iterator[Machine]:
    with Machine(hardened) as machine:
        yield machine
