# SPDX-License-Identifier: GPL-2.0-only
"""`tramp replay`: what a verdict file holds, run again in QEMU, and stopped at its end in gdb."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.lockstep import kvm
from harness.qemu.job import BadJob, Outcome, OutcomeKind
from harness.qemu.machine import Machine
from harness.qemu.vm import QemuFailed, VirtualMachine
from harness.record import AnotherRecord, ClaimRecord, Evidence
from reports import tramp
from reports.files import read_one
from reports.fingerprint import ROOT
from tests.reports.factory import host_broken, proved, refuted
from tests.reports.test_tramp import folder, run

PLACE = "trampoline.S:151, 0x90162 (offset 0x162 of the image): jmp R14 (64-bit mode)"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Found by the command itself: one that a start of a CPU refutes, one that a schedule does."""
    out = tmp_path_factory.mktemp("out")
    claims = ("--claim", "no_fault", "--claim", "no_lost_start")
    with pytest.raises(SystemExit) as raised:
        tramp.main(["prove", "multikernel_rfc", *claims, "--out", str(out)])
    assert raised.value.code == 0
    return out


def changed(verdicts: Path, place: Path, **changes: Any) -> Path:
    """A folder with another verdict on no_fault, its replay changed."""
    record = read_one(verdicts / "multikernel_rfc.no_fault.json")
    assert record.witness is not None
    replay = record.witness.replay.model_copy(update=changes)
    witness = record.witness.model_copy(update={"replay": replay})
    return folder(place, [record.model_copy(update={"witness": witness})])


def test_a_finding_shows_the_same_again(verdicts: Path, capsys: Any) -> None:
    for name in ("MKRFC-8", verdicts / "multikernel_rfc.no_fault.json"):
        status, said, _ = run(capsys, "replay", name, "--out", verdicts)
        assert status == 0
        assert "kernel_phys_addr = 0x800000000000" in said
        assert "outcome = triple fault before the payload arrived" in said
        assert "status word = 0xa5a5a5a5" in said
        assert said.endswith("as the verdict file says\n")
    told = json.loads(run(capsys, "replay", "MKRFC-8", "--json", "--out", verdicts)[1])
    assert told["observed"] == told["recorded"] and told["differs"] == []
    assert (told["trampoline"], told["claim"]) == ("multikernel_rfc", "no_fault")


def test_what_differs_from_the_verdict_file_is_said(
    verdicts: Path, tmp_path: Path, capsys: Any
) -> None:
    out = changed(verdicts, tmp_path, observed={"outcome": "it flew", "status word": "0xa5a5a5a5"})
    status, said, _ = run(capsys, "replay", "MKRFC-8", "--out", out)
    assert status == 1
    assert "before the payload arrived  (the verdict file: it flew)" in said
    assert "status word = 0xa5a5a5a5\n" in said
    assert said.endswith("something differs\n")


def test_where_only_success_is_ruled_out_every_failure_is_the_same(
    verdicts: Path, tmp_path: Path, capsys: Any
) -> None:
    hangs = {"outcome": "CPU runs on and neither arrives nor halts"}
    out = changed(verdicts, tmp_path, observed=hangs, predicted={"outcome": "any failure"})
    assert run(capsys, "replay", "MKRFC-8", "--out", out)[0] == 0


def test_a_schedule_is_found_and_replayed_anew(verdicts: Path, capsys: Any) -> None:
    status, said, noise = run(capsys, "replay", "MKRFC-13", "--out", verdicts)
    assert (status, noise) == (0, "proving it again, to replay what is then found\n")
    assert "the schedule: evidence = CONFIRMED\n" in said
    assert "the schedule: breaks = no_lost_start\n" in said


def test_gdb_stands_before_the_last_instruction_at_its_source_line(
    verdicts: Path, capfd: Any
) -> None:
    shown = ("-ex", "info registers rip rsi", "-ex", "stepi", "-ex", "info registers rip")
    status, said, _ = run(
        capfd, "replay", "MKRFC-8", "--gdb", "--out", verdicts, "--", "-batch", *shown
    )
    assert status == 0
    assert f"stopped before the last instruction: {PLACE}\n" in said
    assert "trampoline.S:151\n151\t\tjmp\t*%r14\n" in said
    before, after = said.split("rip  ")[1:]
    assert "0x90162 <startup_64_bsp+94>" in before and "0x20000 " in before
    assert "0x800000000000" in after  # where the CPU faults next


def test_gdb_s_own_failure_is_not_hidden(verdicts: Path, capfd: Any) -> None:
    refused = ("--", "-batch", "-ex", "quit 3")
    assert run(capfd, "replay", "MKRFC-8", "--gdb", "--out", verdicts, *refused)[0] == 2


@pytest.mark.parametrize(
    ("program", "options", "sentence"),
    [
        ("gdb", ("--gdb",), "gdb not found; install Debian's gdb\n"),
        ("qemu-system-x86_64", (), "qemu-system-x86_64 not found; install Debian's "),
    ],
)
def test_a_missing_program_is_named(
    verdicts: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    options: tuple[str, ...],
    sentence: str,
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == program else which(name))
    status, _, said = run(capsys, "replay", "MKRFC-8", *options, "--out", verdicts)
    assert status == 2
    assert said.startswith(sentence)


def no_input(record: ClaimRecord) -> str:
    return f"{record.finding or f'{record.trampoline} {record.claim}'}: there is no input to be "


@pytest.mark.parametrize(
    ("record", "options", "sentence"),
    [
        (proved(), (), no_input(proved()) + "replayed: it is PROVED, and nothing refutes it.\n"),
        (
            host_broken(),
            ("--gdb",),
            no_input(host_broken())
            + "replayed: steps of host and CPUs refute it, not one start of a CPU.\n",
        ),
        (proved(), ("--", "-batch"), "options of gdb's belong to --gdb; give that, too.\n"),
        (proved(), ("--gdb", "--json"), "--gdb and --json exclude each other; give one of them.\n"),
    ],
)
def test_what_cannot_be_replayed_ends_in_a_sentence(
    tmp_path: Path, capsys: Any, record: ClaimRecord, options: tuple[str, ...], sentence: str
) -> None:
    name = f"{record.trampoline}.{record.claim}"
    more = ("--out", folder(tmp_path, [record]))
    status, _, said = run(capsys, "replay", name, *more, *options)
    assert (status, said) == (2, sentence)


def test_an_input_that_qemu_cannot_show_is_not_replayed(tmp_path: Path, capsys: Any) -> None:
    held = refuted().witness
    assert held is not None
    why = held.replay.model_copy(
        update={"evidence": Evidence.NOT_REPLAYABLE, "reason": "QEMU does not check limits"}
    )
    one = refuted(witness=held.model_copy(update={"replay": why}))
    status, _, said = run(capsys, "replay", "MKRFC-2", "--out", folder(tmp_path, [one]))
    assert (status, said) == (2, "MKRFC-2: QEMU cannot show it: QEMU does not check limits.\n")


def test_kvm_that_does_not_work_ends_in_a_sentence(
    verdicts: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, accel: str, **__: object) -> VirtualMachine:
        raise QemuFailed(f"qemu did not start: no {accel}")

    monkeypatch.setattr("harness.qemu.machine.VirtualMachine", broken)
    status, _, said = run(capsys, "replay", "MKRFC-8", "--accel", "kvm", "--out", verdicts)
    assert (status, said) == (2, "qemu did not start: no kvm\n")


def test_gdb_gets_no_symbols_of_another_image(verdicts: Path, tmp_path: Path, capfd: Any) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "trampoline/multikernel_rfc", copy)
    source = copy / "trampoline.S"
    source.write_text(source.read_text().replace("\tcli\n", "\tcli\n\tnop\n", 1))
    options = ("--gdb", "--out", verdicts, "--contract", copy / "contract.toml", "--", "-batch")
    status, said, _ = run(capfd, "replay", "MKRFC-8", *options)
    assert status == 0
    assert f"without symbols: {copy}/contract.toml makes another image" in said
    assert "in ?? ()" in said
    other = ROOT / "trampoline/la57/contract.toml"
    status, _, said = run(
        capfd, "replay", "MKRFC-8", "--gdb", "--out", verdicts, "--contract", other
    )
    assert (status, said) == (2, f"{other}: is of la57; give that of multikernel_rfc.\n")


def test_symbols_are_found_below_a_folder_with_a_space(
    verdicts: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder" / ("long" * 30)
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    _, said, _ = run(capfd, "replay", "MKRFC-8", "--gdb", "--out", verdicts, "--", "-batch")
    assert "trampoline.S:151" in said.partition("thread 2")[2]


def test_a_machine_that_dies_shows_something_else(
    verdicts: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_failure = {"outcome": "any failure"}
    out = changed(verdicts, tmp_path, observed={"outcome": "it hangs"}, predicted=any_failure)
    monkeypatch.setattr(Machine, "replay", lambda machine, job: Outcome(OutcomeKind.DEAD))
    status, said, _ = run(capsys, "replay", "MKRFC-8", "--out", out)
    assert status == 1
    assert "outcome = machine stopped answering, twice" in said


@pytest.mark.parametrize("part", [{"phys_bits": 99}, {"base": 0}, {"image": b""}])
def test_a_job_that_no_machine_runs_ends_in_a_sentence(
    verdicts: Path, tmp_path: Path, capsys: Any, part: dict[str, Any]
) -> None:
    record = read_one(verdicts / "multikernel_rfc.no_fault.json")
    assert record.witness is not None and record.witness.replay.job is not None
    out = changed(verdicts, tmp_path, job=record.witness.replay.job.model_copy(update=part))
    status, _, said = run(capsys, "replay", "MKRFC-8", "--out", out)
    assert status == 2
    assert said.startswith("MKRFC-8: its verdict file holds nothing that can be run (")


def test_what_another_input_violates_is_said(verdicts: Path, tmp_path: Path, capsys: Any) -> None:
    record = read_one(verdicts / "multikernel_rfc.no_fault.json")
    assert record.witness is not None
    other = AnotherRecord(why="no RAM", inputs={"base": "0x7000"}, violated=("something else",))
    witness = record.witness.model_copy(update={"another": other})
    out = folder(tmp_path, [record.model_copy(update={"witness": witness})])
    said = run(capsys, "replay", "MKRFC-8", "--out", out)[1]
    assert "QEMU cannot show the smallest input (no RAM); this one violates:\n  something" in said
    assert "  base = 0x7000\n" in said


def test_bytes_that_are_not_packed_are_no_verdict_file(
    verdicts: Path, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "multikernel_rfc.no_fault.json"
    held = json.loads((verdicts / path.name).read_text())
    held["witness"]["replay"]["job"]["image"] = "AAAA"
    path.write_text(json.dumps(held))
    status, _, said = run(capsys, "replay", path)
    assert status == 2
    assert f"{path}: not a verdict file at witness.replay.job.image" in said
    assert "not bytes packed by zlib in base64" in said


def test_of_two_starts_both_are_replayed_and_what_differs_is_seen(
    tmp_path: Path, capsys: Any
) -> None:
    """The whole way: solver, record, replay. The upper half of RSP is undefined."""
    asked = ("--claim", "entries_agree", "--out", tmp_path)
    assert run(capsys, "prove", "start64_posted", *asked)[0] == 0
    for command in ("explain", "replay"):
        said = run(capsys, command, "START64-4", "--out", tmp_path)[1]
        assert "entry = trampoline_start\n" in said
        assert "entry = trampoline_start64\n" in said
        assert "(upper half of RSP, undefined) = 0x1\n" in said
    assert "  rsp = 0x90350\n" in said
    assert "  the second start: rsp = 0x100090350\n" in said
    assert said.endswith("as the verdict file says\n")
    record = read_one(tmp_path / "start64_posted.entries_agree.json")
    assert record.witness is not None and record.witness.second is not None
    its = record.witness.second.replay
    assert its is not None and record.witness.replay.evidence is Evidence.CONFIRMED
    other = its.model_copy(update={"observed": {**its.observed, "rsp": "0x1"}})
    second = record.witness.second.model_copy(update={"replay": other})
    witness = record.witness.model_copy(update={"second": second})
    out = folder(tmp_path / "other", [record.model_copy(update={"witness": witness})])
    status, said, _ = run(capsys, "replay", "START64-4", "--out", out)
    assert status == 1
    assert "the second start: rsp = 0x100090350  (the verdict file: 0x1)" in said


@pytest.mark.skipif(not kvm.opens(), reason=f"{kvm.DEVICE} does not open")
def test_a_finding_shows_the_same_on_the_hosts_cpu(verdicts: Path, capsys: Any) -> None:
    status, said, _ = run(capsys, "replay", "MKRFC-8", "--accel", "kvm", "--out", verdicts)
    assert status == 0
    assert "outcome = triple fault before the payload arrived" in said


def test_what_the_hosts_cpu_cannot_be_given_ends_in_a_sentence(
    verdicts: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Machine:
        raise BadJob("the CPU lacks 1 GiB pages")

    monkeypatch.setattr("reports.replay.Machine", refused)
    status, _, said = run(capsys, "replay", "MKRFC-8", "--accel", "kvm", "--out", verdicts)
    assert (status, said) == (
        2,
        "MKRFC-8: the host's CPU cannot show it (the CPU lacks 1 GiB pages); leave out --accel.\n",
    )
