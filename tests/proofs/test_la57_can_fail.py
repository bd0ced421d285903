# SPDX-License-Identifier: GPL-2.0-only
"""Each claim on the hardened `la57` refutes a mutant; the ids of the tests are the kill table.

A new table that does not lead to the old ones ends the path before the jump: `hand_off` and
`no_fault` refute it, and `table_switch` what only addresses that the code does not use show.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.proofs.kills import (
    Mutant,
    claims_killed,
    each,
    lost_paths,
    shipped,
    survivors,
    with_tables,
    without,
)

MASK = "\tmovq\t$CR3_ADDRESS_MASK, %rcx\t\t/* LA57-4 */\n\tandq\t%rcx, %rax\n"
FLAGS = "\torq\t$TABLE_FLAGS, %rax\n"
WRITE_ENTRY = "\tmovq\t%rax, LA57_TOP_TABLE\n"
CLEAR_PG = "\tandl\t$~CR0_PG, %eax\t"
SET_CR4 = "\torl\t$(CR4_PAE | CR4_LA57), %eax\n"
SAVE_RSI = "\tmovq\t%rbx, LOW(saved_rsi)\n"
RESTORE_RSI = "\tmovq\tsaved_rsi(%rip), %rsi\t"
SAVE_TARGET = "\tleaq\town_gdt(%rip), %rax\n\tmovq\t%rax, LOW(saved_target)\n"
JUMP_BACK = "\tjmp\t*saved_target(%rip)\n"
GDT_BASE = "\tmovq\t%rax, gdt_base(%rip)\n"
EFER_WITHOUT_NXE = (
    "\tmovl\t%eax, %ebx\n\tmovl\t$MSR_EFER, %ecx\n\trdmsr\n\tandl\t$~0x800, %eax\n"
    "\twrmsr\n\tmovl\t%ebx, %eax\n"
)
NOT_AS_PROMISED = {"hand_off": "tables that are not as the host promises"}
NOT_MAPPED = {"hand_off": "that the host does not promise to map"}

MUTANTS = {
    "leaves bits 11:0 of CR3 in the entry": Mutant(
        {"no_fault": "a PML5E of the code's own is no good", "hand_off": "PML5E"}, {MASK: ""}
    ),
    "makes the new entry read-only": Mutant(NOT_AS_PROMISED, {FLAGS: "\torq\t$5, %rax\n"}),
    "leads to the page behind the old table": Mutant(
        NOT_AS_PROMISED, {FLAGS: "\taddq\t$0x1007, %rax\n"}
    ),
    "does not set LA57": Mutant(NOT_AS_PROMISED, {SET_CR4: "\torl\t$CR4_PAE, %eax\n"}),
    "writes entry 1": Mutant(
        NOT_MAPPED, {WRITE_ENTRY: WRITE_ENTRY.replace("TABLE", "TABLE + 8")}
    ),
    "writes entry 1, too": Mutant(
        NOT_MAPPED, {WRITE_ENTRY: WRITE_ENTRY + "\tmovq\t$0, LA57_TOP_TABLE + 8\n"}
    ),
    "uses the boot loader's stack": Mutant(
        {**NOT_MAPPED, "stack": "a store at", "footprint": "a store at"},
        {SAVE_RSI: "\tpushq\t%rbx\n\tpopq\t%rbx\n" + SAVE_RSI},
    ),
    "clears CR0.WP": Mutant(
        {"table_switch": "a write with 4 levels before"},
        {CLEAR_PG: CLEAR_PG.replace("~CR0_PG", "~(CR0_PG | CR0_WP)")},
        every_base=True,
    ),
    "clears EFER.NXE": Mutant(
        {"table_switch": "a read with 4 levels before"},
        {SET_CR4: SET_CR4 + EFER_WITHOUT_NXE},
        every_base=True,
    ),
    "never switches": Mutant(
        {"table_switch": "a CPU that has 5-level paging uses it"},
        {"\tjnc\town_gdt": "\tjmp\town_gdt"},
    ),
    "does not give RSP back": Mutant(
        {"stack": "RSP is what it was at the entry"},
        {"\tmovq\tsaved_rsp(%rip), %rsp\t\t/* LA57-2 */\n": ""},
    ),
    "switches only if CPUID has leaf 8": Mutant(
        {"table_switch": "a CPU that has 5-level paging uses it"},
        {"\tcmpl\t$CPUID_MORE_FEATURES, %eax": "\tcmpl\t$CPUID_MORE_FEATURES + 1, %eax"},
    ),
    "changes boot_params": Mutant(
        {"image_identity_map": "may change page tables of the host's", "footprint": "a store at"},
        {WRITE_ENTRY: WRITE_ENTRY + "\tmovb\t$0, (%rbx)\n"},
    ),
    "is told of tables that do not map boot_params": Mutant(
        {"boot_params_identity_map": "boot_params is mapped to itself"},
        promise=with_tables(lambda tables: replace(tables, covers=tables.covers[:-1])),
    ),
    "finds boot_params where the new table goes": Mutant(
        {"untouched": "spares boot_params"},
        promise=without("the area new table and boot_params have no byte in common"),
    ),
    "changes the new table while it is in use": Mutant(
        {"no_stale_translation": "reaches no table in use"},
        {"own_gdt:\n": "own_gdt:\n\tmovb\t$7, LA57_TOP_TABLE\n"},
    ),
    "does not ask whether CPUID has leaf 7": Mutant(
        {"no_fault": "CR4 may not hold this value"}, {"\tjb\town_gdt\n": ""}
    ),
    "turns paging on without PAE": Mutant(
        {"no_fault": "CR0 may not hold this value"},
        {SET_CR4: "\tandl\t$~CR4_PAE, %eax\n\torl\t$CR4_LA57, %eax\n"},
    ),
    "jumps to a data selector": Mutant(
        {"no_fault": "load of CS"}, {"ljmpl\t$CODE64": "ljmpl\t$DATA"}
    ),
    "changes a byte of the copy": Mutant(
        {"code": "in the copy may not be what was assembled"},
        {SAVE_RSI: "\tmovb\t$0x90, LA57_TRAMPOLINE\n" + SAVE_RSI},
    ),
    "copies without the GDT": Mutant(
        {"descriptor_tables": "of GDTR"},
        {"$(trampoline_32bit_end - trampoline_32bit)": "$(low_gdt - trampoline_32bit)"},
    ),
    "takes the low GDT's length for its limit": Mutant(
        {"descriptor_tables": "of GDTR"}, {"low_gdt_end - low_gdt - 1": "low_gdt_end - low_gdt"}
    ),
    "goes on with half of the GDT's address": Mutant(
        {"descriptor_tables": "of GDTR"}, {GDT_BASE: "\tmovl\t%eax, %eax\n" + GDT_BASE}
    ),
    "keeps RSI in a register": Mutant(
        {"determined": "RSI is the same", "hand_off": "RSI holds"},
        {RESTORE_RSI: "\tmovq\t%rbx, %rsi\t"},
    ),
    "keeps RSI in R15": Mutant(
        {"determined": "RSI is the same", "hand_off": "RSI holds"},
        {SAVE_RSI: "\tmovq\t%rbx, %r15\n" + SAVE_RSI, RESTORE_RSI: "\tmovq\t%r15, %rsi\t"},
    ),
    "keeps where to go on in RDI": Mutant(
        {"determined": "takes the same path", "no_fault": "jump to a non-canonical address"},
        {SAVE_TARGET: "\tleaq\town_gdt(%rip), %rdi\n", JUMP_BACK: "\tjmp\t*%rdi\n"},
    ),
    "hands over DF as found": Mutant({"determined": "IF and DF"}, {"\tcld\t": "\tnop\t"}),
    "leaves FS as found": Mutant({"determined": "FS ("}, {"\tmovl\t%eax, %fs\n": ""}),
}  # fmt: skip


def test_every_claim_has_a_mutant() -> None:
    assert {"paths", *claims_killed(MUTANTS)} == set(shipped("la57")[0].claims)


@pytest.mark.parametrize("mutant", each(MUTANTS))
def test_a_mutant_is_refuted(tmp_path: Path, mutant: Mutant) -> None:
    assert not survivors(tmp_path, "la57", mutant)


def test_a_lost_path_and_one_taken_twice_are_refuted() -> None:
    lost_paths("la57")
