# SPDX-License-Identifier: GPL-2.0-only
"""A schedule in a file: written, read, replayed; and one sentence where it does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from os import getpid
from pathlib import Path
from typing import Any

import pytest

from harness.protocol.history import Schedule
from harness.qemu.vm import QEMU
from harness.schedule import file
from harness.schedule.__main__ import main
from harness.schedule.find import saved
from harness.schedule.subject import Parts, Subject
from tests.qemu.jobs import qemu_children

NAME = "own_mail"


@pytest.fixture
def path(tmp_path: Path, rfc: Subject, schedules: dict[str, Schedule]) -> Path:
    target = tmp_path / "schedule.json"
    file.write(target, saved(rfc, NAME, schedules[NAME]), rfc.pair)
    return target


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, rfc: Subject) -> None:
    """The pair is read off the code once only."""
    monkeypatch.setattr(Parts, "pair", lambda parts: rfc.pair)


def test_what_is_written_is_read(path: Path, rfc: Subject, schedules: dict[str, Schedule]) -> None:
    found = file.read(path)
    assert found == saved(rfc, NAME, schedules[NAME])
    file.check(path, found, rfc.parts)


def test_each_event_is_a_line_with_its_place(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "load kernel" in line]
    assert len(lines) == 1
    assert "startup_64_bsp+0x7" in lines[0]


def test_file_is_replayed(needs_qemu: None, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path), "--repeat", "3"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "3 of 3 times: all 28 steps as predicted, which breaks own_mail"


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edit(path: Path) -> None:
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return edit


def started(data: dict[str, Any]) -> int:
    """The number, from 0 on, of the event with which CPU 0 starts."""
    return next(n for n, event in enumerate(data["events"]) if event["who"] == "CPU 0")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "cannot be read (No such file or directory)."),
    "no JSON": (lambda path: path.write_text("schedule"), "not a schedule: Invalid JSON"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not a schedule: Invalid JSON"),
    "another key": (edited(lambda data: data.update(speed=1)), "not a schedule at speed:"),
    "no events": (edited(lambda data: data.update(events=[])), "not a schedule at events:"),
    "no address": (
        edited(lambda data: data["attempts"][0].update(kernel="16 MiB")),
        "not a schedule at attempts.0.kernel:",
    ),
    "unknown pair": (
        edited(lambda data: data.update(trampoline="atari")),
        "atari: no such trampoline; name one of multikernel, multikernel_rfc.",
    ),
    "other host": (
        edited(lambda data: data.update(host="multikernel")),
        "made for trampoline multikernel_rfc and host multikernel, not for",
    ),
    "other build": (
        edited(lambda data: data.update(digest="0" * 64)),
        "made for another build of multikernel_rfc's image or host; find it anew.",
    ),
    "attempt too many": (
        edited(lambda data: data["attempts"].append(data["attempts"][0])),
        "3 attempts are described, 2 begin.",
    ),
    "impossible event": (
        edited(lambda data: data["events"].pop(started(data) + 1)),
        "event 15 (CPU 0 at location 1, store status) cannot happen in this pair.",
    ),
    "unknown CPU": (
        edited(lambda data: data["events"][started(data)].update(who="CPU 7")),
        "event 14 (CPU 7, SIPI) cannot happen in this pair.",
    ),
    "breaks something else": (
        edited(lambda data: data.update(breaks="own_tables")),
        "the last event does not break own_tables.",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file_gets_one_sentence(
    path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    spoil, sentence = BAD[kind]
    spoil(path)
    assert main([str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_without_qemu_one_sentence_says_so(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == QEMU else which(name))
    assert main([str(path)]) == 1
    assert capsys.readouterr().err == f"{QEMU} not found; install Debian's qemu-system-x86\n"


def test_what_is_told_wrong_of_an_attempt_is_seen(
    needs_qemu: None, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(lambda data: data["attempts"][0].update(fails="the first SIPI cannot be sent"))(path)
    assert main([str(path), "--repeat", "1"]) == 1
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("1 of 1 times: step 7 (host at 10, SIPI): the host stands")


def test_qemu_ends_with_the_machine(needs_qemu: None, path: Path) -> None:
    before = qemu_children(getpid())
    main([str(path), "--repeat", "1"])
    assert qemu_children(getpid()) == before


def test_folder_that_cannot_be_written_is_one_sentence(
    rfc: Subject, schedules: dict[str, Schedule]
) -> None:
    target = Path("/proc/nowhere/schedule.json")
    with pytest.raises(file.ScheduleError, match=r"cannot be written \(No such file or directory"):
        file.write(target, saved(rfc, NAME, schedules[NAME]), rfc.pair)
