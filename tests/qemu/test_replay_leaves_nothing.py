# SPDX-License-Identifier: GPL-2.0-only
"""However Python ends, no QEMU process and no file stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.qemu.jobs import qemu_children

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = """
from itertools import repeat
from harness.qemu.job import Job
from harness.qemu.machine import Machine
with Machine() as machine:
    print("up", flush=True)
    for _ in machine.run(repeat(Job(bytes.fromhex("{image}"), 0x1000, 1 << 24, 1 << 25))):
        {after}
"""
HALT = "fa" + "f4"  # slow path, QMP
UD2 = "2e660f011e0800" + "0f0b" + "00" * 16  # lidtl %cs:8; resets


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("image", [HALT, UD2], ids=["looking", "resetting"])
@pytest.mark.parametrize(
    ("how", "after"),
    [
        (signal.SIGINT, "pass"),
        (signal.SIGTERM, "pass"),
        (signal.SIGKILL, "pass"),
        (None, "raise RuntimeError"),
    ],
    ids=["ctrl-c", "term", "kill", "exception"],
)
def test_nothing_survives(
    needs_qemu: None, tmp_path: Path, image: str, how: signal.Signals | None, after: str
) -> None:
    script = ENDLESS.format(image=image, after=after)
    python = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert python.stdout is not None
    assert python.stdout.readline() == b"up\n"
    qemu = qemu_children(python.pid)
    if how is not None:
        assert len(qemu) == 1
        time.sleep(0.3)  # into the jobs
        python.send_signal(how)
    assert python.wait(timeout=20) != 0
    python.stdout.close()
    deadline = time.monotonic() + 5
    while not all(gone(pid) for pid in qemu) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(gone(pid) for pid in qemu)
    assert list(tmp_path.iterdir()) == []
