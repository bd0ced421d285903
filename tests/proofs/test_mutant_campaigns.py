# SPDX-License-Identifier: GPL-2.0-only
"""A campaign goes on whatever mutants do, can be interrupted, and says what it has found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from proofs.mutants import workers
from proofs.mutants.__main__ import guard_of, main, of_claims
from proofs.mutants.record import Campaign, Mutant, known
from proofs.mutants.survivors import explained, survivors_of, unused
from proofs.mutants.trial import Outcome, Trial
from reports.fingerprint import ROOT, SURVIVORS, fingerprint
from tests.proofs.test_mutants import TINY_CONTRACT, the
from tests.proofs.variants import TINY
from trampoline.errors import UserError

COMMAND = (sys.executable, "-m", "proofs.mutants", str(TINY_CONTRACT), "--jobs", "1", "--out")


def campaign(tmp_path: Path, *more: str) -> tuple[int, str, Campaign]:
    done = subprocess.run(
        [*COMMAND, str(tmp_path), *more], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    known = Campaign.model_validate_json((tmp_path / "tiny.json").read_bytes())
    return done.returncode, done.stdout, known


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    trial = Trial(TINY_CONTRACT)
    place = the(trial, "dropped", "mov esp, esp").offset
    status, _, first = campaign(tmp_path, "--at", hex(place), "--sample", "2")
    assert len(first.mutants) == 2 and first.possible == len(trial.changes)
    assert status == int(any(one.verdict == "SURVIVED" for one in first.mutants))
    _, said, second = campaign(tmp_path, "--at", hex(place))
    assert {one.name for one in second.mutants} == {
        change.name for change in trial.changes if change.offset == place
    }
    took = {one.name: one.seconds for one in second.mutants}
    assert all(took[one.name] == one.seconds for one in first.mutants)  # taken from the file
    stack = [one for one in second.mutants if one.claim == "stack"]
    assert any(one.alone for one in stack)  # others are not asked any more
    assert any(line.startswith("stack: first to notice") for line in of_claims([second]))
    assert f"tiny: {len(second.mutants)} of {second.possible} mutants tried: " in said
    assert "stack: first to notice" in said
    unnoticed = sum(one.verdict in ("EQUIVALENT", "SURVIVED") for one in second.mutants)
    assert f"replayed in QEMU: {unnoticed} of the {unnoticed} that no claim notices" in said


def a_campaign(**fields: Any) -> Campaign:
    return Campaign(
        trampoline="t", fingerprint="f", possible=2, claims=("stack",), not_reached=(), **fields
    )


def a_mutant(name: str, verdict: str, **fields: Any) -> Mutant:
    said: dict[str, Any] = {"claim": "", "reason": "", "differs": (), "seconds": 1.0} | fields
    return Mutant(
        name=name, kind="dropped", offset=0, source="t.S:1", symbol="t", was="cli",
        becomes="nothing", verdict=verdict, **said,
    )  # fmt: skip


def test_what_is_undecided_or_was_found_with_other_files_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    whole = a_campaign(mutants=(a_mutant("a", "SURVIVED"), a_mutant("b", "UNDECIDED")))
    whole.write(path)
    assert [one.name for one in known(path, a_campaign()).mutants] == ["a"]
    other = a_campaign().model_copy(update={"fingerprint": "g"})
    assert known(path, other) == other
    path.write_text("[]")
    assert known(path, a_campaign()) == a_campaign()


def test_a_claim_that_kills_none_alone_is_said_to() -> None:
    mine = a_mutant("a", "REFUTED", claim="stack", alone=False)
    assert list(of_claims([a_campaign(mutants=(mine,))])) == [
        "stack: first to notice 1; none of 1 alone: others notice these, too"
    ]
    assert list(of_claims([a_campaign()])) == [
        "stack: first to notice 0; so whatever it notices is noticed by others, too"
    ]
    alone = mine.model_copy(update={"alone": True})
    (line,) = of_claims([a_campaign(mutants=(alone,))])
    assert line == "stack: first to notice 1; alone: t, t.S:1 (0x0), dropped: cli -> nothing"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers.cluster(1, None) as one:
        yield one


def never_ends(trial: Trial) -> Outcome:
    time.sleep(600)
    raise AssertionError


def dies(trial: Trial) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fails(trial: Trial) -> Outcome:
    raise RuntimeError("what it is")


def answers(trial: Trial) -> Outcome:
    return Outcome("SURVIVED", "", "", (trial.contract.name,), 0.0)


def test_whatever_a_mutant_does_the_campaign_goes_on(client: Client) -> None:
    jobs = [("a", answers), ("b", never_ends), ("c", dies), ("d", fails), ("e", answers)]
    found = dict(workers.tried(client, TINY_CONTRACT, jobs, limit=5))
    assert {name: outcome.verdict for name, outcome in found.items()} == {
        "a": "SURVIVED", "b": "UNDECIDED", "c": "UNDECIDED", "d": "UNDECIDED", "e": "SURVIVED"
    }  # fmt: skip
    reasons = [found[name].reason for name in "bcd"]
    assert reasons == ["not decided within 5 s", "its process died", "RuntimeError: what it is"]


def test_a_worker_with_other_files_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "fingerprint", lambda **_: str(time.perf_counter()))
    with pytest.raises(UserError, match="give all workers the same checkout"):
        list(workers.tried(client, TINY_CONTRACT, [("a", answers)], limit=20))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler answers"),
        (["--scheduler", "nonsense://x"], "no Dask scheduler answers"),
    ],
)
def test_a_cluster_that_is_not_there(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 1.0)
    assert main([str(TINY_CONTRACT), *options]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--sample", "--jobs"])
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_a_number_that_is_none_is_refused(option: str, value: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as raised:
        main([option, value])
    assert raised.value.code == 2
    assert f"a number from 1 up is wanted, not '{value}'" in capsys.readouterr().err


def test_a_trampoline_that_is_not_as_its_contract_says_has_no_mutants(
    tmp_path: Path, capsys: Any
) -> None:
    for path in TINY.glob("tiny.S"):
        (tmp_path / path.name).write_text(path.read_text().replace("\tmovl\t%esp, %esp\n", ""))
    (tmp_path / "contract.toml").write_text(TINY_CONTRACT.read_text())
    assert main([str(tmp_path / "contract.toml"), "--out", str(tmp_path)]) == 1
    assert "stack is REFUTED of the trampoline as it is" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_decided(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    file = tmp_path / "tiny.json"
    deadline = time.monotonic() + 120
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert json.loads(file.read_text())["mutants"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]


def test_a_process_may_be_stopped_by_two_at_once(tmp_path: Path) -> None:
    class Pipe:
        closing = 0

        def close(self) -> None:
            self.closing += 1
            if self.closing > 1:
                overlaps.append(self)
            time.sleep(0.2)
            self.closing -= 1

    overlaps: list[Pipe] = []
    sleeping = subprocess.Popen(["sleep", "60"])
    process = workers._Process(tmp_path, sleeping, Pipe())
    threads = [threading.Thread(target=process.stop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sleeping.returncode == -signal.SIGKILL
    assert not overlaps


def test_what_no_time_is_left_for_is_tried_by_the_next_run(tmp_path: Path) -> None:
    _, _, known = campaign(tmp_path, "--sample", "6", "--minutes", "0.0001")
    assert len(known.mutants) == 1
    _, _, known = campaign(tmp_path, "--sample", "3")
    assert len(known.mutants) == 3


REASONS = """
[[survivor]]
was = "mov r14, qword ptr [rsi + *]"
becomes = "mov r15*"
differs = ["rax", "r15"]
why = "because"
"""


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, "EXPLAINED"),
        ({"was": "mov r14, dword ptr [rsi + 0x10]"}, "SURVIVED"),
        ({"becomes": "mov r13, qword ptr [rsi + 0x10]"}, "SURVIVED"),
        ({"differs": ("r15", "rsp")}, "SURVIVED"),
        ({"verdict": "UNDECIDED"}, "UNDECIDED"),
        ({"verdict": "REFUTED"}, "REFUTED"),
    ],
)
def test_a_reason_explains_the_survivors_that_it_speaks_of(
    tmp_path: Path, fields: dict[str, Any], verdict: str
) -> None:
    (tmp_path / SURVIVORS).write_text(REASONS)
    known = survivors_of(tmp_path / "contract.toml")
    mutant = a_mutant("a", "SURVIVED").model_copy(
        update={
            "was": "mov r14, qword ptr [rsi + 0x10]",
            "becomes": "mov r15, qword ptr [rsi + 0x10]",
            "differs": ("r15",),
            **fields,
        }
    )
    (found,) = explained([mutant], known)
    assert found.verdict == verdict
    assert (found.reason == "because") is (verdict == "EXPLAINED")
    assert bool(unused([found], known)) is (verdict != "EXPLAINED")


@pytest.mark.parametrize(
    "text",
    ["[[survivor", '[[survivor]]\nwas = "a"', "[survivor]\nwhy = 1", '[[survivor]]\nwhy = "a"'],
)
def test_a_wrong_file_of_reasons_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / SURVIVORS).write_text(text)
    with pytest.raises(UserError, match=f"{SURVIVORS}: cannot be used") as raised:
        survivors_of(tmp_path / "contract.toml")
    assert "\n" not in str(raised.value)


def test_reasons_do_not_begin_a_campaign_anew(tmp_path: Path) -> None:
    contract = tmp_path / "contract.toml"
    contract.touch()
    before = fingerprint(contracts=[contract])
    (tmp_path / SURVIVORS).write_text(REASONS)
    assert fingerprint(contracts=[contract]) == before
    (tmp_path / "other.toml").touch()
    assert fingerprint(contracts=[contract]) != before


def test_what_is_known_of_another_trampoline_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    a_campaign(mutants=(a_mutant("a", "REFUTED"),)).write(path)
    other = a_campaign().model_copy(update={"trampoline": "u"})
    assert known(path, other) == other


def test_files_that_change_while_mutants_are_tried_end_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = fingerprint(contracts=[TINY_CONTRACT])
    marks = iter([mark, mark, "of other files"])  # here, for the first task, for the second
    monkeypatch.setattr(workers, "fingerprint", lambda **_: next(marks))
    tried = workers.tried(client, TINY_CONTRACT, [("a", answers), ("b", answers)], limit=20)
    with pytest.raises(UserError, match="let nobody change them"):
        list(tried)


def test_a_guard_is_of_the_files_that_the_campaign_began_with_and_names_what_was_not_built() -> (
    None
):
    found = guard_of(
        [a_campaign(mutants=(a_mutant("a", "NOT BUILT", reason="as says"),))], "m", 1.0
    )
    assert found.fingerprint == "m" and not found.complete
    assert any(line.startswith("t: NOT BUILT: ") and "as says" in line for line in found.open)


def test_nothing_goes_on_when_the_campaign_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    children = Path(f"/proc/{process.pid}/task")
    found: set[int] = set()
    deadline = time.monotonic() + 120
    while not found and time.monotonic() < deadline:
        time.sleep(0.1)
        lists = [thread / "children" for thread in children.iterdir()]
        found = {int(pid) for one in lists if one.exists() for pid in one.read_text().split()}
    assert found
    process.kill()
    process.wait()
    while any(map(_runs, found)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_runs, found))


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
