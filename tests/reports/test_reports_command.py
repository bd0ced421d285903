# SPDX-License-Identifier: GPL-2.0-only
"""`tramp report` renders any night's verdicts with nothing but the verdict files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reports.files import write_records
from reports.html import render_page
from tests.reports.factory import no_samples, proved, refuted

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reports.tramp", "report", "--out", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_page_and_table_are_made_and_the_last_line_names_missing_evidence(tmp_path: Path) -> None:
    records = [proved(samples=no_samples()), refuted()]
    write_records(records, tmp_path)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == render_page(records)
    assert "REFUTED (MKRFC-2)" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "evidence: not replayed: qemu-system-x86_64 not found"


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_mistake_is_one_sentence_and_exit_code_two(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "multikernel.paths.json").write_bytes(content)
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(str(tmp_path))
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "index.html").exists()


def test_neither_angr_nor_z3_is_loaded() -> None:
    code = "import reports.tramp, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"angr", "claripy", "proofs", "unicorn", "z3"}.isdisjoint(done.stdout.split())
