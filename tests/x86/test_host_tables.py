# SPDX-License-Identifier: GPL-2.0-only
"""Page tables that the host has made: what their promise carries, and where it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.prover import Prover
from harness.x86.run import EndKind
from tests.x86.promised import (
    AREA,
    BASE,
    ENTRY,
    PAGING_OFF,
    PAGING_ON,
    SCRATCH,
    STACK,
    TABLE,
    TO_32,
    TO_64,
    USUAL,
    begin,
    ended,
    only,
    run,
)

# --- the tables of the entry


@pytest.mark.parametrize(
    "code",
    [
        "movl scratch(%rip), %eax; movl %eax, scratch + 60(%rip)",
        "movq TABLE, %rax; movq %rax, TABLE + 0xff8",
        "pushq %rax; popq %rax",
        "movq %rax, -64(%rsp)",
        "movb (%rsi), %al; movb 0xfff(%rsi), %al",
    ],
)
@pytest.mark.parametrize("base", [BASE, None])
def test_what_is_promised_to_be_mapped_can_be_used(
    code: str, base: int | None, tmp_path: Path
) -> None:
    assert ended(run(tmp_path, begin(code), base=base)) == {"PARKED"}


@pytest.mark.parametrize(
    "code",
    [
        "movb TABLE - 1, %al",
        "movb TABLE + 0x1000, %al",
        "movq TABLE + 0xffc, %rax",
        "movb (%rsp), %al",
        "movb -1(%rsi), %al",
        "movq 0xffc(%rsi), %rax",
        "movl image_end(%rip), %eax",
        "movl image - 4(%rip), %eax",
        "movb 0x12345678, %al",
    ],
)
def test_what_is_not_promised_may_not_be_mapped(code: str, tmp_path: Path) -> None:
    """Where the address is symbolic it may lie in another part that is promised by chance."""
    kinds = ended(run(tmp_path, begin(code), data="image_end:"))
    assert "UNPROMISED" in kinds and kinds <= {"UNPROMISED", "PARKED", "TABLE_IN_USE"}


def test_an_address_that_is_not_known_parts_the_inputs(tmp_path: Path) -> None:
    result = run(tmp_path, "movb (%rbx), %al; hlt", ENTRY + SCRATCH + AREA)
    assert ended(result) == {"UNPROMISED", "PARKED"}
    rbx = result.ends[0].history[0].values["rbx"]
    parked, prover = only(result, EndKind.PARKED), Prover(result.hypotheses)
    assert not prover.possible(parked.path, rbx == TABLE - 1)
    assert prover.possible(parked.path, rbx == TABLE + 0xFFF)


def test_a_store_that_the_promise_does_not_spare_may_change_tables(tmp_path: Path) -> None:
    """boot_params is mapped, but it is not said that no table lies there."""
    assert ended(run(tmp_path, "movb $0, (%rsi); hlt")) == {"TABLE_IN_USE"}
    kinds = {"UNPROMISED", "TABLE_IN_USE", "OVERWRITTEN", "PARKED"}
    assert ended(run(tmp_path, "movb $0, (%rbx); hlt")) == kinds


@pytest.mark.parametrize(
    ("contract", "code"),
    [
        (ENTRY + SCRATCH + AREA, "pushq %rax; hlt"),
        (ENTRY + STACK + SCRATCH, "movb TABLE, %al; hlt"),
    ],
)
def test_what_the_contract_does_not_name_is_not_promised(
    contract: str, code: str, tmp_path: Path
) -> None:
    assert "UNPROMISED" in ended(run(tmp_path, begin(code), contract))


def test_a_range_does_not_wrap_around(tmp_path: Path) -> None:
    """Else it would have bytes at both ends of the address space, and neither is RAM."""
    code = "leaq 0xfff(%rsi), %rbx; cmpq %rsi, %rbx; jb 1f; hlt; 1: ud2"
    assert ended(run(tmp_path, code)) == {"PARKED"}
    assert ended(run(tmp_path, "leaq -1(%rsp), %rbx; cmpq %rsp, %rbx; ja 1f; hlt; 1: ud2")) == {
        "PARKED"
    }


# --- the same tables again


def again(between: str = "", before: str = "", after: str = "") -> str:
    """Through code without paging, back to the tables of the entry: CR3 crosses in R11."""
    return begin(f"{before}\n{TO_32}{PAGING_OFF}{between}\n{PAGING_ON}{TO_64}{after}\nhlt")


def test_the_tables_of_the_entry_may_be_left_and_taken_again(tmp_path: Path) -> None:
    assert ended(run(tmp_path, again(after="movl %eax, scratch(%rip)"))) == {"PARKED"}


def test_bits_of_cr3_that_are_no_address_do_not_matter(tmp_path: Path) -> None:
    """Without CR4.PGE: with it a global page may stay in the TLB."""
    off = "movq %cr4, %rax; testb $0x80, %al; jz 1f; hlt; 1:"
    code = f"{off} movq %cr3, %rax; xorq $0xfff, %rax; movq %rax, %cr3; hlt"
    assert ended(run(tmp_path, code)) == {"PARKED"}


def test_another_root_than_promised_ends_the_promise(tmp_path: Path) -> None:
    kinds = ended(run(tmp_path, "movq %cr3, %rax; xorq $0x1000, %rax; movq %rax, %cr3; hlt"))
    assert "UNPROMISED" in kinds and kinds <= {"UNPROMISED", "SHUTDOWN"}


def test_nxe_may_change(tmp_path: Path) -> None:
    """What may be executed has no XD set, with NXE or without: it is proved anew."""
    code = "movl $0xc0000080, %ecx; rdmsr; xorl $1 << 11, %eax; wrmsr; hlt"
    result = run(tmp_path, code)
    assert ended(result) == {"PARKED", "SHUTDOWN"}
    for end in result.ends_of(EndKind.SHUTDOWN):
        assert end.detail.startswith("#GP: EFER")


def test_other_levels_than_promised_end_the_promise(tmp_path: Path) -> None:
    change = "movl %cr4, %eax; xorl $CR4_LA57, %eax; movl %eax, %cr4"
    kinds = ended(run(tmp_path, again(change)))
    assert "UNPROMISED" in kinds and kinds <= {"UNPROMISED", "SHUTDOWN"}


@pytest.mark.parametrize("where", ["before", "between"])
def test_a_store_without_paging_may_change_the_tables_that_are_taken_again(
    where: str, tmp_path: Path
) -> None:
    """In legacy mode every store is mapped; it counts when the tables are in force again."""
    contract = ENTRY + SCRATCH + AREA
    inside, outside = "movb $1, pa_scratch", "movb $1, 0x12345678"
    if where == "between":
        assert ended(run(tmp_path, again(inside), contract)) == {"PARKED"}
        assert ended(run(tmp_path, again(outside), contract)) == {"TABLE_IN_USE"}
    else:
        assert ended(run(tmp_path, again(before=outside), contract)) == {"UNPROMISED"}


def test_write_protection_is_part_of_the_promise(tmp_path: Path) -> None:
    code = "movq %cr0, %rax; xorq $CR0_WP, %rax; movq %rax, %cr0; movl %eax, scratch(%rip); hlt"
    assert ended(run(tmp_path, code)) == {"PARKED"}


def test_cr4_may_hold_any_modelled_bit(tmp_path: Path) -> None:
    """PGE and others are symbols at the entry; a write that keeps them is no fault."""
    result = run(tmp_path, "movq %cr4, %rax; xorq $0x80, %rax; movq %rax, %cr4; hlt")
    assert ended(result) == {"PARKED", "SHUTDOWN"}  # no PGE on this CPU
    for shutdown in result.ends_of(EndKind.SHUTDOWN):
        cr4 = shutdown.history[0].values["cr4"]
        assert isinstance(cr4, z3.BitVecRef)
        assert not Prover(result.hypotheses).possible(shutdown.path, cr4 & 0x80 != 0)
    for code in ("orq $1 << 20, %rax", "orq $1 << 17, %rax", "movq %rbx, %rax"):
        result = run(tmp_path, f"movq %cr4, %rax; {code}; movq %rax, %cr4; hlt")
        assert "not modelled" in result.ends_of(EndKind.UNSUPPORTED)[0].detail
        assert ended(result) == {"UNSUPPORTED"}


# --- tables in the image that the host has made: [map]

MAP = """\
[[word]]
symbol = "tr_cr4"
size = 4
must = 0x20
may = {may:#x}
register = "cr4"
[[word]]
symbol = "tr_efer"
size = 8
must = 0x100
may = 0x901
register = "efer"
[map]
root = "root"
cr4 = "tr_cr4"
efer = "tr_efer"
"""
MAP_DATA = """
    .balign 8
tr_efer: .quad 0
tr_cr4: .long 0
    .balign 4096
root: .skip 4096
"""
LOAD_CR4, LOAD_CR3 = (
    "movl pa_tr_cr4, %eax; movl %eax, %cr4\n",
    "movl $pa_root, %eax; movl %eax, %cr3\n",
)
LOAD_EFER = """
    movl $0xc0000080, %ecx; movl pa_tr_efer, %eax; movl pa_tr_efer + 4, %edx; wrmsr
"""


def mapped(
    tmp_path: Path,
    load: str = LOAD_CR4 + LOAD_CR3 + LOAD_EFER,
    after: str = "",
    before: str = "",
    base: int | None = BASE,
    data: str = MAP_DATA,
    may: int = 0x20,
) -> set[str]:
    """The ends of code that takes the tables of [map]. The host's word for CR4 may have the bits
    `may`."""
    code = begin(f"{before}\n{TO_32}{PAGING_OFF}{load}{PAGING_ON}{TO_64}{after}\nhlt")
    contract = ENTRY + SCRATCH + AREA + MAP.format(may=may)
    return ended(run(tmp_path, code, contract, data, base))


def test_the_hosts_map_reaches_all_memory(tmp_path: Path) -> None:
    load = LOAD_CR4 + LOAD_CR3 + LOAD_EFER
    assert mapped(tmp_path, load, "movb 0x12345678, %al", base=None, may=0x1020) == {"PARKED"}
    # Beyond MAXPHYADDR there is nothing.
    assert mapped(tmp_path, after="movabsb 0x1000000000, %al") == {"PARKED", "UNPROMISED"}


@pytest.mark.parametrize(
    "load",
    [
        LOAD_CR4 + LOAD_EFER,
        LOAD_CR4.replace("movl %eax", "xorl $CR4_LA57, %eax; movl %eax") + LOAD_CR3 + LOAD_EFER,
        LOAD_CR4 + LOAD_CR3.replace("pa_root", "pa_root + 4096") + LOAD_EFER,
        LOAD_CR3 + LOAD_EFER,
    ],
    ids=["CR3 of the entry", "LA57", "CR3", "CR4 of the entry"],
)
def test_the_hosts_map_is_promised_for_its_registers_only(load: str, tmp_path: Path) -> None:
    assert "UNPROMISED" in mapped(tmp_path, load, "movb 0x12345678, %al")


def test_flags_in_cr3_do_not_matter_for_the_hosts_map(tmp_path: Path) -> None:
    load = LOAD_CR4 + LOAD_CR3.replace("pa_root", "pa_root + 0x18") + LOAD_EFER
    assert mapped(tmp_path, load) == {"PARKED"}


def test_a_store_to_the_hosts_map_ends_its_promise(tmp_path: Path) -> None:
    at = "root + 0xff8"
    all_of_it = LOAD_CR4 + LOAD_CR3 + LOAD_EFER
    store64, store32 = f"movq $0, {at}(%rip)", f"movl $0, pa_{at}\n"
    for ends in (
        mapped(tmp_path, before=store64),
        mapped(tmp_path, store32 + all_of_it),
        mapped(tmp_path, all_of_it, after=store64),
    ):
        assert "TABLE_IN_USE" in ends and ends <= {"TABLE_IN_USE", "SHUTDOWN"}


def test_a_store_anywhere_but_in_the_image_may_change_the_hosts_map(tmp_path: Path) -> None:
    assert mapped(tmp_path, after="movb $1, 0x12345678") == {"TABLE_IN_USE"}
    assert mapped(tmp_path, after="movl $1, scratch(%rip)") == {"PARKED"}


# --- the GDT


@pytest.mark.parametrize(
    ("value", "kind", "detail"),
    [
        ("$0", EndKind.UNSUPPORTED, "names a gate or system descriptor"),  # what is now there
        ("%ebx", EndKind.OVERWRITTEN, "the descriptor of selector"),
    ],
)
def test_a_store_between_lgdt_and_its_use_is_seen(
    value: str, kind: EndKind, detail: str, tmp_path: Path
) -> None:
    code = begin(TO_32.replace("ljmpl", f"movl {value}, gdt + 12(%rip); ljmpl") + "hlt")
    for end in run(tmp_path, code).ends[:1]:
        assert end.kind is kind and detail in end.detail


def test_a_gdt_below_4_gib_outlives_legacy_mode(tmp_path: Path) -> None:
    assert ended(run(tmp_path, again())) == {"PARKED"}


def test_the_upper_half_of_gdtr_may_be_lost_in_legacy_mode(tmp_path: Path) -> None:
    """A GDT above 4 GiB, of which a copy lies 4 GiB below, for legacy mode. The far jump back reads
    it in compatibility mode, with whatever the upper half is then."""
    high = 1
    area = AREA.replace('"table"', '"high"').replace(str(TABLE), str((high << 32) + TABLE))
    make = """
        leaq gdt(%rip), %rsi; movl $TABLE, %edi; movl $(gdt_end - gdt), %ecx; cld; rep movsb
        leaq gdt(%rip), %rsi; movabsq $TABLE + (1 << 32), %rdi
        movl $(gdt_end - gdt), %ecx; rep movsb
        movl $39, %eax; movl %eax, scratch(%rip)
        movabsq $TABLE + (1 << 32), %rax; movq %rax, scratch + 2(%rip)
    """
    to_32 = TO_32.replace("gdt_pointer(%rip)", "scratch(%rip)")
    reload = "lgdt pa_gdt_pointer\n"
    outcomes = {}
    for between in ("", reload):
        code = begin(f"{make}{to_32}{PAGING_OFF}{between}{PAGING_ON}{TO_64}hlt")
        result = run(tmp_path, code, USUAL + area)
        outcomes[between] = {end.kind.name for end in result.ends}
        details = {end.detail for end in result.ends_of(EndKind.SHUTDOWN)}
        assert all("GDTR.base" in detail for detail in details)  # none, with the reload
    assert outcomes == {"": {"SHUTDOWN", "PARKED"}, reload: {"PARKED"}}
