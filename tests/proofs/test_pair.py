# SPDX-License-Identifier: GPL-2.0-only
"""What is said of a trampoline and a host that do not make a pair."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness.record import ClaimRecord
from harness.x86.execute import execute
from harness.x86.run import Run
from models.protocol_claims import CLAIMS
from proofs.pair import PairCourt
from proofs.subject import Subject
from tests.proofs.variants import MULTIKERNEL
from trampoline.contract import Contract, load_contract
from trampoline.image import load_image

RFC = MULTIKERNEL.parent / "multikernel_rfc" / "contract.toml"
BASE = 0x90000


@cache
def executed() -> Run:
    contract = load_contract(RFC)
    return execute(contract, load_image(contract), BASE)


def judged(contract: Contract, run: Run | None = None) -> list[ClaimRecord]:
    subject = Subject(contract, load_image(contract), run or executed())
    pair = PairCourt(subject, lambda text, keep=False: None)
    return [pair.protocol(claim) for claim in CLAIMS]


def changed(folder: Path, old: str, new: str) -> Contract:
    """The contract with other words in it; its paths stay what they are."""
    text = RFC.read_text().replace('"trampoline.S"', f'"{RFC.parent}/trampoline.S"')
    text = text.replace('"../host/', f'"{RFC.parent}/../host/')
    assert text.count(old) == 1
    path = folder / "contract.toml"
    path.write_text(text.replace(old, new))
    return load_contract(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("started = 0xA5A5A5A5", "started = 0xA5A5A5A6", ["[status] started", "0xa5a5a5a6"]),
        ("host/multikernel_rfc", "host/nowhere", ["[host] source", "nowhere", "C source"]),
    ],
    ids=["a value that the code never writes", "no host"],
)
def test_what_is_no_pair_gets_no_verdict_and_one_sentence(
    tmp_path: Path, old: str, new: str, named: list[str]
) -> None:
    records = judged(changed(tmp_path, old, new))
    assert {record.verdict for record in records} == {"UNSUPPORTED"}
    assert not any(record.as_expected for record in records)
    (reason,) = {record.reason for record in records}
    assert "contract.toml" in reason
    assert all(word in reason for word in named), reason


def test_a_host_that_does_not_compile_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "kick.c").write_text("int multikernel_kick(void) { return nothing; }\n")
    records = judged(changed(tmp_path, f"{RFC.parent}/../host/multikernel_rfc", str(tmp_path)))
    assert {record.verdict for record in records} == {"UNSUPPORTED"}
    assert "nothing" in records[0].reason and "mend" in records[0].reason


def test_without_all_paths_there_is_no_verdict(tmp_path: Path) -> None:
    lost = replace(executed(), lost="a path was lost")
    records = judged(load_contract(RFC), lost)
    assert {(r.verdict, r.as_expected) for r in records} == {("UNSUPPORTED", False)}
    assert "a path was lost" in records[0].reason
