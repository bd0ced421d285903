# SPDX-License-Identifier: GPL-2.0-only
"""Each claim on the hardened `legoos` refutes a mutant; the ids of the tests are the kill table."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.at_once.process import started
from harness.at_once.verdict import decide
from harness.protocol.target import ProcessError
from tests.proofs.kills import (
    Mutant,
    claims_killed,
    each,
    lost_paths,
    mutated,
    shipped,
    survivors,
)

LOCK = "1:\tlock btsl\t$LOCK_BIT, OFF(tr_lock)\n\tjnc\t2f\n\tpause\n\tjmp\t1b\n2:\n"
PARK = "no_long_mode:\n\tlock btrl\t$LOCK_BIT, OFF(tr_lock)\n"
PATCH_GDT = "\tleal\tOFF(tr_gdt)(%ebp), %eax\n\tmovl\t%eax, OFF(tr_gdt_base)\n"
PATCH_JUMP = "\tleal\tOFF(startup_32)(%ebp), %eax\n\tmovl\t%eax, OFF(startup_32_offset)\n"
PATCH = PATCH_GDT + PATCH_JUMP
ADD = "\taddl\t%ebp, OFF(tr_gdt_base)\n\taddl\t%ebp, OFF(startup_32_offset)\n"
SET_FLAG = "\tmovl\t$1, OFF(pa_changed)\n"
CLEAR_FLAG = "\tmovl\t$0, OFF(pa_changed)\n"
LOAD_CR3 = "\tmovl\t%eax, %cr3\n"
LATE = "\tmovq\t$LEGOOS_ENTRY, %rax\n"
GS_32, GS_64 = "\tmovl\t%edx, %gs\n", "\tmovl\t%eax, %gs\n"

WHY_GDT = 'why = "Base in the GDT\'s pointer: written before lgdt."\n'
WHY_JUMP = 'why = "Offset of the far jump to 32-bit code: written before it is executed."\n'
KEPT = {WHY_GDT: WHY_GDT + "kept = true\n", WHY_JUMP: WHY_JUMP + "kept = true\n"}
FLAG = {"\t.globl\ttr_lock\n": "\t.globl\tpa_changed\npa_changed:\n\t.long\t0\n\t.globl\ttr_lock\n"}
KEPT_FLAG = '[[scratch]]\nstart = "pa_changed"\nsize = 4\nkept = true\nwhy = "A flag."\n\n[lock]'
WITH_FLAG = {**KEPT, "[lock]": KEPT_FLAG}
PATCHED = (
    '[[patched]]\nsymbol = "startup_32_offset"\nwhy = "The far jump\'s offset becomes a linear '
    'address before 32-bit code is entered."\n'
)
GIVE = "\tlock btrl\t$LOCK_BIT, OFF(tr_lock)\n"
GIVE_32, LOCK_32 = (code.replace("(tr_lock)", "(tr_lock)(%ebp)") for code in (GIVE, LOCK))
STACK = "\tleal\tOFF(tr_stack_end)(%ebp), %esp\n"
OPERAND = "\t.byte\t0x66, 0xb9\n\t.globl\toperand\noperand:\n\t.long\t0\n"  # movl $operand, %ecx
PATCHED_OPERAND = (
    '\n[[patched]]\nsymbol = "operand"\nwhy = "A test."\n\n'
    '[[scratch]]\nstart = "operand"\nsize = 4\nwhy = "A test."\n'
)
SCRATCH_JUMP = '[[scratch]]\nstart = "startup_32_offset"\nsize = 4\n' + WHY_JUMP


def patch_once(patch: str, flag: str) -> dict[str, str]:
    """As posted: the first start patches and sets a flag, those after it leave that out."""
    return {**FLAG, PATCH: "\tcmpl\t$0, OFF(pa_changed)\n\tjne\t7f\n" + patch + flag + "7:\n"}


def before(place: str, code: str) -> dict[str, str]:
    return {place: code + place}


PATCHES = {"one_at_a_time": "CPU 1: store image at trampoline_start"}
TAKE_32 = LOCK.replace("(tr_lock)", "(tr_lock)(%ebp)")
ZERO_TABLES = "\tleal\tTABLE(0)(%ebp), %edi\n\txorl"
IS_SECOND = "\tmovl\t$1, %eax\n\tcpuid\n\tshrl\t$25, %ebx\n"  # by its APIC id, 2 or more
HELD, NOT_ITS_OWN = "each round finds the lock held", "a lock that it does not hold itself"
ROUNDS = {
    "though it finds the lock free": (HELD, "btl $0, {}; jc 8b; pause; jmp 8b"),
    "until a square ends with 2": (HELD, "movl {}, %edx; imull %edx, %edx; testl $2, %edx; jz 8b"),
    "until a bit is set that nobody sets": (HELD, "btl $5, {}; jnc 8b"),
    "and does not look at what it reads": (
        "an endless loop",
        "movl {}, %edx; testl $1, %eax; jnz 8b",
    ),
    "for its own lock": (NOT_ITS_OWN, "btl $0, {}; jc 8b"),
}
"""Ways round in a loop that is entered by some CPUs."""


def going_round(words: str, loop: str) -> Mutant:
    some = "\tmovl\t$0, %eax\n\tcpuid\n\ttestl\t$1, %eax\n\tjz\t9f\n"  # by CPUID's last leaf
    code = f"{some}8:\t{loop.format('OFF(tr_lock)')}\n9:\n"
    return Mutant({"hand_off": words}, {LOCK: LOCK + code if words == NOT_ITS_OWN else code + LOCK})


MUTANTS = {
    "parks a CPU that has long mode": Mutant(
        {"hand_off": "a reason that the contract allows"}, {"\tjnc\tno": "\tjc\tno"}
    ),
    "enters the kernel one byte on": Mutant(
        {"hand_off": "RIP holds"}, {LATE: LATE + "\tincq\t%rax\n"}
    ),
    "maps the first GiB only": Mutant(
        {"kernel_identity_map": "the kernel is mapped to itself"},
        {"$(4 * ENTRIES_PER_TABLE)": "$ENTRIES_PER_TABLE"},
    ),
    "maps 2 MiB further on": Mutant(
        {"image_identity_map": "mapped elsewhere"},
        {"$LARGE_PAGE_FLAGS, %eax": "$(LARGE_PAGE_FLAGS + LARGE_PAGE_SIZE), %eax"},
    ),
    "names a fifth page directory": Mutant(
        {
            "image_identity_map": "what is mapped is mapped to itself",
            "no_stale_translation": "every walk stays in the contract's [tables]",
        },
        {"\tmovl\t$4, %ecx\n": "\tmovl\t$5, %ecx\n"},
    ),
    "changes an entry that is in use": Mutant(
        {"no_stale_translation": "changes no present entry"},
        before(LATE, "\tmovl\t$0x40000183, TABLE(2) + 800(%rbp)\n"),
    ),
    "turns paging on without PAE": Mutant(
        {"no_fault": "CR0 may not hold this value"}, {"\torl\t$CR4_PAE, %eax\n": ""}
    ),
    "does not ask whether CPUID has the leaf": Mutant(
        {"no_fault": "CR4 may not hold this value"}, {"\tjb\tno_long_mode\n": ""}
    ),
    "returns to a data selector": Mutant(
        {"no_fault": "load of CS"}, {"\tpushl\t$CODE64\n": "\tpushl\t$DATA\n"}
    ),
    "stores through a wild pointer": Mutant(
        {"footprint": "a store at"}, before(LOAD_CR3, "\tmovl\t%eax, 0x500\n")
    ),
    "writes to the kernel": Mutant(
        {"untouched": "spares the kernel"}, before(LOAD_CR3, "\tmovl\t%eax, 0x1001000\n")
    ),
    "needs more stack than there is": Mutant(
        {"stack": "stays where it may"},
        {"tr_stack:\n\t.skip\tSTACK_SIZE": "\t.skip\tSTACK_SIZE - 4\ntr_stack:\n\t.skip\t4"},
    ),
    "keeps the upper half of RSP": Mutant(
        {"stack": "RSP points into the stack"}, {"\tmovl\t%esp, %esp\n": ""}
    ),
    "changes code": Mutant(
        {"code": "may have been overwritten"},
        before(LOAD_CR3, "\tmovb\t$0x90, OFF(startup_64)(%ebp)\n"),
    ),
    "patches an operand that no contract names": Mutant(
        {"code": "may have been overwritten", "footprint": "a store at"},
        contract={PATCHED: "", SCRATCH_JUMP: ""},
    ),
    "leaves GS as found": Mutant({"determined": "GS ("}, {GS_32: "", GS_64: ""}),
    "takes the GDT's length for its limit": Mutant(
        {"descriptor_tables": "of GDTR"}, {"tr_gdt_end - tr_gdt - 1": "tr_gdt_end - tr_gdt"}
    ),
    **{f"goes round {how}": going_round(*one) for how, one in ROUNDS.items()},
    "patches by adding, each time": Mutant(
        {"once": "hands over, too"}, {PATCH: ADD}, KEPT
    ),
    "never sets the flag": Mutant(
        {"once": "hands over, too"}, patch_once(ADD, ""), WITH_FLAG
    ),
    "skips a patch that is not kept": Mutant(
        {"once": "hands over, too"},
        patch_once(PATCH, SET_FLAG),
        {**WITH_FLAG, WHY_JUMP: WHY_JUMP},
    ),
    "counts its starts": Mutant(
        {"once": "are left as they were"},
        {**FLAG, PATCH: "\tincl\tOFF(pa_changed)\n" + PATCH},
        WITH_FLAG,
    ),
    "has no lock": Mutant(PATCHES, {LOCK: ""}),
    "takes the lock after it has patched": Mutant(PATCHES, {LOCK: "", PATCH: PATCH + LOCK}),
    "forgets when it parks that it has patched": Mutant(
        {"once": "are left as they were"},
        {**patch_once(ADD, SET_FLAG), "no_long_mode:\n": "no_long_mode:\n" + CLEAR_FLAG},
        WITH_FLAG,
    ),
    "lets another CPU use the stack on which it has left a value": Mutant(
        PATCHES, {STACK: STACK + "\tpushl\t$1\n" + GIVE_32 + LOCK_32 + "\tpopl\t%ecx\n"}
    ),
    "takes the lock after it has executed what is patched": Mutant(
        PATCHES, {LOCK: "", GS_32: GS_32 + TAKE_32}
    ),
    "gives the lock back before it builds tables": Mutant(
        {"one_at_a_time": "CPU 0: xchg lock at startup_32"},
        before(ZERO_TABLES, "\tlock btrl\t$LOCK_BIT, OFF(tr_lock)(%ebp)\n"),
    ),
    "... by a plain store": Mutant(
        {"one_at_a_time": "CPU 0: store lock at startup_32"},
        before(ZERO_TABLES, "\tmovl\t$0, OFF(tr_lock)(%ebp)\n"),
    ),
    "executes what is patched between two times that it has the lock": Mutant(
        {"one_at_a_time": "CPU 0: xchg lock at trampoline_start"},
        {
            PATCH: PATCH + "\tmovl\t%ebp, OFF(operand)\n" + GIVE + OPERAND + LOCK,
        },
        {PATCHED: PATCHED + PATCHED_OPERAND},
    ),
    "gives the lock back before it jumps": Mutant(
        {"one_at_a_time": "CPU 0: xchg lock at startup_64"},
        before(LATE, "\tlock btrl\t$LOCK_BIT, OFF(tr_lock)(%rbp)\n"),
    ),
    "only reads the lock": Mutant(
        PATCHES,
        {"1:\tlock btsl\t$LOCK_BIT, OFF(tr_lock)\n\tjnc": "1:\ttestl\t$1, OFF(tr_lock)\n\tjz"},
    ),
    "asks for the lock again without LOCK": Mutant(
        PATCHES, {"1:\tlock btsl": "\tlock\n1:\tbtsl"}
    ),
    "takes the lock by an instruction without LOCK": Mutant(
        PATCHES, {"1:\tlock btsl": "1:\tbtsl"}
    ),
    "takes the lock and goes on though another CPU has it": Mutant(
        PATCHES, {LOCK: LOCK.partition("\n")[0] + "\n"}
    ),
    "leaves the lock out on the second CPU": Mutant(
        PATCHES, before(LOCK, IS_SECOND + "\tjnz\t2f\n")
    ),
}  # fmt: skip


KEEPS_OTHERS_OUT = {
    "takes the lock twice, so waits for itself": ({LOCK: LOCK + LOCK}, "no CPU enters a kernel"),
    "parks with the lock held": ({PARK: "no_long_mode:\n"}, "that parks at no_long_mode keeps"),
}


@pytest.mark.parametrize(("source", "reason"), KEEPS_OTHERS_OUT.values(), ids=KEEPS_OTHERS_OUT)
def test_nothing_is_shown_where_all_others_wait_for_ever(
    tmp_path: Path, source: dict[str, str], reason: str
) -> None:
    subject, _ = mutated(tmp_path, "legoos", Mutant({}, source))
    read = started(subject.contract, subject.image, subject.run)
    found = decide(read.image, read.real)
    assert found.verdict == "VACUOUS" and reason in found.reason


def test_a_store_to_a_byte_of_the_lock_is_refused(tmp_path: Path) -> None:
    mutant = Mutant({}, {LOCK: LOCK + "\tmovb\t$0, OFF(tr_lock)\n"})
    subject, _ = mutated(tmp_path, "legoos", mutant)
    with pytest.raises(ProcessError, match="may meet part of the lock"):
        started(subject.contract, subject.image, subject.run)


def test_every_claim_has_a_mutant() -> None:
    assert {"paths", *claims_killed(MUTANTS)} == set(shipped("legoos")[0].claims)


@pytest.mark.parametrize("mutant", each(MUTANTS))
def test_a_mutant_is_refuted(tmp_path: Path, mutant: Mutant) -> None:
    assert not survivors(tmp_path, "legoos", mutant)


def test_a_lost_path_and_one_taken_twice_are_refuted() -> None:
    lost_paths("legoos")
