# SPDX-License-Identifier: GPL-2.0-only
"""Verdict files come back as they were written, are whole or absent, and say what is wrong."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.record import ClaimRecord
from reports.files import ReportError, locked, read_all, read_one, write_records
from reports.html import write_page
from tests.reports.factory import no_samples, proved, refuted, replay, samples


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def sentence(error: pytest.ExceptionInfo[ReportError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_records_come_back_equal_and_in_order(tmp_path: Path) -> None:
    order = ["paths", "hand_off", "kernel_identity_map", "boot_params_identity_map"]
    order += ["image_identity_map", "frame", "status"]
    records = [
        refuted(),
        proved(samples=no_samples('\u00e9 "quoted" \\ \n')),
        *(proved("alpha", claim) for claim in sorted(order)),
        proved("beta", samples=samples(contradictions=(replay(),))),
    ]
    write_records(records, tmp_path / "new" / "folder")
    back = read_all(tmp_path / "new" / "folder")
    assert sorted(back, key=repr) == sorted(records, key=repr)
    assert [record.claim for record in back[: len(order)]] == order
    assert [record.trampoline for record in back[len(order) :]] == [
        "beta",
        "multikernel",
        "multikernel_rfc",
    ]


def test_a_later_run_replaces_its_own_claims_only(tmp_path: Path) -> None:
    write_records([proved(), refuted()], tmp_path)
    write_records([proved(verdict="UNKNOWN", as_expected=False)], tmp_path)
    assert [record.verdict for record in read_all(tmp_path)] == ["UNKNOWN", "REFUTED"]
    assert names(tmp_path) == [
        "multikernel.hand_off.json",
        "multikernel_rfc.kernel_identity_map.json",
    ]


def test_two_verdicts_on_one_claim_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError) as caught:
        write_records([proved(), proved(verdict="UNKNOWN")], tmp_path)
    assert "multikernel.hand_off.json" in sentence(caught)
    assert names(tmp_path) == []


class FullDisk(io.RawIOBase):
    """A file on a disk with no room left."""

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_earlier_run_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records([proved(), refuted()], tmp_path)
    before = read_all(tmp_path)
    real_open = Path.open

    def open_until_full(path: Path, *rest: Any) -> Any:
        opened = real_open(path, *rest)
        if "multikernel_rfc" not in path.name:
            return opened
        opened.close()
        return FullDisk()

    monkeypatch.setattr(Path, "open", open_until_full)
    with pytest.raises(ReportError) as caught:
        write_records([proved(seconds=9.0), refuted(seconds=9.0)], tmp_path)
    monkeypatch.undo()
    text = sentence(caught)
    assert text.startswith(str(tmp_path / "multikernel_rfc.kernel_identity_map.json"))
    assert "No space left on device" in text
    assert read_all(tmp_path) == before
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("interruption", [OSError(errno.EACCES, "denied"), KeyboardInterrupt()])
def test_an_interrupted_replace_leaves_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    page = tmp_path / "index.html"
    page.write_text("old")

    def interrupted(source: Path, target: Path) -> None:
        assert source.parent == target.parent  # else a rename is no atomic step
        assert source.stat().st_size > 1000
        raise interruption

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises((ReportError, KeyboardInterrupt)):
        write_page([proved()], page)
    assert page.read_text() == "old"
    assert names(tmp_path) == ["index.html"]


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ReportError) as caught:
        write_records([proved()], tmp_path / "out")
    assert "cannot be written" in sentence(caught)
    with pytest.raises(ReportError) as caught:
        read_all(tmp_path / "out")
    assert "cannot be read" in sentence(caught)


def test_a_missing_folder_holds_no_verdicts(tmp_path: Path) -> None:
    assert read_all(tmp_path / "none") == []


def changed(**keys: Any) -> bytes:
    return json.dumps(proved().model_dump(mode="json") | keys).encode()


def without(key: str) -> bytes:
    fields = proved().model_dump(mode="json")
    del fields[key]
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a verdict file (Invalid JSON"),
        (changed()[:-9], "not a verdict file (Invalid JSON"),
        (b"\xff\xfe", "not a verdict file (Invalid JSON"),
        (b"[1]", "not a verdict file (Input should be an object"),
        (without("schema_version"), "not a verdict file at schema_version (Field required)"),
        (changed(schema_version=0), "has verdict schema 0, but schema 5 is needed"),
        (without("verdict"), "not a verdict file at verdict (Field required)"),
        (changed(colour="red"), "not a verdict file at colour (Extra inputs"),
        (changed(seconds="soon"), "not a verdict file at seconds (Input should be a valid number"),
        (changed(claim="paths"), "holds the verdict on paths of multikernel"),
    ],
)
def test_a_broken_or_old_file_is_named_in_one_sentence(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "multikernel.hand_off.json"
    path.write_bytes(content)
    with pytest.raises(ReportError) as caught:
        read_all(tmp_path)
    text = sentence(caught)
    assert text.startswith(f"{path}: {said}")
    assert "delete it" in text


def test_a_file_that_is_not_there_is_not_to_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(ReportError) as caught:
        read_one(tmp_path / "none.json")
    assert sentence(caught).endswith("none.json: there is no such file; run make prove to get one.")


def test_other_files_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    records: list[ClaimRecord] = [proved()]
    write_records(records, tmp_path)
    (tmp_path / "index.html").write_text("page")
    (tmp_path / ".multikernel.hand_off.json.7.tmp").write_text("{")
    assert read_all(tmp_path) == records


def test_of_two_who_write_at_once_one_waits(tmp_path: Path) -> None:
    done = threading.Event()

    def other() -> None:
        with locked(tmp_path / "out"):
            done.set()

    with locked(tmp_path / "out"):
        waiting = threading.Thread(target=other)
        waiting.start()
        assert not done.wait(0.2)
    waiting.join()
    assert done.is_set()


def test_a_folder_that_cannot_be_made_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError) as caught, locked(tmp_path / "file" / "out"):
        pass
    assert "cannot be written (Not a directory); name a folder that can be." in sentence(caught)
