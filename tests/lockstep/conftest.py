# SPDX-License-Identifier: GPL-2.0-only
"""What the tests beside QEMU's CPU need."""

from __future__ import annotations

import shutil

import pytest

from harness.qemu.vm import QEMU


@pytest.fixture(scope="session")
def needs_qemu() -> None:
    """Skip where there is none."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} not found")
