# SPDX-License-Identifier: GPL-2.0-only
"""python -m harness.lockstep: what it prints, keeps and returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.guard import GuardRecord
from harness.lockstep import __main__ as command
from harness.lockstep import whole
from harness.lockstep.__main__ import Of
from harness.lockstep.compare import Agreement, Mismatch
from harness.lockstep.guards import of_whole
from harness.lockstep.record import FormRecord, SingleRecord, WholeRecord
from models.modes import Mode

LA57 = Path(__file__).resolve().parents[2] / "trampoline" / "la57" / "contract.toml"


def run(folder: Path, *more: str) -> int:
    return command.main([str(LA57), "--out", str(folder), *more])


def read(folder: Path) -> WholeRecord:
    return WholeRecord.model_validate_json((folder / "la57.json").read_bytes())


def test_a_trampoline_is_stepped_through_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path, "--inputs", "2") == 0
    said = capsys.readouterr().out
    assert said.startswith("la57: startup_64 2 inputs; 44 steps, ")
    assert "0 mismatches" in said
    record = read(tmp_path)
    assert (record.inputs, record.ends, record.mismatch) == ({"startup_64": 2}, 2, None)
    monkeypatch.setattr(command, "step_through", None)  # it is not called again
    assert run(tmp_path, "--inputs", "2") == 0
    assert capsys.readouterr().out == said


def test_a_mismatch_is_one_line_that_names_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Mismatch(17, 58, "write", "8 bytes at 0x7c00: 0x1", "none")
    found = iter([Agreement(57, 100, 10, True), wrong])
    monkeypatch.setattr(whole, "compare", lambda predictor, prediction: next(found))
    assert run(tmp_path, "--inputs", "3") == 1
    summary, line = capsys.readouterr().out.strip().split("\n")
    assert "startup_64 2 inputs" in summary and "1 mismatches" in summary
    assert line.startswith("la57: entry startup_64, step 17, startup_64+0x")
    assert "trampoline.S:" in line and "movsb.rep" in line
    assert "write: the run says 8 bytes at 0x7c00: 0x1, unicorn's CPU none; with " in line
    assert "sipi_vector = 0x" in line
    assert read(tmp_path).mismatch is not None


def test_what_differed_or_was_asked_otherwise_is_compared_again(tmp_path: Path) -> None:
    record = WholeRecord(
        trampoline="t", beside="unicorn", of="mark", asked=5, inputs={}, ends=0, steps=0,
        registers=0, writes=0, seconds=0,
    )  # fmt: skip
    path, of = tmp_path / "t.json", Of("t", "unicorn", "mark", 5)
    assert command.kept(path, WholeRecord, of) is None
    path.write_text(record.model_dump_json())
    assert command.kept(path, WholeRecord, of) == record
    for change in ({"mark": "other"}, {"asked": 6}, {"name": "u"}, {"beside": "QEMU"}):
        assert command.kept(path, WholeRecord, of._replace(**change)) is None
    path.write_text("{}")
    assert command.kept(path, WholeRecord, of) is None


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({}, 0),
        ({"inputs": {}}, 1),
        ({"inputs": {"a": 5, "b": 4}}, 1),
        ({"ends": 0}, 1),
        ({"registers": 0}, 1),
    ],
)
def test_less_than_was_asked_for_is_a_problem(fields: dict[str, Any], problems: int) -> None:
    whole: dict[str, Any] = {
        "trampoline": "t", "beside": "unicorn 2", "of": "mark", "asked": 5,
        "inputs": {"a": 5, "b": 5}, "ends": 9, "steps": 9, "registers": 9, "writes": 0,
        "seconds": 0,
    }  # fmt: skip
    found = of_whole([WholeRecord(**whole | fields)], "mark")
    assert len(found.problems) == problems


def test_a_guard_is_of_the_files_that_the_campaign_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = iter(["begin", "begin", "changed"])
    monkeypatch.setattr(command, "fingerprint", lambda **_: next(marks))
    guards: list[GuardRecord] = []

    def keep(records: list[WholeRecord], mark: str) -> GuardRecord:
        guards.append(of_whole(records, mark))
        return guards[-1]

    monkeypatch.setattr(command, "of_whole", keep)
    assert run(tmp_path, "--inputs", "1") == 0
    assert guards[0].fingerprint == "begin"


def a_form(compared: int) -> FormRecord:
    return FormRecord(
        form="nop", shipped=True, states=4, compared=compared, faults=0, by_table=0, registers=9,
        writes=0, refused={"a reason": 4 - compared}, limits={},
    )  # fmt: skip


@pytest.mark.parametrize(("compared", "code"), [(3, 0), (0, 1)])
def test_a_form_of_which_nothing_could_be_compared_fails(
    compared: int,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compare_mode(
        mode: Mode, everything: object, number: int, mark: str, say: object, name: str, _: object
    ) -> SingleRecord:
        return SingleRecord(
            mode=mode.value, beside=name, of=mark, asked=number, forms=(a_form(compared),),
            limits={}, seconds=0,
        )  # fmt: skip

    monkeypatch.setattr(command, "compare_mode", compare_mode)
    monkeypatch.setattr(command, "of_trampolines", lambda contracts: set())
    assert run(tmp_path, "--single", "--states", "4") == code
    said = capsys.readouterr().out
    assert ("64-bit mode: nothing was compared of nop" in said) == bool(code)
    assert (tmp_path / "single-long64.json").is_file()


def test_a_contract_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(tmp_path / "none.toml"), "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "none.toml" in shown.err and "Traceback" not in shown.err
    with pytest.raises(SystemExit):
        command.main(["--inputs", "0"])


def test_several_trampolines_are_told_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = LA57.parents[1] / "la57_posted" / "contract.toml"
    one = ["--out", str(tmp_path), "--inputs", "1"]
    assert command.main([str(other), *one]) == 0  # kept: it is not stepped through again
    assert command.main([str(LA57), str(other), *one]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["la57_posted", "la57", "la57_posted"]
    assert told[0] == told[2]
    third = LA57.parents[1] / "legoos" / "contract.toml"
    assert command.main([str(third), str(LA57), "--out", str(tmp_path / "new"), *one[2:]]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["legoos", "la57"]
