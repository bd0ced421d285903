# SPDX-License-Identifier: GPL-2.0-only
"""Nights are kept whole, and compared with the one before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.record import ClaimRecord
from reports import nights
from reports.changes import Kind
from reports.files import ReportError, read_all, write_records
from reports.html import write_page
from reports.nights import HISTORY, history, keep, since_last
from tests.reports.factory import proved, refuted
from tests.reports.test_tramp import run

NOW = datetime(2026, 11, 29, 2, 30, tzinfo=UTC)
FIXED = proved("multikernel_rfc", "kernel_identity_map")


def night(out: Path, *records: ClaimRecord, days: int = 0, status: int = 0) -> nights.Entry:
    write_records(records, out)
    write_page(read_all(out), out / "index.html")
    return keep(out, "mark", status, 12.34, NOW + timedelta(days=days))


def test_a_night_is_a_folder_and_a_line(tmp_path: Path) -> None:
    entry = night(tmp_path, proved(), refuted(), status=1)
    assert (entry.name, entry.began) == ("2026-11-29", "2026-11-29T02:30:00+00:00")
    assert (entry.status, entry.seconds, entry.changes) == (1, 12.3, None)
    assert entry.verdicts == {"PROVED": 1, "REFUTED": 1}
    assert history(tmp_path) == [entry]
    place = tmp_path / "nights" / entry.name
    assert read_all(place) == [proved(), refuted()]
    for name in ("index.html", "summary.md", "proofs.sarif", "junit.xml"):
        assert (place / name).read_bytes() == (tmp_path / name).read_bytes() != b""


def test_what_changed_since_the_night_before_is_on_the_page_and_in_the_history(
    tmp_path: Path,
) -> None:
    night(tmp_path, proved(), refuted())
    entry = night(tmp_path, FIXED, days=1)
    assert [change.kind for change in entry.changes or ()] == [Kind.FIXED]
    page = (tmp_path / "nights" / entry.name / "index.html").read_text()
    assert "Since the night 2026-11-29" in page
    assert "<strong>fixed</strong>: multikernel_rfc kernel_identity_map" in page
    assert page.count('<strong class="changed">fixed</strong>') == 2  # matrix and table
    write_page(read_all(tmp_path), tmp_path / "index.html")
    assert "Nothing changed." in (tmp_path / "index.html").read_text()


def test_two_nights_of_one_day_have_two_names(tmp_path: Path) -> None:
    names = [night(tmp_path, proved()).name for _ in range(3)]
    assert names == ["2026-11-29", "2026-11-29.2", "2026-11-29.3"]
    assert [entry.name for entry in history(tmp_path)] == names


def test_without_a_night_before_nothing_is_compared(tmp_path: Path) -> None:
    assert since_last([proved()], tmp_path) is None
    write_page([proved()], tmp_path / "index.html")
    assert "Since the night" not in (tmp_path / "index.html").read_text()


def test_a_night_of_another_schema_is_said_to_be_one(tmp_path: Path) -> None:
    entry = night(tmp_path, proved())
    old = tmp_path / "nights" / entry.name / "multikernel.hand_off.json"
    old.write_text('{"schema_version": 1}')
    later = night(tmp_path, proved(), days=1)
    assert later.changes is None
    assert "It cannot be compared with" in (tmp_path / "index.html").read_text()
    assert "has verdict schema 1" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("line", ["{", '{"name": "x"}', "\x00"])
def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path: Path, line: str) -> None:
    night(tmp_path, proved())
    path = tmp_path / HISTORY
    path.write_text(path.read_text() + line + "\n")
    before = path.read_text()
    with pytest.raises(ReportError, match=r"history\.jsonl: line 2 is damaged"):
        keep(tmp_path, "mark", 0, 1.0, NOW + timedelta(days=1))
    assert path.read_text() == before
    assert [one.name for one in (tmp_path / "nights").iterdir() if one.is_dir()] == ["2026-11-29"]


def test_a_night_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records([proved()], tmp_path)
    write_page([proved()], tmp_path / "index.html")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(ReportError, match=r"cannot be kept \(No space left on device\)"):
        keep(tmp_path, "mark", 0, 1.0, NOW)
    assert list((tmp_path / "nights").iterdir()) == []


def test_nights_are_compared_by_name(tmp_path: Path, capsys: Any) -> None:
    first, second = night(tmp_path, proved(), refuted()), night(tmp_path, FIXED, days=1)
    status, out, _ = run(capsys, "diff", first.name, second.name, "--out", tmp_path)
    assert (status, out.startswith("fixed: multikernel_rfc")) == (1, True)
    status, _, said = run(capsys, "diff", "2026-11-01", second.name, "--out", tmp_path)
    assert status == 2
    assert said == (
        "2026-11-01: neither a folder nor a night; the last nights: 2026-11-29, 2026-11-30.\n"
    )
