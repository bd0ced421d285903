# SPDX-License-Identifier: GPL-2.0-only
"""A night runs every stage, keeps what is done, and its exit status says what was found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.guard import GuardRecord
from harness.record import ClaimRecord, Evidence
from proofs import nightly
from proofs.nightly import FILE, FOLDER, LOCK, Night, Stage, night
from reports.files import ReportError, write_records
from reports.fingerprint import ROOT, fingerprint
from reports.guards import NAMES, write_guard
from reports.nights import history
from tests.reports.factory import proved, refuted, replay, samples
from trampoline.errors import UserError


def stage(name: str, tmp_path: Path, status: int = 0) -> Stage:
    """Writes its name, then ends with the status."""
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} '); raise SystemExit({status})"
    (tmp_path / f"stage_{name}.py").write_text(code)
    return Stage(name, f"stage_{name}")


def ran(tmp_path: Path) -> list[str]:
    return (tmp_path / "ran").read_text().split()


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = tmp_path / "out"
    write_records([proved()], folder)
    return folder


def run(stages: list[Stage], out: Path) -> int:
    return night(stages, out, Console(quiet=True))


def test_what_is_done_is_not_done_again(tmp_path: Path, out: Path) -> None:
    stages = [stage("a", tmp_path), stage("b", tmp_path)]
    assert run(stages[:1], out) == 0
    assert run(stages, out) == 0
    assert ran(tmp_path) == ["a", "b"]
    assert (out / "index.html").exists()


def test_a_change_in_the_project_begins_the_night_anew(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([stage("a", tmp_path)], out) == 0
    monkeypatch.setattr(nightly, "fingerprint", lambda: "changed")
    assert run([stage("a", tmp_path)], out) == 0
    assert ran(tmp_path) == ["a", "a"]


def test_a_change_during_the_night_is_noticed(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = iter(["before", "after"])
    monkeypatch.setattr(nightly, "fingerprint", lambda: next(marks))
    with pytest.raises(UserError, match="changed in this night"):
        run([stage("a", tmp_path)], out)
    assert not (out / FILE).exists()


@pytest.mark.parametrize(("status", "said"), [(0, 0), (1, 1), (2, 2), (-9, 2), (77, 2)])
def test_the_exit_status_is_that_of_the_worst_stage_and_all_are_run(
    tmp_path: Path, out: Path, status: int, said: int
) -> None:
    first = stage("a", tmp_path, status)
    if status < 0:
        (tmp_path / "stage_a.py").write_text("import os; os.kill(os.getpid(), 9)")
        (tmp_path / "ran").touch()
    assert run([first, stage("b", tmp_path)], out) == said
    assert ran(tmp_path)[-1] == "b"
    known = Night.model_validate_json((out / FILE).read_bytes())
    assert [known.stages[name].status for name in "ab"] == [said, 0]


def test_what_could_not_be_run_is_run_again_and_what_was_found_is_not(
    tmp_path: Path, out: Path
) -> None:
    stages = [stage("a", tmp_path, 2), stage("b", tmp_path, 1)]
    assert (run(stages, out), run(stages, out)) == (2, 2)
    assert ran(tmp_path) == ["a", "b", "a"]


def left(out: Path, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "name": "a", "shows": "", "command": "", "fingerprint": fingerprint(), "complete": True,
        "figures": {}, "problems": (), "seconds": 0.0,
    }  # fmt: skip
    write_guard(GuardRecord(**fields | changes), out)


@pytest.mark.parametrize(
    "changes", [None, {"complete": False}, {"fingerprint": "of yesterday"}, {"problems": ("x",)}]
)
def test_a_stage_that_leaves_no_whole_guard_was_not_run(
    tmp_path: Path, out: Path, changes: dict[str, Any] | None
) -> None:
    if changes is not None:
        left(out, **changes)
    one = stage("a", tmp_path)._replace(guard="a")
    assert (run([one], out), run([one], out)) == (2, 2)
    left(out)
    assert (run([one], out), run([one], out)) == (0, 0)
    (out / "guards" / "a.json").unlink()
    assert run([one], out) == 2
    assert ran(tmp_path) == ["a"] * 4


def test_each_stage_but_the_proofs_leaves_a_guard_of_those_that_there_are() -> None:
    assert tuple(one.guard for one in nightly.STAGES) == ("", *NAMES)


def test_the_stage_beside_kvm_is_left_out_and_that_is_said_where_kvm_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with: list[list[str]] = []

    def noted(stages: Sequence[Stage], *_: object, **__: object) -> int:
        run_with.append([one.name for one in stages])
        return 0

    monkeypatch.setattr(nightly, "night", noted)
    monkeypatch.setattr("harness.lockstep.kvm.DEVICE", tmp_path / "kvm")
    assert nightly.main([]) == 0
    assert f"without the stage beside KVM: {tmp_path}/kvm does not open here" in (
        capsys.readouterr().out.replace("\n", "")
    )
    (tmp_path / "kvm").touch()
    assert nightly.main([]) == nightly.main(["--only", "beside KVM"]) == 0
    every = [one.name for one in nightly.STAGES]
    assert run_with == [[one for one in every if one != "beside KVM"], every, ["beside KVM"]]


def test_two_nights_do_not_run_at_once(tmp_path: Path, out: Path) -> None:
    (out / FOLDER).mkdir()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
    code = f"{hold}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out / LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        with pytest.raises(UserError, match="Another night is running"):
            run([stage("a", tmp_path)], out)


@pytest.mark.parametrize("data", [b"{", b'{"stages": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, out: Path, data: bytes) -> None:
    (out / FOLDER).mkdir()
    (out / FILE).write_bytes(data)
    with pytest.raises(ReportError, match=f"{FILE}: is damaged"):
        run([stage("a", tmp_path)], out)


def test_every_stage_names_a_command_that_exists(capfd: Any) -> None:
    for one in nightly.STAGES:
        help_of = [sys.executable, "-m", one.module, "--help"]
        done = subprocess.run(help_of, cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, one


def test_a_whole_night_is_kept_with_what_changed(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(highlight=False)
    assert run([stage("a", tmp_path)], out) == 0
    assert history(out) == []
    assert night([stage("a", tmp_path)], out, console, whole=True) == 0
    (first,) = history(out)
    assert (first.status, first.changes, first.fingerprint) == (0, None, fingerprint())
    write_records([refuted("multikernel", "hand_off", as_expected=False)], out)
    assert night([stage("b", tmp_path, 1)], out, console, whole=True) == 1
    said = capsys.readouterr().out
    assert f"the night {first.name}: nothing to compare with" in said
    assert "1 change\n  new finding: multikernel hand_off: PROVED before, now REFUTED" in said
    assert history(out)[1].status == 1


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (proved(), 0),
        (refuted(), 0),
        (proved(verdict="UNKNOWN"), 2),
        (proved(verdict="DISAGREE"), 3),
        (proved(samples=samples(contradictions=(replay(Evidence.CONTRADICTED),))), 3),
    ],
)
def test_what_is_not_decided_or_contradicts_shows_in_the_exit_status(
    tmp_path: Path, out: Path, record: ClaimRecord, status: int
) -> None:
    write_records([record], out)
    assert run([stage("a", tmp_path)], out) == status


def test_a_change_shows_in_the_exit_status_but_a_longer_time_does_not(
    tmp_path: Path, out: Path
) -> None:
    quiet = Console(quiet=True)
    for record, status in (
        (proved(), 0),
        (proved(seconds=9.0), 0),
        (refuted("multikernel", "hand_off"), 1),
        (refuted("multikernel", "hand_off"), 0),
    ):
        write_records([record], out)
        assert night([stage("a", tmp_path)], out, quiet, whole=True) == status
        assert history(out)[-1].status == status
