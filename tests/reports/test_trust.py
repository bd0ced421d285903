# SPDX-License-Identifier: GPL-2.0-only
"""The trust page names what must be believed, and counts only what was checked of these files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.guard import GuardRecord
from reports.files import ReportError
from reports.fingerprint import fingerprint
from reports.guards import FOLDER, NAMES, read_guards, write_guard
from reports.html import render_page, write_page
from reports.trust import gather
from tests.reports.factory import AGREES, proved, refuted, samples


def guard(**changes: Any) -> GuardRecord:
    fields: dict[str, Any] = {
        "name": "mutants",
        "shows": "A claim can fail.",
        "command": "python -m proofs.mutants",
        "fingerprint": fingerprint(),
        "complete": True,
        "figures": {"refuted": "1,234", "survived": "5"},
        "problems": (),
        "seconds": 1.0,
    }
    return GuardRecord(**fields | changes)


def test_a_guard_of_the_project_as_it_is_is_shown(tmp_path: Path) -> None:
    write_guard(guard(), tmp_path)
    assert read_guards(tmp_path) == [guard()]
    write_page([proved()], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "1,234 refuted, 5 survived" in page
    assert gather([], read_guards(tmp_path)).not_run == tuple(n for n in NAMES if n != "mutants")
    assert "were not run with the project as it is" in page
    assert "were not run" not in render_page([proved()], [guard(name=name) for name in NAMES])


def test_a_verdict_of_other_files_is_said_to_be_one(tmp_path: Path) -> None:
    now, before = proved("a"), proved("b", of="of yesterday")
    assert "other files than the project has now" not in render_page([now])
    page = render_page([now, before])
    assert "so make prove again: 1 on b<" in page


def test_a_copy_of_a_guard_under_another_name_is_named(tmp_path: Path) -> None:
    write_guard(guard(), tmp_path)
    folder = tmp_path / FOLDER
    (folder / "steady.json").write_bytes((folder / "mutants.json").read_bytes())
    with pytest.raises(ReportError, match=r"steady.json: holds the guard mutants"):
        read_guards(tmp_path)


def test_a_guard_of_other_files_counts_for_nothing(tmp_path: Path) -> None:
    write_guard(guard(fingerprint="of yesterday"), tmp_path)
    assert read_guards(tmp_path) == []
    assert "were not run with the project as it is" in render_page([proved()], [])


def test_what_a_guard_has_found_is_said(tmp_path: Path) -> None:
    page = render_page([proved()], [guard(problems=("<b> survived",), open=("why",))])
    assert '<li class="bad">&lt;b&gt; survived</li>' in page
    assert "explained: 1" in page
    assert "in part only: 1,234" in render_page([proved()], [guard(complete=False)])


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"{}", "no guard file"), (b"\xff", "no guard file"), (None, "cannot be read")],
)
def test_a_damaged_guard_file_is_named(tmp_path: Path, data: bytes | None, said: str) -> None:
    path = tmp_path / FOLDER / "mutants.json"
    path.parent.mkdir()
    path.mkdir() if data is None else path.write_bytes(data)
    with pytest.raises(ReportError, match=f"mutants.json: {said}"):
        read_guards(tmp_path)


def test_assumptions_say_who_makes_them() -> None:
    records = [
        proved("a", "paths", assumptions=("one", "two")),
        proved("a", "code", assumptions=("one",)),
        proved("b", "paths", assumptions=("one",)),
    ]
    assert [(one.text, one.of) for one in gather(records, []).assumptions] == [
        ("one", ("a", "b")),
        ("two", ("a (paths)",)),
    ]


def test_many_claims_that_make_an_assumption_are_counted() -> None:
    records = [
        proved("a", claim, assumptions=("one",) if claim != "paths" else ())
        for claim in ("paths", "code", "stack", "hand_off", "footprint")
    ]
    assert gather(records, []).assumptions[0].of == ("a (4 of 5 claims)",)


def test_models_are_listed_with_their_limits_and_the_manuals_sections() -> None:
    models = {model.name: model for model in gather([], []).models}
    assert "not_modelled" not in models and "bits" in models
    modes = models["modes"]
    assert modes.says.startswith("Processor modes") and "no virtual-8086 mode" in modes.limits
    assert {"3A 4.1.2", "3A 9.8.5", "1 3.4.3"} <= set(modes.sections)
    assert not any("2.0" in one for model in models.values() for one in model.sections)


def test_tools_have_the_versions_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = {tool.name: tool.version for tool in gather([], []).tools}
    assert tools["z3-solver"] == "4.13.0.0" and tools["as"][0].isdigit()
    monkeypatch.setenv("PATH", "/nowhere")
    assert {tool.version for tool in gather([], []).tools if tool.name == "as"} == {"not installed"}


def test_a_disagreement_of_the_second_solver_is_counted() -> None:
    def one(verdict: str) -> Any:
        known = refuted().obligations[0]
        return known.model_copy(update={"verdict": verdict, "second": AGREES})

    records = [proved(obligations=(one("PROVED"), one("DISAGREE")))]
    assert gather(records, []).second == (2, 1)
    assert "they disagree" in render_page(records)


def test_a_second_solver_that_gives_no_answer_does_not_agree() -> None:
    silent = AGREES.model_copy(update={"violation": "none"})
    known = refuted().obligations[0].model_copy(update={"second": silent})
    assert gather([refuted(obligations=(known,))], []).second == (1, 0)


def test_replays_are_counted_once_for_each_trampoline() -> None:
    records = [proved("a", "paths"), proved("a", "code"), proved("b", "paths")]
    assert gather(records, []).replays == 2 * samples().agreed
