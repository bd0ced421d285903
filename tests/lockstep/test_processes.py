# SPDX-License-Identifier: GPL-2.0-only
"""Processes on all cores: none outlives the one that started it, and each end is one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.processes import all_cores
from harness.qemu.vm import QemuMissing
from reports.fingerprint import ROOT
from trampoline.errors import UserError

PATIENCE = 20.0  # seconds
SCRIPT = """
import os, sys, time
from harness.processes import all_cores
from tests.lockstep.test_processes import sleep
if __name__ == "__main__":
    try:
        with all_cores() as pool:
            list(pool.map(sleep, [sys.argv[1]] * 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def sleep(folder: str) -> None:
    """Say who sleeps, and do it for long."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def end(_: int) -> None:
    """As the kernel ends a process when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def missing(_: int) -> None:
    """Fail as where there is no QEMU."""
    raise QemuMissing


def missing_or_slow(number: int) -> None:
    """The first one fails, each other takes a second."""
    if number == 0:
        raise QemuMissing
    time.sleep(1)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not waited for yet does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_all_end_with_the_one_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    began = time.monotonic()
    while not (names := os.listdir(tmp_path)) and time.monotonic() < began + PATIENCE:
        time.sleep(0.05)
    assert names
    if number == signal.SIGINT:  # as a terminal does: to all of them
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    _, said = parent.communicate(timeout=PATIENCE)
    while any(map(alive, map(int, names))) and time.monotonic() < began + 2 * PATIENCE:
        time.sleep(0.05)
    assert not any(map(alive, map(int, names)))
    if number == signal.SIGINT:
        assert (parent.returncode, said) == (130, b"")


def test_one_that_is_killed_is_told_in_a_sentence() -> None:
    with pytest.raises(UserError, match="was killed, for want of memory perhaps"), all_cores() as p:
        list(p.map(end, [1]))


def test_what_is_missing_in_one_is_told_as_if_there_was_one_only() -> None:
    with pytest.raises(QemuMissing, match="qemu-system-x86"), all_cores() as pool:
        list(pool.map(missing, [1]))


def test_what_is_not_begun_when_one_fails_is_left_out_without_a_word(
    capfd: pytest.CaptureFixture[str],
) -> None:
    began = time.monotonic()
    with pytest.raises(QemuMissing), all_cores() as pool:
        waiting = [
            pool.submit(missing_or_slow, number) for number in range(100 * (os.cpu_count() or 1))
        ]
        waiting[0].result()
    assert time.monotonic() < began + PATIENCE
    assert capfd.readouterr() == ("", "")
