# SPDX-License-Identifier: GPL-2.0-only
"""Each claim on the hardened `start64` refutes a mutant; the ids of the tests are the kill table.

With tables that are not the host's as promised no path comes to the jump, so what refutes these is
`hand_off`; the claims on maps refute a promise that is less than they need.
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
)

LOCK_16 = "1:\tlock btsl\t$LOCK_BIT, OFF(tr_lock)\n\tjnc\t2f\n\tpause\n\tjmp\t1b\n2:\n"
LOCK_64 = "1:\tlock btsl\t$LOCK_BIT, tr_lock(%rip)\n\tjnc\t2f\n\tpause\n\tjmp\t1b\n2:\n"
TABLES_64 = "\tlidt\ttr_idt(%rip)\n\tlgdt\ttr_gdt64(%rip)\n"
SET_PE = "\torl\t$CR0_PE, %eax\n"
SET_PG = "\tmovl\t$(CR0_PG | CR0_WP | CR0_NE | CR0_PE), %eax\n"
LIMIT_64 = "tr_gdt64:\n\t.short\ttr_gdt_end - tr_gdt"
READ_CR4 = "\tmovl\tpa_tr_cr4, %eax\n"
UPPER_EFER = "\tmovl\tpa_tr_efer + 4, %edx\n\twrmsr\n"
COMPARE_UPPER = "\tcmpl\tpa_tr_efer + 4, %edx\n\tje\t2f\n"
COMPAT = "trampoline_compat:\n\tmovl\t$OFF(rm_stack_end)"
LAST = "\tjmp\t*tr_start(%rip)\n"
NOT_AS_PROMISED = {"hand_off": "tables that are not as the host promises"}
TOLD_EFER, TOLD_CR4 = {"skip_is_safe": "EFER holds tr_efer"}, {"skip_is_safe": "CR4 holds tr_cr4"}

MUTANTS = {
    "parks a CPU that has long mode": Mutant(
        {"hand_off": "a reason that the contract allows"},
        {"$CPUID_LM_BIT, %edx\n\tjnc": "$CPUID_LM_BIT, %edx\n\tjc"},
    ),
    "takes any CPU for one that has leaf 80000001H": Mutant(
        {"no_fault": "IA32_EFER"}, {"\tcmpl\t$CPUID_FEATURES, %eax\n\tjb\tno_long_mode\n": ""}
    ),
    "lets a CPU without long mode go on": Mutant(
        {"no_fault": "IA32_EFER"},
        {"$CPUID_LM_BIT, %edx\n\tjnc\tno_long_mode": "$CPUID_LM_BIT, %edx"},
    ),
    "turns long mode on without LA57 as told": Mutant(
        NOT_AS_PROMISED, {READ_CR4: READ_CR4 + "\tandl\t$~CR4_LA57, %eax\n"}
    ),
    "takes another page for the top-level table": Mutant(
        {"no_fault": "of the code's own is no good"}, {"$pa_trampoline_pgd": "$pa_real_mode_base"}
    ),
    "enters a kernel beyond what the tables map, that may meet the image": Mutant(
        {
            "kernel_identity_map": "the kernel is mapped to itself",
            "untouched": "spares the kernel",
        },
        contract={
            "below = 0x800000000000": "below = 0x1000000000000",
            "apart = true": "apart = false",
        },
    ),
    "changes the host's tables": Mutant(
        {"image_identity_map": "may change page tables of the host's"},
        {LAST: "\tmovb\t$0, pa_trampoline_pgd\n" + LAST},
    ),
    "may write to tables of the firmware's": Mutant(
        {"no_stale_translation": "reaches no table in use"},
        promise=with_tables(lambda tables: replace(tables, apart=())),
    ),
    "runs 64-bit code on a GDT pointer of 6 bytes": Mutant(
        {"no_fault": "base is not canonical", "descriptor_tables": "reads bytes of one pointer"},
        {"lgdt\ttr_gdt64(%rip)": "lgdt\treal_mode_base + OFF(tr_gdt)(%rip)"},
    ),
    "writes to the code": Mutant(
        {"code": "may have been overwritten", "footprint": "a store at"},
        {SET_PE: "\tmovb\t$0x90, OFF(startup_32)\n" + SET_PE},
    ),
    "hands over what is found: RSP above, DF, GS, CR0; another limit, another IDT": Mutant(
        {
            "stack": "RSP points into the stack",
            "determined": "IF and DF",
            "descriptor_tables": ("of GDTR", "of IDTR"),
            "entries_agree": ("IF and DF", "GS (", "CR0 is the same", "GDTR.limit is the same"),
        },
        {
            "\tmovl\t%esp, %esp\t": "\tnop\t",
            "\tcld\t\t\t\t\t/* START64-3, START64-4 */\n": "",
            "\tmovl\t%edx, %gs\n": "",
            SET_PG: "\tmovl\t%cr0, %eax\n\torl\t$(CR0_PG | CR0_WP), %eax\n",
            LIMIT_64 + " - 1": LIMIT_64,
            "lidt\ttr_idt(%rip)": "lidt\ttr_gdt64(%rip)",
        },
    ),
    "leaves the firmware's IDT in force": Mutant(
        {"entries_agree": "IDTR.limit is the same"}, {"\tlidt\ttr_idt(%rip)\n": ""}
    ),
    "comes from the 64-bit entry with another stack pointer": Mutant(
        {"entries_agree": "RSP is the same"},
        {COMPAT: COMPAT + " - 8"},
    ),
    "loads an IDT pointer of 8 bytes in 64-bit code": Mutant(
        {"descriptor_tables": "reads bytes of one pointer"},
        {"tr_idt:\n\t.short\t0\n\t.quad\t0": "tr_idt:\n\t.short\t0\n\t.long\t0\n\t.short\t0"},
    ),
    "never writes EFER": Mutant(TOLD_EFER, {"\twrmsr\n": ""}),
    "leaves the write out where EFER differs": Mutant(TOLD_EFER, {"\tjne\t1f\n": "\tje\t1f\n"}),
    "writes EFER without NXE": Mutant(
        TOLD_EFER, {UPPER_EFER: "\tandl\t$~0x800, %eax\n" + UPPER_EFER}
    ),
    "compares the lower half of EFER only, of which the host may ask more": Mutant(
        TOLD_EFER, {COMPARE_UPPER: "\tjmp\t2f\n"}, {"may = 0x901": "may = 0x100000901"}
    ),
    "keeps CR4 bits that are found": Mutant(
        {**TOLD_CR4, "entries_agree": "hands over, too"},
        {READ_CR4: "\tmovl\t%cr4, %eax\n\torl\tpa_tr_cr4, %eax\n"},
    ),
    "sets no CR4 bit that it is not told to need": Mutant(
        TOLD_CR4, {READ_CR4: READ_CR4 + "\tandl\t$(CR4_PAE | CR4_LA57), %eax\n"}
    ),
    "uses the stack before it has the lock": Mutant(
        {"one_at_a_time": "store image at real_mode_base"},
        {LOCK_16: "\tmovl\t$OFF(rm_stack_end), %esp\n\tpushl\t%eax\n\tpopl\t%eax\n" + LOCK_16},
    ),
    "takes the lock of the 64-bit entry late": Mutant(
        {"one_at_a_time": "load image at trampoline_start64"},
        {LOCK_64: "", TABLES_64: TABLES_64 + LOCK_64},
    ),
}  # fmt: skip


def test_every_claim_has_a_mutant() -> None:
    assert {"paths", *claims_killed(MUTANTS)} == set(shipped("start64")[0].claims)


@pytest.mark.parametrize("mutant", each(MUTANTS))
def test_a_mutant_is_refuted(tmp_path: Path, mutant: Mutant) -> None:
    assert not survivors(tmp_path, "start64", mutant)


def test_a_lost_path_and_one_taken_twice_are_refuted() -> None:
    lost_paths("start64")
