# SPDX-License-Identifier: GPL-2.0-only
"""What a real CPU does, and what a promise does not cover: each once made a wrong claim hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.promise import misses
from harness.x86.prover import Prover
from harness.x86.run import EndKind
from tests.x86.promised import (
    AREA,
    CONTRACT,
    COPIED,
    COPY,
    ENTRY,
    PAGING_OFF,
    PAGING_ON,
    SCRATCH,
    TABLE,
    TO_32,
    TO_64,
    ended,
    load,
    run,
)
from tests.x86.test_copies import MAKE, code
from tests.x86.test_derived_tables import MAKE as MAKE_TABLE
from tests.x86.test_derived_tables import TAKE
from tests.x86.test_entries import AGAIN, GO_ON, KEPT, ONE
from tests.x86.test_host_tables import LOAD_EFER, MAP, MAP_DATA
from trampoline.contract import ContractError
from trampoline.image import ImageError

MAPPED = ENTRY + SCRATCH + MAP.format(may=0x20)
DEFINES = f"#define TABLE {TABLE:#x}\n#define COPY {COPY:#x}\n"
TO_16 = (
    TO_32 + "ljmpl *pa_far16\n.balign 4\nfar16: .long pa_code16\n.short CODE16\n.code16\ncode16:"
)


# --- copies


def test_an_operand_that_is_patched_after_the_copy_was_made(tmp_path: Path) -> None:
    """The copy has 3, the image 7; the machine takes what the image has."""
    part = "copied: .byte 0xb8; kept: .long 3; jmp 1f; 1: hlt; copied_end:"
    patched = '[[patched]]\nsymbol = "kept"\nwhy = "A test."\n'
    contract = AGAIN + SCRATCH + COPIED + KEPT + patched
    ends = run(tmp_path, code(part, MAKE + "movl $7, kept(%rip)"), contract).ends
    (end,) = (end for end in ends if end.entry == 0)
    assert end.kind is not EndKind.PARKED or end.state.registers["rax"].as_long() == 3


# --- what an earlier start leaves


def test_code_that_an_earlier_start_has_changed(tmp_path: Path) -> None:
    """`movl $7, %ebx` is `movl $9, %ebx` for the second start; it is executed as assembled."""
    kept = KEPT.replace("size = 4", "size = 5")
    change = "begin: kept: movl $7, %ebx; movl $9, kept + 1(%rip); .byte 0xe9; .long done - . - 4"
    result = run(tmp_path, change, AGAIN + kept)
    (again,) = (end for end in result.ends if end.entry == 1)
    assert again.kind is EndKind.OVERWRITTEN


def test_what_a_start_leaves_that_parks(tmp_path: Path) -> None:
    """A CPU without NX leaves 1 there, and the next one, with NX, goes another way."""
    source = f"""begin: movl kept(%rip), %ebx; movl $1, kept(%rip)
        movl $0x80000001, %eax; movl %ebx, %edi; cpuid; btl $20, %edx; jc 1f; hlt
        1: movl $5, kept(%rip); movl %edi, %ebx {GO_ON}"""
    result = run(tmp_path, source, AGAIN + KEPT)
    found = {e.state.registers["rbx"].as_long() for e in result.ends_of(EndKind.HAND_OFF)}
    assert result.lost or 1 in found


# --- page tables of the host's


@pytest.mark.parametrize("skip", ["", ".skip 8"])
def test_a_map_that_is_not_in_the_image_as_a_whole(skip: str, tmp_path: Path) -> None:
    """`apart` then has a range of a negative size: every store is said to spare the tables."""
    data = MAP_DATA.replace(".skip 4096", skip)
    with pytest.raises(ImageError):
        load(tmp_path, "hlt", MAPPED, data)


def test_every_entry_misses_an_empty_range() -> None:
    """start64: its map ends with the image, and no table of the host's may lie right behind it. In
    an image that begins with its map the promise contradicts itself."""
    at, nothing = z3.BitVecVal(0x5000, 64), z3.BitVecVal(0, 64)
    assert z3.is_true(z3.simplify(misses(at, 8, (at, nothing))))


def test_a_map_at_the_images_begin(tmp_path: Path) -> None:
    source = """root: .skip 4096
        own: .skip 4096
        begin: movq $0x3003, own(%rip); leaq own(%rip), %rax; movq %rax, %cr3
        movb 0x12345678, %al; hlt"""
    data = MAP_DATA.partition("    .balign 4096")[0]
    own = '[[scratch]]\nstart = "own"\nsize = 4096\nwhy = "A test."\n'
    top = CONTRACT.replace("[36, 52]", "[36, 39]")
    assert "PARKED" not in ended(run(tmp_path, source, MAPPED + own, data, top=top))


def test_global_pages_outlive_a_load_of_cr3(tmp_path: Path) -> None:
    """The tables of the entry may map 12345678H elsewhere, by a global page."""
    efer = LOAD_EFER.replace("pa_tr_efer + 4,", "tr_efer + 4(%rip),")
    source = f"""movq %cr4, %rax; testl $CR4_LA57, %eax; jnz 1f
        {efer.replace("pa_tr_efer,", "tr_efer(%rip),")}
        leaq root(%rip), %rax; movq %rax, %cr3; movl 0x12345678, %eax; hlt
        1: hlt"""
    result = run(tmp_path, source, MAPPED, MAP_DATA)
    cr4 = z3.BitVec("cr4_at_hand_over", 64)
    for end in result.ends_of(EndKind.PARKED):
        if len(end.accesses) > 2:
            assert not Prover(result.hypotheses).possible(end.path, cr4 & 0x80 != 0)


def test_the_cpu_sets_flags_in_tables_outside_tables(tmp_path: Path) -> None:
    """After the switch the accessed flag of the new table's entry is set: refused."""
    make = MAKE_TABLE.format(change="orq $3, %rax", where="movq %rax, TABLE")
    look = "movl TABLE, %eax; testl $0x20, %eax; jnz 3f; hlt; 3: movl $3, %ebx; hlt"
    source = (
        f"{DEFINES}begin: {make}{TO_32}{PAGING_OFF}{TAKE.format(root='TABLE')}{PAGING_ON}{TO_64}"
        f"{look}"
    )
    result = run(tmp_path, source, ENTRY + SCRATCH + AREA)
    assert "UNSUPPORTED" in ended(result)


# --- 16-bit code in protected and compatibility mode


@pytest.mark.parametrize("push", ["pushw %ax", "popw %ax"])
def test_16_bit_code_on_a_32_bit_stack(push: str, tmp_path: Path) -> None:
    """ESP = 17800H: the access is made below or at 17800H, not at 7800H."""
    high = AREA.replace('"table"', '"high"').replace(str(TABLE), str(0x17000))
    source = (
        f"{TO_16.replace('ljmpl *pa_far16', 'movl $0x17800, %esp; ljmpl *pa_far16')} {push}; hlt"
    )
    for end in run(tmp_path, source, ENTRY + SCRATCH + AREA + high).ends:
        if end.kind is EndKind.PARKED:
            assert end.accesses[-1].linear.as_long() >= 0x17000


def test_a_jump_in_16_bit_code_above_64_kib(tmp_path: Path) -> None:
    """CS.base is 0, so the image at 200000H is left for an address below 64 KiB."""
    ends = run(tmp_path, f"{TO_16} jmp 1f; nop; 1: movl $1, %ebx; hlt", ENTRY + SCRATCH).ends
    assert all(end.kind is not EndKind.PARKED for end in ends)


# --- names and entries


def test_a_word_with_the_name_of_another_input(tmp_path: Path) -> None:
    """A word called `kernel_phys_addr` is taken for the mailbox word with the kernel's address."""
    top = CONTRACT.replace('{ symbol = "done" }', "{ size_max = 4096 }")
    top += 'mailbox = { kernel = "tr_start" }\n'
    word = '[[word]]\nsymbol = "kernel_phys_addr"\nsize = 8\nmay = 0xFFFFFFFFFFFFFFFF\n'
    source = """jmp *kernel_phys_addr(%rip)
        .balign 8
        kernel_phys_addr: .quad 0
        tr_start: .quad 0"""
    result = run(tmp_path, source, ENTRY + word, top=top)
    (end, *_) = result.ends_of(EndKind.HAND_OFF)
    assert Prover(result.hypotheses).possible(end.path, end.state.rip != result.kernel)


@pytest.mark.parametrize("key", ['protocol = "linux-64"', 'assume = ["upper-halves-zero"]'])
def test_what_one_entry_promises_must_hold_for_all(key: str, tmp_path: Path) -> None:
    contract = ONE.format(name="one", symbol="begin") + f"{key}\n"
    contract += ONE.format(name="two", symbol="begin")
    with pytest.raises(ContractError, match="must be the same for all entries"):
        load(tmp_path, f"{TO_32}{TO_64}hlt", contract + SCRATCH)
