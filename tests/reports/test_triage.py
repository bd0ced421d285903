# SPDX-License-Identifier: GPL-2.0-only
"""New refutations are grouped by cause, and one can be accepted into its contract."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.record import ClaimRecord, Evidence
from reports.causes import cause
from reports.triage import accept, triage
from tests.reports.factory import broken, host_broken, proved, refuted, replay, witness
from tests.reports.test_tramp import folder, run
from trampoline.errors import UserError

CONTRACT = """\
name = "own"   # ours

[expected.hand_off]
verdict = "PROVED"

# What it is worth.
[expected.stack]   # and the stack
verdict = "PROVED"
[base]
lowest = 0x1000
"""


def new(claim: str, trampoline: str = "own", **changes: Any) -> ClaimRecord:
    fields = {"expected": "PROVED", "as_expected": False, "finding": "", "title": ""}
    return refuted(trampoline, claim, **{**fields, **changes})


def test_claims_that_one_defect_refutes_are_one_group() -> None:
    other = new("stack", witness=witness(violated=("another",)))
    groups = triage([new("hand_off"), other, new("no_fault"), proved("own", "code")])
    assert [(one.proposed, one.claims) for one in groups] == [
        ("OWN-1", ("hand_off", "no_fault")),
        ("OWN-2", ("stack",)),
    ]


def test_a_known_finding_is_none_and_ids_go_on_behind_it() -> None:
    (group,) = triage([refuted(), new("stack", "multikernel_rfc"), broken()])
    assert group.proposed == "MKRFC-15"
    assert triage([refuted(), broken(), host_broken(), proved()]) == []


def test_without_a_place_nothing_is_known_to_be_the_same() -> None:
    one, two = (new(claim, "own", witness=None, reason="") for claim in ("stack", "code"))
    assert len(triage([one, two])) == 2


@pytest.mark.parametrize("name", ["7up", "x-y", "___"])
def test_every_trampoline_gets_an_id_that_a_contract_takes(name: str) -> None:
    (group,) = triage([new("stack", name)])
    assert group.proposed.rpartition("-")[0][0].isalpha()


def test_what_is_accepted_stands_in_the_contract_and_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(CONTRACT)
    unseen = new("stack", witness=witness(replay=replay(Evidence.NOT_REPLAYABLE)))
    (group,) = triage([new("hand_off"), unseen, new("code")])
    accept(group, path, 'it is "so"\\\n')
    entry = {"verdict": "REFUTED", "finding": "OWN-1", "title": 'it is "so"\\\n'}
    after = tomllib.loads(path.read_text())
    marks = {
        one.claim: {"cause": root.fingerprint} for one in group.records if (root := cause(one))
    }
    assert after == {
        "name": "own",
        "base": {"lowest": 0x1000},
        "expected": {
            "hand_off": entry | marks["hand_off"],
            "code": entry | marks["code"],
            "stack": {**entry, **marks["stack"], "evidence": "NOT REPLAYABLE"},
        },
    }
    for kept in ("# ours", "# What it is worth.", "# and the stack"):
        assert kept in path.read_text()


def test_a_contract_that_is_written_otherwise_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    text = 'name = "own"\nexpected.hand_off = { verdict = "PROVED" }\n'
    path.write_text(text)
    (group,) = triage([new("hand_off")])
    with pytest.raises(UserError, match="by hand"):
        accept(group, path, "so")
    assert path.read_text() == text


def test_the_command_lists_and_accepts(tmp_path: Path, capsys: Any) -> None:
    out = folder(tmp_path / "out", [new("hand_off"), proved()])
    path = tmp_path / "contract.toml"
    path.write_text(CONTRACT)
    status, said, _ = run(capsys, "triage", "--out", out)
    assert status == 1
    for part in (
        "OWN-1: the page at kernel + 0x1000 is present (startup_64_bsp trampoline.S:151)",
        "smallest input: base = 0x7000",
        "tramp explain own.hand_off",
        'tramp triage --accept OWN-1 --reason "..."',
    ):
        assert part in said
    status, said, _ = run(capsys, "triage", "--out", out, "--json")
    assert json.loads(said)[0]["claims"] == ["hand_off"]
    status, said, _ = run(
        capsys, "triage", "--accept", "own-1", "--reason", "so", "--contract", path, "--out", out
    )
    assert (status, said) == (0, f"written: {path}: OWN-1 for hand_off; now prove again\n")
    assert 'title = "so"' in path.read_text()
    known = folder(tmp_path / "known", [refuted()])
    assert run(capsys, "triage", "--out", known)[:2] == (0, "every refutation is a known finding\n")


def test_what_is_not_decided_is_said_and_is_not_as_expected(tmp_path: Path, capsys: Any) -> None:
    unknown = proved("own", verdict="UNKNOWN", as_expected=False, reason="z3 gave up")
    status, _, said = run(capsys, "triage", "--out", folder(tmp_path, [unknown]))
    assert (status, said) == (1, "own hand_off: UNKNOWN (expected PROVED): z3 gave up\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--accept", "OWN-7", "--reason", "x"), "OWN-7: no new refutation has this id; those"),
        (("--accept", "OWN-1"), "say what the finding is, with --reason"),
        (("--accept", "OWN-1", "--reason", "x"), "there is no such contract; give it with --contr"),
        (("--reason", "x"), "--reason and --contract belong to --accept"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, capsys: Any, arguments: tuple[str, ...], said: str
) -> None:
    out = folder(tmp_path, [new("hand_off")])
    status, printed, error = run(capsys, "triage", *arguments, "--out", out)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert said in error
