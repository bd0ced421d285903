# SPDX-License-Identifier: GPL-2.0-only
"""What `pytest proofs/` says of a trampoline that is not in the tree, with and without QEMU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from tests.proofs.conftest import Proofs
from tests.proofs.variants import tiny
from trampoline.contract import ImageClaim

OTHER_SHAPES = {"table_switch", "entries_agree", "skip_is_safe", "once", "one_at_a_time"}
"""Claims that ask for parts which a trampoline with one real-mode entry has not."""
ALL_SHAPES = tuple(claim for claim in get_args(ImageClaim) if claim not in OTHER_SHAPES)
VERDICTS = dict.fromkeys(ALL_SHAPES, "PROVED") | {"hand_off": "REFUTED"}


def verdicts(out: Path) -> dict[str, str]:
    """From the verdict files."""
    files = (json.loads(path.read_text()) for path in out.glob("tiny.*.json"))
    return {record["claim"]: record["verdict"] for record in files}


def test_a_trampoline_outside_the_tree_is_proved_and_replayed(
    proofs: Proofs, tmp_path: Path, checkout: Path, needs_qemu: None
) -> None:
    done = proofs(tiny(tmp_path))
    assert done.returncode == 0, done.stdout
    assert verdicts(checkout / "reports/out") == VERDICTS
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    rows = {line.split()[0]: line for line in lines}
    assert "REFUTED (TINY-1)" in rows["hand_off"] and "CONFIRMED" in rows["hand_off"]
    assert "replays agree" in rows["kernel_identity_map"]
    assert "not replayed" not in done.stdout
    page = (checkout / "reports/out/index.html").read_text()
    assert "TINY-1" in page and "Proved of the assembled machine code" in page


def test_without_qemu_the_verdicts_are_the_same_and_the_last_line_says_so(
    proofs: Proofs, tmp_path: Path, checkout: Path, without_qemu: dict[str, str]
) -> None:
    done = proofs(tiny(tmp_path), env=without_qemu)
    assert done.returncode == 0, done.stdout
    assert verdicts(checkout / "reports/out") == VERDICTS
    lines = [line for line in done.stdout.splitlines() if line and "passed" not in line]
    assert lines[-1] == "evidence: not replayed: qemu-system-x86_64 not found"


@pytest.mark.parametrize(
    ("expected", "claim", "said"),
    [
        ("", "hand_off", "hand_off: REFUTED, expected PROVED"),
        (
            '[expected.paths]\nverdict = "REFUTED"\nfinding = "TINY-2"\n',
            "paths",
            "paths: PROVED, expected REFUTED",
        ),
    ],
    ids=["refuted, not expected", "proved, refutation expected"],
)
def test_another_verdict_than_the_expected_one_fails(
    proofs: Proofs,
    tmp_path: Path,
    without_qemu: dict[str, str],
    expected: str,
    claim: str,
    said: str,
) -> None:
    path = tiny(tmp_path)
    text = path.read_text()
    path.write_text(text[: text.index("[expected.")] + expected)
    done = proofs(path, claim, without_qemu)
    assert done.returncode == 1
    assert f"tiny, {said}" in done.stdout
    assert "Traceback" not in done.stdout
    told = {line.partition(":")[0] for line in done.stdout.splitlines()}
    steps = {"witness", "violated", "replay", "next"}
    assert told & steps == (steps if claim == "hand_off" else set())


def test_a_claim_that_ends_without_a_verdict_is_said_aloud(
    proofs: Proofs, tmp_path: Path, without_qemu: dict[str, str]
) -> None:
    (tmp_path / "breaks.py").write_text(
        "def pytest_pyfunc_call(pyfuncitem):\n"
        "    assert pyfuncitem.originalname != 'test_paths', 'broken on purpose'\n"
    )
    env = {**without_qemu, "PYTHONPATH": str(tmp_path)}
    done = proofs(tiny(tmp_path), "paths or code", env, ("-p", "breaks"))
    assert done.returncode == 3
    assert "broken on purpose" in done.stdout
    assert "ERROR: 1 of 2 claims have no verdict" in done.stdout
