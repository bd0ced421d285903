# SPDX-License-Identifier: GPL-2.0-only
"""Which branches a run takes one way only."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.replay.coverage import not_reached, one_way
from harness.x86.execute import execute
from tests.x86.small import WAYS, build
from trampoline.contract import load_contract
from trampoline.image import load_image

SHIPPED = Path(__file__).resolve().parents[2] / "trampoline"

LOOP = "movl $9, %ecx\n1: decl %ecx\njnz 1b"


def branches(folder: Path, code: str) -> list[str]:
    contract, image = build(folder, f"{code}\nhlt", way=WAYS[32])
    found = one_way(image, execute(contract, image))
    return [line.partition(": ")[2] for line in found]


@pytest.mark.parametrize(
    ("code", "ways"),
    [
        ("xorl %eax, %eax\njz 1f\nhlt\n1:", ["always"]),
        ("xorl %eax, %eax\njnz 1f\nnop\n1:", ["never"]),
        ("movl $0x80000001, %eax\ncpuid\nbtl $29, %edx\njc 1f\nud2\n1: nop", ["always"]),
        (LOOP, []),
        (f"{LOOP}\nxorl %eax, %eax\njz 1f\nhlt\n1: js 1f\nnop\n1:", ["always", "never"]),
        ("nop", []),
    ],
    ids=["taken", "not taken", "a promised feature", "a loop", "several", "none"],
)
def test_a_branch_that_goes_one_way_is_named(tmp_path: Path, code: str, ways: list[str]) -> None:
    found = branches(tmp_path, code)
    assert [line.split()[-2] for line in found] == ways
    assert all(line.endswith("taken") for line in found)


def test_branches_of_the_hardened_multikernel_go_both_ways() -> None:
    contract = load_contract(SHIPPED / "multikernel" / "contract.toml")
    image = load_image(contract)
    assert one_way(image, execute(contract, image)) == ()


def test_what_no_path_executes_is_listed_with_its_line(tmp_path: Path) -> None:
    contract, image = build(tmp_path, "xorl %eax, %eax\njz 1f\nud2\n1: hlt", way=WAYS[32])
    run = execute(contract, image)
    (one,) = not_reached(image, run.covered)
    assert "small.S:" in one
