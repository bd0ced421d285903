# SPDX-License-Identifier: GPL-2.0-only
"""Mutants that were once PROVED and must not be: each stands for a hole that a review found."""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs.mutants.judge import CHEAPEST_FIRST, first_turned
from tests.proofs.variants import MULTIKERNEL, ONE_BASE, Edits, variant
from trampoline.contract import load_contract
from trampoline.image import load_image

LOAD_CR3 = "\tmovl\t%eax, %cr3\n"
FIRST_64 = "\tmovl\t%esp, %esp\n"
POOL = "\tleaq\tOFF(pgtable_extra_bsp)(%rsi), %rdx\n"
FIRST_PAGE = "\tmovl\t$LARGE_PAGE_FLAGS, %eax"
MORE_PAGES = "\taddq\t$LARGE_PAGE_FLAGS, %rax"
BEFORE_CLAIM = "\tmovl\t$CPUID_BASIC_FEATURES, %eax\n"
READ_KERNEL = "\tmovq\tOFF(kernel_phys_addr)(%rsi), %r14\n"
LOAD_GDT = "\tlgdt\tOFF(gdt_bsp_64)(%esi)\n"
FAR_RETURN = "\tlret\n"
JUMP = "\tmovq\t%r15, %rsi\n\tjmp\t*%r14"
STACK = "trampoline_stack_bsp:\n\t.skip\tPAGE_SIZE\ntrampoline_stack_bsp_end:\n"
CLEARED = "((6 + EXTRA_TABLES) * PAGE_SIZE / 4)"
EXTRA = "\t.skip\tEXTRA_TABLES * PAGE_SIZE\n"
MASK_FLAG = (
    "\tseto\t%r8b\n\tmovl\t%ecx, %r9d\n\tshrl\t$7, %r9d\n\tandl\t%r9d, %r8d\n"
    "\tandl\t$1, %r8d\n\tshlq\t$40, %r8\n"
)
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
    "a loop that clears tables in use, over more than a page, from a symbolic address": {
        STACK: "\t.org 0x800\ntrampoline_stack_bsp:\n\t.skip\t0x800\ntrampoline_stack_bsp_end:\n",
        CLEARED: CLEARED.replace("6", "7"),
        EXTRA: EXTRA + "\t.skip\tPAGE_SIZE\n",
        JUMP: "\tmovq\t%r14, %rdi\n\tandl\t$0x400, %edi\n"
        "\tleaq\tOFF(trampoline_stack_bsp)+8(%rsi,%rdi), %rdi\n"
        "\txorl\t%eax, %eax\n\tmovl\t$(0xe800 / 8), %ecx\n"
        "1:\tmovq\t%rax, (%rdi)\n\taddq\t$8, %rdi\n\tdecl\t%ecx\n\tjnz\t1b\n" + JUMP,
    },
    "a refusal that is taken back": {
        READ_KERNEL: READ_KERNEL
        + "\tmovl\t$STATUS_REFUSED_KERNEL, OFF(trampoline_status_bsp)(%rsi)\n"
        "\tmovl\t$STATUS_STARTED, OFF(trampoline_status_bsp)(%rsi)\n",
    },
    "a refusal before the start is told": {
        BEFORE_CLAIM: "\tmovl\t$STATUS_REFUSED_CPU, OFF(trampoline_status_bsp)\n" + BEFORE_CLAIM,
    },
    "a short branch that cuts EIP off": {
        LOAD_CR3: "\ttestl\t%esi, %esi\n\t.byte\t0x66\n\tjnz\t7f\n\tnop\n7:\n" + LOAD_CR3,
    },
    "a near jump whose length depends on the vendor": {
        READ_KERNEL: "\t.byte\t0x66, 0xe9, 0x00, 0x00\n" + READ_KERNEL,
    },
    "a use of an accessed flag after paging was left": {
        FAR_RETURN: "\tmovl\t$CR0_PE, %eax\n\tmovl\t%eax, %cr0\n\tmovl\tTABLE(0)(%esi), %ecx\n"
        "\ttestb\t$0x20, %cl\n\tjnz\t8f\n\tmovl\t$(CR0_PG | CR0_PE), %eax\n"
        "\tmovl\t%eax, %cr0\n\tlret\n8:\tjmp\t8b\n",
    },
    "one LGDT that loads two tables": {
        LOAD_GDT: "\tleal\tOFF(trampoline_location)(%esi), %edx\n\tmovw\t$0xffff, (%edx)\n"
        "\tmovl\t$0, 2(%edx)\n\tcall\t8f\n\tleal\tOFF(gdt_bsp_64)(%esi), %edx\n"
        "\tcall\t8f\n\tjmp\t9f\n8:\tlgdt\t(%edx)\n\tret\n9:\n",
    },
    "FS left as it was found": {
        "\tmovl\t%eax, %fs\t\t\t/* MKRFC-5: not left as found */\n": "",
    },
    "GS left as it was found": {"\tmovl\t%eax, %gs\n": ""},
    "a use of an undefined flag in a loop": {
        "1:\tmovq\t%rax, (%rbx)\n": "1:\ttestb\t%al, %al\n\tbtl\t$0, %ecx\n"
        + MASK_FLAG
        + "\txorq\t%rax, %r8\n\tmovq\t%r8, (%rbx)\n",
    },
    "a bit of CPUID that differs from mode to mode": {
        "\tmovl\t$CPUID_FEATURES, %eax\n\tcpuid\n": "\tmovl\t$CPUID_FEATURES, %eax\n"
        "\txorl\t%ecx, %ecx\n\tcpuid\n\tmovl\t%edx, %ebp\n",
        READ_KERNEL: READ_KERNEL + "\tmovl\t$CPUID_FEATURES, %eax\n\txorl\t%ecx, %ecx\n\tcpuid\n"
        "\tcmpl\t%edx, %ebp\n\tje\t9f\n8:\thlt\n\tjmp\t8b\n9:\n",
    },
    "a bit test that writes beyond its byte": {
        READ_KERNEL: "\tmovl\t$63, %ecx\n\tbtsq\t%rcx, OFF(trampoline_status_bsp)+1(%rsi)\n"
        + READ_KERNEL,
    },
    "memory accesses between setting CR0.PE and the far jump": {
        "\tlmsw\t%ax\n": "\tlmsw\t%ax\n\tmovl\t%esi, OFF(trampoline_location)\n",
    },
    "a far jump with an offset of 64 bits": {
        JUMP: "\tmovq\t%r15, %rsi\n\tpushq\t$0x10\n\tpushq\t%r14\n\trex.w ljmp\t*(%rsp)\n",
    },
    "a loop of 72 bytes that crosses a page and meets its own return address": {
        POOL: "\tcall\tspoil\n" + POOL,
        "refuse:\n": "spoil:\tmovl\t%r14d, %eax\n\tandl\t$0x780, %eax\n"
        "\tleaq\t(0x800 + 56)(%rsi,%rax), %rdi\n\tmovl\t$11, %ecx\n"
        "9:\tleaq\t-1(%rcx), %rax\n\tmovq\t%rax, (%rdi)\n\taddq\t$8, %rdi\n\tdecl\t%ecx\n"
        "\tjnz\t9b\n\tret\nrefuse:\n",
        STACK: "\t.balign PAGE_SIZE\ntrampoline_stack_bsp:\n\t.skip\t16\n"
        "trampoline_stack_bsp_end:\n",
        "OFF(trampoline_stack_bsp_end)(%esi), %esp": "OFF(trampoline_stack_bsp_end)-8(%esi), %esp",
    },
    "an upper half that a loop sets for its next turn": {
        "1:\tmovq\t%rax, (%rbx)\n": "\txorl\t%edi, %edi\n\txorl\t%r9d, %r9d\n"
        "1:\tmovq\t%rdi, %r8\n\tshrq\t$32, %r8\n\tcmpl\t$1, %ecx\n\tcmoveq\t%r9, %r8\n"
        "\taddq\t%rax, %r8\n\tmovq\t%r8, (%rbx)\n\txorl\t%edi, %edi\n\tcmpl\t$512, %ecx\n"
        "\tsetne\t%dil\n\tshlq\t$53, %rdi\n",
    },
    "an exchange that looks like a pause": {
        READ_KERNEL: READ_KERNEL + "\t.byte\t0xf3, 0x41, 0x90\n",
    },
}


CLOSED_BY = {
    "an unaligned store that repairs an entry which a TLB may hold": (
        "no_stale_translation", "REFUTED", "changes no present entry"
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
    "a loop that clears tables in use, over more than a page, from a symbolic address": (
        "hand_off", "REFUTED", "changes a paging-structure entry"
    ),
    "a refusal that is taken back": ("status_word", "REFUTED", "spares the status word"),
    "a refusal before the start is told": ("status_word", "REFUTED", "spares the status word"),
    "a short branch that cuts EIP off": ("paths", "UNSUPPORTED", "operand size prefix"),
    "a near jump whose length depends on the vendor": (
        "paths", "UNSUPPORTED", "operand size prefix"
    ),
    "a use of an accessed flag after paging was left": ("hand_off", "REFUTED", "an endless loop"),
    "one LGDT that loads two tables": ("descriptor_tables", "REFUTED", "of GDTR"),
    "FS left as it was found": ("determined", "REFUTED", "FS ("),
    "GS left as it was found": ("determined", "REFUTED", "GS ("),
    "a use of an undefined flag in a loop": ("determined", "REFUTED", "at an address lead"),
    "a bit of CPUID that differs from mode to mode": (
        "hand_off", "REFUTED", "names what is refused, for a reason"
    ),
    "a bit test that writes beyond its byte": ("paths", "UNSUPPORTED", "part of a shared word"),
    "memory accesses between setting CR0.PE and the far jump": (
        "paths", "UNSUPPORTED", "SDM 3A 9.9.1"
    ),
    "a far jump with an offset of 64 bits": ("paths", "UNSUPPORTED", "a 64-bit offset"),
    "a loop of 72 bytes that crosses a page and meets its own return address": (
        "hand_off", "REFUTED", "RIP holds the kernel's physical address"
    ),
    "an upper half that a loop sets for its next turn": (
        "paths", "UNSUPPORTED", "a loop that cannot be summarised"
    ),
    "an exchange that looks like a pause": ("paths", "UNSUPPORTED", "pause with a prefix"),
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
    assert (claim, verdict) == ("no_stale_translation", "REFUTED")
    assert "changes no present entry" in reason


def test_a_changed_entry_cannot_hide_outside_the_contracts_tables(tmp_path: Path) -> None:
    _, verdict, reason = turned(tmp_path, CHANGED_ENTRY, HIDDEN)
    assert verdict == "UNSUPPORTED" and "outside [tables]" in reason


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_stays_closed(tmp_path: Path, hole: str) -> None:
    claim, verdict, reason = turned(tmp_path, HOLES[hole], {})
    assert (claim, verdict) == CLOSED_BY[hole][:2], reason
    assert CLOSED_BY[hole][2] in reason
