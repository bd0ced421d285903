# SPDX-License-Identifier: GPL-2.0-only
"""Jobs from the small target images of this folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.qemu.firmware import Flat, assemble
from harness.qemu.job import Job

TARGETS = Path(__file__).parent / "targets"
MIB = 1 << 20
GIB = 1 << 30
REFUSED = 0xBAD00001  # by park.S


def target(name: str) -> Flat:
    """Return the image targets/NAME.S and its labels."""
    return assemble(TARGETS / f"{name}.S")


def make_job(
    name: str,
    base: int = 0x90000,
    kernel: int = 16 * MIB,
    boot_params: int = 2 * MIB,
    **rest: Any,
) -> Job:
    """Make a job from targets/NAME.S, the mailbox filled in if the image has one."""
    flat = target(name)
    image = bytearray(flat.code)
    for label, value in (("kernel", kernel), ("boot_params", boot_params)):
        if label in flat.labels:
            at = flat.labels[label]
            image[at : at + 8] = value.to_bytes(8, "little")
    if "status" in flat.labels:
        rest = {"status_address": base + flat.labels["status"], **rest}
    return Job(bytes(image), base, kernel, boot_params, **rest)


def qemu_children(pid: int) -> list[int]:
    """Return the QEMU processes that process `pid` has started."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it may have ended since
            if b"qemu-system" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found
