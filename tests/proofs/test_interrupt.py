# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C during a run leaves no QEMU process and no half-written file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.proofs.conftest import PROOFS, ROOT
from tests.proofs.variants import TINY
from tests.qemu.jobs import qemu_children

PATIENCE = 60.0  # seconds until QEMU must have been started


def runs(pid: int) -> bool:
    """Whether the process is there and not merely waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_ctrl_c_leaves_nothing_behind(checkout: Path, tmp_path: Path, needs_qemu: None) -> None:
    command = [*PROOFS, "--trampoline", str(TINY / "contract.toml")]
    python = subprocess.Popen(
        command,
        cwd=checkout,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    qemu: list[int] = []
    deadline = time.monotonic() + PATIENCE
    while not qemu and time.monotonic() < deadline and python.poll() is None:
        time.sleep(0.02)
        qemu = qemu_children(python.pid)
    assert qemu, "no replay had begun"
    time.sleep(0.2)  # into the samples
    python.send_signal(signal.SIGINT)
    said, _ = python.communicate(timeout=30)
    assert python.returncode == 2, said  # pytest's "interrupted"
    assert "INTERNALERROR" not in said
    deadline = time.monotonic() + 5
    while any(map(runs, qemu)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(runs, qemu))
    for path in (checkout / "reports/out").glob("**/*"):
        assert path.suffix in (".json", ".html"), f"{path} is half-written"
        if path.suffix == ".json":
            json.loads(path.read_text())
    assert [path for path in tmp_path.iterdir() if path.name.startswith("trampoline-")] == []


DESTRUCTOR = """
class Term:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
Term()
"""
ARGUMENT = """
class Term:
    @classmethod
    def from_param(cls, value):
        signal.raise_signal(signal.SIGINT)
        return ctypes.c_int(value)
function = ctypes.CDLL(None).abs
function.argtypes = [Term]
function(1)
"""


@pytest.mark.parametrize("code", [DESTRUCTOR, ARGUMENT], ids=["destructor", "argument for C"])
def test_ctrl_c_where_no_exception_comes_through_is_not_lost(code: str) -> None:
    """Python drops an exception that a destructor raises; ctypes makes another one of it."""
    before = "import ctypes, signal, time\nfrom proofs import interrupt\ninterrupt.install()\n"
    command = [sys.executable, "-c", f"{before}{code}\ntime.sleep(10)"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr


CAUGHT = """
import sys
import z3
from harness.solve.evaluate import compile_term

def interrupt(frame, event, argument):
    if frame.f_code.co_filename in ("<string>", "<term>"):
        sys.settrace(None)
        raise KeyboardInterrupt

sys.settrace(interrupt)
try:
    compile_term(z3.BitVec("x", 8) + 1)
except KeyboardInterrupt:
    print("caught")
sys.exit(2)
"""


def test_ctrl_c_while_a_term_is_compiled_leaves_the_exit_status_alone() -> None:
    """Python would end itself by SIGINT at its exit if one came inside `exec` of a text."""
    done = subprocess.run(
        [sys.executable, "-c", CAUGHT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("caught\n", 2), done.stderr
