# SPDX-License-Identifier: GPL-2.0-only
"""Whatever depends on the solver's seed, or on the order of obligations, is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.record import ClaimRecord
from harness.solve.decide import RLIMIT
from proofs.steady import Variant, differences, head_room, variants
from tests.proofs.conftest import Proofs
from tests.proofs.variants import tiny
from tests.reports.factory import broken, host_broken, proved, refuted, schedule, witness

KEY = ("multikernel", "hand_off")


def against(first: ClaimRecord | None, other: ClaimRecord | None) -> list[str]:
    return list(
        differences({KEY: first} if first else {}, {KEY: other} if other else {})  # one claim each
    )


@pytest.mark.parametrize(
    ("first", "other", "said"),
    [
        (proved(), proved(verdict="UNKNOWN", reason="gave up"), "PROVED, there UNKNOWN (gave up)"),
        (refuted(), proved(), "REFUTED, there PROVED ()"),
        (proved(), None, "by one of the two only"),
        (None, proved(), "by one of the two only"),
        (refuted(), refuted(witness=witness(inputs={"base": "0x1000"})), "by another witness"),
        (broken(), broken(schedules=(schedule("another"),)), "by another witness"),
        (host_broken(), host_broken(goals=()), "by another witness"),
        (refuted(), refuted(paths=("a fault",)), "other paths"),
        (refuted(), refuted(obligations=()), "verdicts on single obligations"),
    ],
    ids=[*"verdict refuted lost new witness schedule goals paths obligations".split()],
)
def test_what_differs_is_named(
    first: ClaimRecord | None, other: ClaimRecord | None, said: str
) -> None:
    found = against(first, other)
    assert len(found) == 1
    assert found[0].startswith("multikernel hand_off: ") and said in found[0]


@pytest.mark.parametrize("record", [proved(), refuted(), broken(), host_broken()])
def test_times_and_replays_make_no_difference(record: ClaimRecord) -> None:
    slower = [one.model_copy(update={"seconds": 99.0, "rlimit": 1}) for one in record.obligations]
    later = record.model_copy(
        update={"seconds": 99.0, "samples": None, "obligations": tuple(slower[::-1])}
    )
    assert against(record, later) == []


def test_head_room_is_that_of_the_hardest_question_of_all() -> None:
    easy = proved(machine_rlimit=1)
    (one,) = easy.obligations
    hard = proved(obligations=(one.model_copy(update={"rlimit": RLIMIT // 4}),))
    assert head_room([easy, hard]) == (4.0, "multikernel hand_off, rip is kernel")
    assert head_room([proved(machine_rlimit=10_000_000)])[1].endswith("the symbolic execution")
    assert head_room([]) == (float("inf"), "no question")


def test_each_seed_and_both_orders_are_tried() -> None:
    tried = variants(20)
    assert {variant.seed for variant in tried} == set(range(20))
    assert {variant.backwards for variant in tried if variant.seed == 0} == {False, True}
    assert len({variant.name for variant in tried}) == len(tried) == 21
    assert tried[0] == Variant(0)


def test_a_campaign_compares_keeps_what_is_done_and_starts_anew_after_a_change(
    proofs: Proofs, tmp_path: Path, checkout: Path, without_qemu: dict[str, str]
) -> None:
    out = tmp_path / "out"

    def campaign(*more: str) -> subprocess.CompletedProcess[str]:
        command = ["proofs.steady", "--seeds", "2", "--out", str(out), "-p", "no:cacheprovider"]
        return subprocess.run(
            [sys.executable, "-m", *command, "-k", "tiny and (paths or hand_off)", *more],
            cwd=checkout, env=without_qemu, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip

    folder = tmp_path / "tiny"
    folder.mkdir()
    contract = ("--trampoline", str(tiny(folder)))
    done = campaign(*contract)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 claims, 0 differences") == 3
    assert "head room: x" in done.stdout

    # A verdict that depends on the seed: the other variants are not proved again.
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    path = out / "seed-1" / "tiny.paths.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"verdict": "UNKNOWN", "reason": "gave up"}))
    done = campaign(*contract)
    assert done.returncode == 1
    assert "tiny paths: PROVED, there UNKNOWN (gave up)" in done.stdout
    assert {one: one.stat().st_mtime_ns for one in files if one != path} == {
        one: time for one, time in files.items() if one != path
    }

    done = campaign(*contract, "--backwards")  # other options: all is proved anew
    assert done.returncode == 0, done.stdout + done.stderr

    (folder / "tiny.S").write_text("this is no assembly\n")
    done = campaign(*contract)
    assert done.returncode == 1  # another source: nothing of it was proved before
    assert "seed-0: no verdicts: " in done.stderr

    done = campaign("--trampoline", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert "seed-0: no verdicts: " in done.stderr and "none.toml" in done.stderr
    assert "Traceback" not in done.stderr
