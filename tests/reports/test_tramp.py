# SPDX-License-Identifier: GPL-2.0-only
"""The command line: what it prints, its exit status, and a sentence for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.record import ClaimRecord
from reports import tramp
from reports.fingerprint import ROOT
from reports.run_proofs import these
from tests.reports.factory import broken, host_broken, proved, refuted, working

COMMANDS = ("prove", "report", "diff", "explain", "replay", "triage")
UNEXPECTED = refuted(expected="PROVED", as_expected=False)


def folder(place: Path, records: Iterable[ClaimRecord]) -> Path:
    place.mkdir(exist_ok=True)
    for one in records:
        path = place / f"{one.trampoline}.{one.claim}.json"
        path.write_text(one.model_dump_json())
    return place


def run(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as raised:
        tramp.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(raised.value.code or 0), said.out, said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example_and_is_in_the_readme(
    command: str, capsys: Any
) -> None:
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"Example: tramp {command}" in out
    assert "--json" in out
    assert f"`tramp {command}" in (ROOT / "README.md").read_text()


def test_the_readme_names_no_command_that_there_is_not() -> None:
    words = (ROOT / "README.md").read_text().split("`tramp ")[1:]
    assert {word.split("`")[0].split(" ")[0] for word in words} == set(COMMANDS)
    assert {command.name or "" for command in tramp.app.registered_commands} <= {""}
    assert len(tramp.app.registered_commands) == len(COMMANDS)


def test_the_console_script_runs() -> None:
    script = Path(sys.executable).parent / "tramp"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Exit status" in done.stdout


def test_a_finding_is_told_by_its_id_or_its_claim(tmp_path: Path, capsys: Any) -> None:
    out = folder(tmp_path, [proved(), refuted(), broken(), host_broken()])
    for name in ("MKRFC-2", "mkrfc-2", "multikernel_rfc.kernel_identity_map"):
        status, said, _ = run(capsys, "explain", name, "--out", out)
        assert status == 0
        for part in ("mapped only to the end", "kernel_phys_addr = 0x3ffff000", "trampoline.S:42"):
            assert part in said
    assert "CPU 1    SIPI" in run(capsys, "explain", "MKRFC-14", "--out", out)[1]
    assert "type = 0" in run(capsys, "explain", "MKRFC-18", "--out", out)[1]
    assert "207 replays agree" in run(capsys, "explain", "multikernel.hand_off", "--out", out)[1]
    told = run(capsys, "explain", "MKRFC-2", "--json", "--out", out)[1]
    assert json.loads(told)["finding"] == "MKRFC-2"


def test_what_is_refuted_otherwise_is_not_told_as_the_known_finding(
    tmp_path: Path, capsys: Any
) -> None:
    out = folder(
        tmp_path, [refuted(as_expected=False, reason="another cause than that of MKRFC-2")]
    )
    said = run(capsys, "explain", "MKRFC-2", "--out", out)[1]
    first = "multikernel_rfc kernel_identity_map: another cause than that of MKRFC-2"
    assert said.startswith(f"{first}\n")


@pytest.mark.parametrize(
    ("name", "hint"), [("MKRFC-22", "do you mean MKRFC-2"), ("?", "tramp report lists all")]
)
def test_an_unknown_finding_gets_the_nearest(
    tmp_path: Path, capsys: Any, name: str, hint: str
) -> None:
    status, _, said = run(capsys, "explain", name, "--out", folder(tmp_path, [refuted()]))
    assert status == 2
    assert said.startswith(f"{name}: no finding or claim has this name; {hint}")


def test_a_diff_says_what_changed_and_its_status_says_whether(tmp_path: Path, capsys: Any) -> None:
    before = folder(tmp_path / "before", [proved(), refuted()])
    after = folder(tmp_path / "after", [proved(), proved("multikernel_rfc", "kernel_identity_map")])
    text = "REFUTED (MKRFC-2) before, now PROVED"
    status, out, _ = run(capsys, "diff", before, after)
    assert (status, out) == (1, f"fixed: multikernel_rfc kernel_identity_map: {text}\n")
    status, out, _ = run(capsys, "diff", before, after, "--json")
    assert (status, [one["text"] for one in json.loads(out)]) == (1, [text])
    assert run(capsys, "diff", before, before)[:2] == (0, "nothing changed\n")
    slow = folder(tmp_path / "slow", [working(60_000_000), refuted()])
    status, out, _ = run(capsys, "diff", before, slow)
    assert status == 0 and out.startswith("slower: multikernel hand_off: ")


def test_a_report_has_all_forms_and_its_status_says_what_is_amiss(
    tmp_path: Path, capsys: Any
) -> None:
    out = folder(tmp_path / "out", [proved(), refuted()])
    files = [tmp_path / name for name in ("a.xml", "a.sarif", "a.md")]
    named = [
        x for pair in zip(("--junit", "--sarif", "--markdown"), files, strict=True) for x in pair
    ]
    status, said, _ = run(capsys, "report", "--out", out, *named, "--since", out)
    assert status == 0
    for path in (out / "index.html", *files):
        assert path.stat().st_size
        assert f"written: {path}" in said
    assert "Nothing changed" in files[2].read_text()
    folder(out, [UNEXPECTED])
    shape = tmp_path / "schema.json"
    status, said, _ = run(capsys, "report", "--out", out, "--json", "--schema", shape)
    assert (status, len(json.loads(said))) == (1, 2)
    check = Draft202012Validator(json.loads(shape.read_text()))
    for one in json.loads(said):
        check.validate(one)
        assert not check.is_valid({**one, "schema_version": 2})
        assert not check.is_valid({**one, "more": 1})


def test_a_mistake_is_one_sentence_and_status_two(tmp_path: Path, capsys: Any) -> None:
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    folder(other, [proved()])
    (other / "multikernel.hand_off.json").write_text('{"schema_version": 99}')
    for arguments, part in (
        (("report", "--out", empty), "holds no verdict files; run tramp prove first."),
        (("diff", empty, other), "holds no verdict files"),
        (("explain", "X", "--out", other), "has verdict schema 99"),
        (("prove", "nobody"), "nobody: neither a contract nor a shipped trampoline; give"),
    ):
        status, out, said = run(capsys, *arguments)
        assert (status, out, said.count("\n")) == (2, "", 1)
        assert part in said


def test_a_file_that_cannot_be_written_leaves_none(tmp_path: Path, capsys: Any) -> None:
    out = folder(tmp_path / "out", [proved()])
    good, bad = tmp_path / "a.xml", tmp_path / "out" / "index.html" / "a.sarif"
    status, _, said = run(capsys, "report", "--out", out, "--junit", good, "--sarif", bad)
    assert (status, good.exists()) == (2, False)
    assert "cannot be written" in said


def test_proving_one_claim_of_one_trampoline(tmp_path: Path, capfd: Any) -> None:
    status, out, _ = run(capfd, "prove", "la57", "--claim", "paths", "--json", "--out", tmp_path)
    assert status == 0
    assert [(one["trampoline"], one["claim"]) for one in json.loads(out)] == [("la57", "paths")]


def test_a_name_means_no_trampoline_that_only_contains_it() -> None:
    assert these(["la57"]) == "(la57 and not la57_posted)"
    assert these(["la57_posted", "own"]) == "(la57_posted) or (own)"


def test_a_claim_that_there_is_not_is_named(tmp_path: Path, capsys: Any) -> None:
    status, _, said = run(capsys, "prove", "la57", "--claim", "nothing", "--out", tmp_path)
    assert (status, said) == (2, "nothing: no such claim is asked there; see README.md.\n")
