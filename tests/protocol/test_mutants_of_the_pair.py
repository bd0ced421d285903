# SPDX-License-Identifier: GPL-2.0-only
"""The assembled pair with one thing left out: each property turns, by code that was changed.

These are the most telling ones; `python -m tests.protocol.pair_mutants` tries all.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.host.refusal import Refusal
from models.protocol_claims import CLAIMS
from tests.proofs.variants import MULTIKERNEL
from tests.protocol.pair_mutants import SOURCE, Mutant, changed_pair, mutants, refuted
from trampoline.host_object import HOST_FOLDER

ALL = mutants()
TURNED = {
    "claim left out": "own_tables",
    "claim: a plain store": "no_lost_start",
    "commit: no look at the result": "own_mail",
    "commit: a plain store": "no_false_start",
    "refusal left out": "progress",
    "withdraw: always to free": "honest_verdict",
}
PROTOCOL = {
    "multikernel/kick.c": r"(status|kernel|boot_params)_word\(|exchange\(|withdraw\(|wake_up\("
    r"|relax\(|refused\(|STATUS_|_lock\(|unlock\(|cpu_online\(",
    SOURCE: r"OFF\((trampoline_status_bsp|\w+_phys_addr)\)|^\t(cpuid|wbinvd|wrmsr|l[gi]dtl?)\b"
    r"|^\tmovl.*%cr[0-9]$|\thlt|^\tjne\t(park|given_up)",
}


def source(file: str) -> Path:
    return MULTIKERNEL / SOURCE if file == SOURCE else HOST_FOLDER / file


@pytest.mark.parametrize("mutant", ALL.values(), ids=ALL)
def test_each_changes_one_place(mutant: Mutant) -> None:
    assert source(mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new


@pytest.mark.parametrize("file", PROTOCOL)
def test_every_line_of_the_protocol_has_its_mutant(file: str) -> None:
    """But for those that say what is where, and those after the wait."""
    text = source(file).read_text().partition("int multikernel_release(")[0]
    tried: set[int] = set()
    for mutant in ALL.values():
        if mutant.file == file:
            first = text[: text.index(mutant.old)].count("\n")
            tried |= set(range(first, first + mutant.old.rstrip("\n").count("\n") + 1))
    missing = [
        line
        for number, line in enumerate(text.splitlines())
        if re.search(PROTOCOL[file], line)
        and number not in tried
        and not re.match(r"static |\tvolatile u32 \*status = ", line)
    ]
    assert missing == []


@pytest.mark.parametrize("name", TURNED)
def test_property_turns(name: str, tmp_path: Path) -> None:
    assert refuted(changed_pair(ALL[name], tmp_path), [TURNED[name]])


def test_every_property_turns() -> None:
    assert set(TURNED.values()) == {claim.name for claim in CLAIMS}


def test_lock_prefix_left_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"cmpxchg .*: this instruction is not known"):
        changed_pair(ALL["lock cmpxchg without lock"], tmp_path)
