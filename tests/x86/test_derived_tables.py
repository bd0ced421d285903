# SPDX-License-Identifier: GPL-2.0-only
"""Tables of the code's own that lead to those that the host has made, for 5 levels instead of 4."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.x86.prover import Prover
from harness.x86.run import EndKind
from tests.x86.promised import (
    BASE,
    PAGING_OFF,
    PAGING_ON,
    TO_32,
    TO_64,
    USUAL,
    begin,
    ended,
    run,
)

MAKE = """
    movq %cr4, %rax; testl $CR4_LA57, %eax; jz 2f; hlt
2:  movq %cr3, %rax
    movq $0x000ffffffffff000, %rcx; andq %rcx, %rax; {change}; {where}
"""
TAKE = """
    movl ${root}, %eax; movl %eax, %cr3
    movl %cr4, %eax; orl $CR4_LA57, %eax; movl %eax, %cr4
"""


def derived(
    tmp_path: Path,
    change: str = "orq $3, %rax",
    where: str = "movq %rax, TABLE",
    between: str = "",
    after: str = "",
    root: str = "TABLE",
    base: int | None = BASE,
) -> set[str]:
    """The ends of a switch to 5 levels, but those of CPUs that have only 4."""
    make, take = MAKE.format(change=change, where=where), TAKE.format(root=root)
    code = begin(f"{make}{TO_32}{PAGING_OFF}{between}\n{take}{PAGING_ON}{TO_64}{after}\nhlt")
    result = run(tmp_path, code, base=base)
    (four,) = (end for end in result.ends if end.detail.startswith("#GP: CR4"))
    assert not Prover(result.hypotheses).possible(four.path, result.features.five_level)
    return {end.kind.name for end in result.ends if end is not four}


@pytest.mark.parametrize("base", [BASE, None])
def test_an_entry_that_leads_to_the_hosts_tables_keeps_the_promise(
    base: int | None, tmp_path: Path
) -> None:
    after = "movl %eax, scratch(%rip); pushq %rax; movb (%rsi), %al"
    # RSP and RSI have lost their upper halves.
    assert derived(tmp_path, after="movl %eax, scratch(%rip)", base=base) == {"PARKED"}
    assert "UNPROMISED" in derived(tmp_path, after=after, base=base)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ("orq $0x83, %rax", {"SHUTDOWN"}),
        ("orq $2, %rax", {"SHUTDOWN"}),
        ("andq $0, %rax", {"SHUTDOWN"}),
        ("addq $0x1003, %rax", {"UNPROMISED"}),
        ("movl $0x12345003, %eax", {"UNPROMISED"}),
    ],
)
def test_an_entry_that_leads_elsewhere_does_not(
    change: str, kinds: set[str], tmp_path: Path
) -> None:
    found = derived(tmp_path, change) - {"PARKED"}  # with 5 levels at the entry it parks
    assert found >= kinds and found <= {"UNPROMISED", "SHUTDOWN"}


def test_an_entry_without_rights_does_not(tmp_path: Path) -> None:
    """It is read-only: no matter to supervisors while CR0.WP is 0, and else a fault."""
    found = derived(tmp_path, "orq $1, %rax", after="movl %eax, scratch(%rip)")
    assert found == {"PARKED", "UNPROMISED"}


def test_flags_of_cr3_in_an_entry_may_be_reserved_or_mean_other_things(tmp_path: Path) -> None:
    """CR3's flags are open at the entry; as bits 3, 4 and 7 of an entry, only PS matters."""
    make = MAKE.replace("andq %rcx, %rax; ", "")
    code = begin(
        f"{make.format(change='orq $3, %rax', where='movq %rax, TABLE')}{TO_32}{PAGING_OFF}"
        f"{TAKE.format(root='TABLE')}{PAGING_ON}{TO_64}hlt"
    )
    details = {end.detail for end in run(tmp_path, code).ends_of(EndKind.SHUTDOWN)}
    assert any("PML5E of the code's own" in detail for detail in details)


@pytest.mark.parametrize(
    "where",
    [
        "movq %rax, TABLE + 8",  # another entry
        "movl %eax, TABLE",  # half of it
        "movq %rax, TABLE; movb $0, TABLE",
    ],
)
def test_an_entry_that_is_not_written_as_a_whole_does_not(where: str, tmp_path: Path) -> None:
    result = run(
        tmp_path,
        begin(
            f"{MAKE.format(change='orq $3, %rax', where=where)}{TO_32}{PAGING_OFF}"
            f"{TAKE.format(root='TABLE')}{PAGING_ON}{TO_64}hlt"
        ),
    )
    assert ended(result) - {"PARKED"} != set()
    assert all(len(end.trace) < 10 for end in result.ends_of(EndKind.PARKED))  # 5 levels before


def test_the_entry_may_lie_in_the_image(tmp_path: Path) -> None:
    """At one base: at many, it is not known to lie at one place."""
    contract = USUAL.replace(
        'start = "scratch"\nend = "scratch_end"', 'start = "root"\nsize = 4096'
    )
    make = MAKE.format(change="orq $3, %rax", where="movq %rax, root(%rip)")
    code = f"{make}{TO_32}{PAGING_OFF}{TAKE.format(root='pa_root')}{PAGING_ON}{TO_64}hlt"
    data = ".balign 4096\nroot: .skip 4096"
    for base, kinds in (
        (BASE, {"PARKED", "SHUTDOWN"}),
        (None, {"PARKED", "SHUTDOWN", "UNPROMISED"}),
    ):
        assert ended(run(tmp_path, begin(code), contract, data, base)) == kinds


def test_a_store_to_an_entry_in_use_ends(tmp_path: Path) -> None:
    assert "TABLE_IN_USE" in derived(tmp_path, after="movl $0, TABLE")
    assert "TABLE_IN_USE" not in derived(tmp_path, after="movl $0, TABLE + 8")


def test_a_push_without_paging_may_hit_the_new_table(tmp_path: Path) -> None:
    """ESP is the lower half of RSP: the stack is not where it was."""
    assert "TABLE_IN_USE" in derived(tmp_path, between="pushl %eax")
    inside = "movl $pa_scratch_end, %esp; pushl %eax"
    assert "TABLE_IN_USE" not in derived(tmp_path, between=inside)
