# SPDX-License-Identifier: GPL-2.0-only
"""Mutants that were once PROVED and must not be: each stands for a hole that a review found."""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs.mutants import CHEAPEST_FIRST, first_turned
from tests.proofs.variants import MULTIKERNEL, ONE_BASE, Edits, variant
from trampoline.contract import load_contract
from trampoline.image import load_image

LOAD_CR3 = "\tmovl\t%eax, %cr3\n"
FIRST_64 = "\tmovl\t%esp, %esp\n"
POOL = "\tleaq\tOFF(pgtable_extra_bsp)(%rsi), %rdx\n"
FIRST_PAGE = "\tmovl\t$LARGE_PAGE_FLAGS, %eax"
MORE_PAGES = "\taddq\t$LARGE_PAGE_FLAGS, %rax"
READ_ONLY = "(PTE_P | PTE_PS | PTE_G)"

HOLES = {
    "an unaligned store that repairs an entry which a TLB may hold": {
        LOAD_CR3: LOAD_CR3 + "\tmovl\t$0x40000183, TABLE(2)+800(%esi)\n",
        FIRST_64: FIRST_64
        + "\tmovabsq\t$0x0C80018300000000, %rax\n\tmovq\t%rax, TABLE(2)+796(%rsi)\n",
    },
    "a write through a code segment in 32-bit code": {
        LOAD_CR3: "\tmovl\t%eax, %cs:OFF(trampoline_location)(%esi)\n" + LOAD_CR3,
    },
    "a 32-bit read of a selector that keeps the upper half of the register": {
        "\tmovl\t$1, %r13d\n": "\tmovl\t$0x01000000, %r13d\n\tmovl\t%ds, %r13d\n"
        "\tshrl\t$24, %r13d\n",
    },
    "a table pointer with a base that is not canonical": {
        FIRST_64: FIRST_64 + "\tlidt\tOFF(tgdt_bsp)(%rsi)\n",
    },
    "a use of CF after a byte was shifted by more than its width": {
        "\tdecq\t%r13\n": "\tdecq\t%r13\n\tmovb\t$0x80, %al\n\tshlb\t$9, %al\n"
        "\tsetc\t%al\n\tmovzbl\t%al, %eax\n\taddq\t%rax, %r13\n",
    },
    "pages that a kernel cannot write once it has set CR0.WP": {
        FIRST_PAGE: f"\tmovl\t${READ_ONLY}, %eax",
        MORE_PAGES: f"\taddq\t${READ_ONLY}, %rax",
    },
    "a store to read-only pages while CR0.WP is set": {
        FIRST_PAGE: f"\tmovl\t${READ_ONLY}, %eax",
        MORE_PAGES: f"\taddq\t${READ_ONLY}, %rax",
        POOL: "\tmovl\t$0x80010001, %eax\n\tmovq\t%rax, %cr0\n"
        "\tmovl\t%eax, OFF(trampoline_location)(%rsi)\n"
        "\tmovl\t$0x80000001, %eax\n\tmovq\t%rax, %cr0\n" + POOL,
    },
}


CLOSED_BY = {
    "an unaligned store that repairs an entry which a TLB may hold": (
        "image_identity_map", "REFUTED", "changes no present entry"
    ),
    "a write through a code segment in 32-bit code": ("paths", "UNSUPPORTED", "CS override"),
    "a 32-bit read of a selector that keeps the upper half of the register": (
        "paths", "UNSUPPORTED", "a read of DS at another size than 16 bits"
    ),
    "a table pointer with a base that is not canonical": (
        "no_fault", "REFUTED", "the table's base is not canonical"
    ),
    "a use of CF after a byte was shifted by more than its width": (
        "hand_off", "REFUTED", "names what is refused, for a reason"
    ),
    "pages that a kernel cannot write once it has set CR0.WP": (
        "image_identity_map", "REFUTED", "the image is mapped to itself"
    ),
    "a store to read-only pages while CR0.WP is set": ("no_fault", "REFUTED", "#PF: write"),
}  # fmt: skip
"""The first claim that is not PROVED, its verdict, and words of its reason."""

CHANGED_ENTRY = {
    LOAD_CR3: LOAD_CR3 + "\tmovl\t$0x40000183, TABLE(2)+800(%esi)\n",
    FIRST_64: FIRST_64 + "\tmovl\t$0x0C800183, TABLE(2)+800(%rsi)\n",
}
TABLES = '[tables]\nstart = "pgtable_bsp"\n'
HIDDEN = {TABLES: '[tables]\nstart = "pgtable_extra_bsp"\n'}


def turned(folder: Path, source: Edits, contract: Edits) -> tuple[str, str, str]:
    """Claim, verdict and reason of the first one that is not PROVED, at one base."""
    edited = load_contract(variant(folder, MULTIKERNEL, source, {**ONE_BASE, **contract}))
    return first_turned(edited, load_image(edited), CHEAPEST_FIRST)


def test_a_changed_entry_is_refuted(tmp_path: Path) -> None:
    claim, verdict, reason = turned(tmp_path, CHANGED_ENTRY, {})
    assert (claim, verdict) == ("image_identity_map", "REFUTED")
    assert "changes no present entry" in reason


def test_a_changed_entry_cannot_hide_outside_the_contracts_tables(tmp_path: Path) -> None:
    _, verdict, reason = turned(tmp_path, CHANGED_ENTRY, HIDDEN)
    assert verdict == "UNSUPPORTED" and "outside [tables]" in reason


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_stays_closed(tmp_path: Path, hole: str) -> None:
    claim, verdict, reason = turned(tmp_path, HOLES[hole], {})
    assert (claim, verdict) == CLOSED_BY[hole][:2], reason
    assert CLOSED_BY[hole][2] in reason
