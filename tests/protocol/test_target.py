# SPDX-License-Identifier: GPL-2.0-only
"""The target CPU's process comes from the assembled code: change the code, and it differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.protocol.target import ProcessError, process_of
from harness.x86.execute import execute
from models.process import Kind, Location, Process
from tests.proofs.variants import MULTIKERNEL, ONE_BASE, Edits, variant
from trampoline.contract import load_contract
from trampoline.image import load_image

RFC = MULTIKERNEL.parent / "multikernel_rfc"
STARTED, RUNNING = 0xA5A5A5A5, 0xB0000001
LOAD_BOOT_PARAMS = "\tmovq\tOFF(boot_params_phys_addr)(%rsi), %r15\n"
LOAD_KERNEL = "\tmovq\tOFF(kernel_phys_addr)(%rsi), %r14\n"
CLAIM = "\tlock cmpxchgl\t%ecx, OFF(trampoline_status_bsp)\n\tjne\tpark\n"
COMMIT = "\tlock cmpxchgl\t%ecx, OFF(trampoline_status_bsp)(%rsi)\n\tjne\tgiven_up\n"


def process(folder: Path, original: Path = MULTIKERNEL, edits: Edits | None = None) -> Process:
    contract = load_contract(variant(folder, original, edits, ONE_BASE))
    image = load_image(contract)
    return process_of(contract, image, execute(contract, image))


def to_the_jump(found: Process) -> list[Location]:
    """The locations on the shortest way from the start to a jump."""
    ways = [[0]]
    for way in ways:
        here = found.locations[way[-1]]
        if here.kind is Kind.JUMP:
            return [found.locations[number] for number in way]
        ways += [[*way, edge.target] for edge in here.edges]
    raise AssertionError("no way to a jump")


def words(locations: list[Location]) -> list[str]:
    return [f"{at.kind.value} {at.word}".strip() for at in locations if at.kind is not Kind.FENCE]


def test_the_rfc_marks_itself_by_a_plain_store_and_reads_its_mail_late(tmp_path: Path) -> None:
    way = to_the_jump(process(tmp_path, RFC))
    mail = words(way).index("load boot_params")
    assert words(way)[0] == "store status"
    assert words(way)[mail:] == ["load boot_params", "load kernel", "jump"]
    assert set(words(way)[1:mail]) == {"store tables"}
    assert [at.paged for at in way if at.kind is Kind.LOAD] == [True, True]


def test_the_hardened_cpu_claims_first_and_commits_last(tmp_path: Path) -> None:
    found = process(tmp_path)
    way = [at for at in to_the_jump(found) if at.kind is not Kind.FENCE]
    claim, commit, jump = way[0], way[-2], way[-1]
    assert (claim.expected, claim.value) == ("offer", STARTED)
    assert (commit.expected, commit.value) == (STARTED, RUNNING)
    assert jump.kind is Kind.JUMP and jump.paged
    for at in (claim, commit):
        assert {edge.when and edge.when[0] for edge in at.edges} == {"is", "is not"}
    changes = {(at.expected, at.value) for at in found.locations if at.expected is not None}
    refused = {(STARTED, 0xE0000000 + reason) for reason in (1, 2, 3)}
    assert changes == {("offer", STARTED), (STARTED, RUNNING), *refused}


def test_serializing_instructions_are_fences(tmp_path: Path) -> None:
    way = to_the_jump(process(tmp_path, RFC))
    kinds = [at.kind for at in way]
    marker = kinds.index(Kind.STORE)
    assert Kind.FENCE in kinds[marker : kinds.index(Kind.LOAD)]  # MOV to CR0 and others


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(
            {LOAD_BOOT_PARAMS: "", LOAD_KERNEL: LOAD_KERNEL + LOAD_BOOT_PARAMS},
            id="the mailbox words are read in the other order",
        ),
        pytest.param({"\tjne\tgiven_up\n": ""}, id="the commit is not looked at"),
        pytest.param({COMMIT: ""}, id="there is no commit"),
        pytest.param(
            {CLAIM: "\tmovl\t%ecx, OFF(trampoline_status_bsp)\n"}, id="the claim is a plain store"
        ),
    ],
)
def test_other_code_is_another_process(tmp_path: Path, edits: Edits) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def shape(found: Process) -> list[tuple[object, ...]]:
        return [(at.kind, at.word, at.value, at.expected, at.edges) for at in found.locations]

    assert shape(process(tmp_path / "a")) != shape(process(tmp_path / "b", edits=edits))


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ({LOAD_KERNEL: LOAD_KERNEL + LOAD_KERNEL}, "each word must be read once"),
        (
            {LOAD_KERNEL: LOAD_KERNEL + "\tmovl\tOFF(kernel_phys_addr)(%rsi), %eax\n"},
            "part of the kernel word",
        ),
        (
            {LOAD_KERNEL: LOAD_KERNEL + "\tlock btsl\t$0, OFF(trampoline_status_bsp)(%rsi)\n"},
            "no compare-and-exchange",
        ),
        (
            {LOAD_KERNEL: "1:\tcmpl\t$0, OFF(trampoline_status_bsp)(%rsi)\n\tje\t1b\n"},
            "a loop that waits",
        ),
    ],
)
def test_what_a_process_cannot_say_is_refused(tmp_path: Path, edits: Edits, reason: str) -> None:
    with pytest.raises(ProcessError, match=reason):
        process(tmp_path, edits=edits)
