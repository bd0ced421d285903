# SPDX-License-Identifier: GPL-2.0-only
"""What the machine refuses by name, and the faults and values that modes and segments give."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.run import EndKind
from harness.x86.terms import variables
from tests.x86.small import BASE, only_end, refusal, run
from tests.x86.values import Chosen, value_of

NOT_MODELLED = [
    *((16, "inb $0x60, %al", "`in AL"), (16, "int $0x13", "int 0x13"), (16, "lretw", "far return")),
    *((32, "outb %al, $0x60", "`out"), (32, "vmcall", "vmcall"), (32, "iret", "iret")),
    *((32, "ud2", "ud2"), (32, "rdtsc", "rdtsc"), (32, "div %ecx", "div"), (32, "movsl", "movsd")),
    *((32, "popl %ds", "pop DS"), (32, "lss (%esi), %esp", "lss"), (32, "popf", "popfd")),
    *((32, "lcall *OFF(far_pointer)(%esi)", "callf"), (32, "lcall $8, $0", "callf")),
    *((32, "movl %fs:(%esi), %eax", "FS"), (32, "movaps %xmm0, %xmm1", "movaps")),
    *((32, "lock incl OFF(status)(%esi)", "lock prefix"), (32, "movl %eax, %dr7", "DR7")),
    *((32, "ltr %ax", "ltr"), (32, "invlpg (%esi)", "invlpg"), (32, "clts", "clts")),
    *((32, "lret $4", "releases stack bytes"), (32, ".byte 0x8e, 0xc8", "mov to CS")),
    *((32, "sti", "sti"), (32, "movl %eax, %cr2", "CR2")),
    *((64, "syscall", "syscall"), (64, "iretq", "iretq"), (64, "movq %rax, %cr8", "CR8")),
    *((32, "movl $0x1b, %ecx; rdmsr", "MSR 0x1b"), (32, "movl $0x10, %ecx; wrmsr", "MSR 0x10")),
    (32, "movl OFF(scratch)(%esi), %ecx; rdmsr", "MSR that is not constant"),
    (32, "movl OFF(scratch)(%esi), %eax; cpuid", "leaf that is not constant"),
    (32, "movl $0x100000, %eax; movl %eax, %cr4", "CR4"),
    (32, "movl OFF(scratch)(%esi), %eax; movl %eax, %cr4", "CR4"),
    (32, "movl OFF(scratch)(%esi), %eax; movl %eax, %ds", "selector"),
    (32, "movl $0x1c, %eax; movl %eax, %ds", "names the LDT"),
    (32, "movl $0x100000, %eax; jmp *%eax", "jump out of the image in 32-bit protected mode"),
    (32, "jmp *OFF(scratch)(%esi)", "jump out of the image in 32-bit protected mode"),
    (32, "jmp scratch", "unknown"),
    (32, "jmp kernel", "unknown"),
    (32, "movl $CR0_PG | CR0_PE, %eax; movl %eax, %cr0", "paging mode other than 4-level"),
    (32, "1: nop; jmp 1b", "more than"),
]


@pytest.mark.parametrize(("bits", "code", "named"), NOT_MODELLED, ids=lambda value: str(value))
def test_what_is_not_modelled_is_refused_by_name(
    bits: int, code: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.x86.engine.MAX_INSTRUCTIONS", 200)
    detail = refusal(run(tmp_path, code, bits))
    assert named in detail
    assert detail.startswith("at image offset 0x")


def test_running_off_the_image_is_refused(tmp_path: Path) -> None:
    assert "runs out of the image" in refusal(run(tmp_path, "jmp tables_end", 32))


def test_an_instruction_beyond_the_images_end_is_refused(tmp_path: Path) -> None:
    code = "movb $0xb8, OFF(area) - 1(%esi); jmp tables_end - 1"
    assert only_end(run(tmp_path, code, 32)).kind is EndKind.UNSUPPORTED


def test_bytes_that_do_not_decode_are_refused(tmp_path: Path) -> None:
    assert "do not decode as 32-bit code" in refusal(run(tmp_path, ".byte 0x0f, 0x04", 32))


def test_a_data_segment_that_is_not_flat_is_refused(tmp_path: Path) -> None:
    code = "movl $0x20, %eax; movl %eax, %ds; movl $1, OFF(status)"
    base_8000 = f".quad 0x00cf93000000ffff + ({BASE:#x} << 16)"
    assert "is not flat" in refusal(run(tmp_path, code, 32, descriptors=base_8000))


@pytest.mark.parametrize("register", ["ds", "es", "ss", "fs", "gs"])
def test_a_reserved_bit_of_a_data_segment_is_refused(register: str, tmp_path: Path) -> None:
    """QEMU takes an SS that has it for that of 64-bit code, and faults on LRET."""
    code = f"movl $0x20, %eax; movl %eax, %{register}; hlt"
    refused = refusal(run(tmp_path, code, 32, descriptors=".quad 0x00ef93000000ffff"))
    assert f"{register.upper()} with L = 1, which is reserved" in refused


@pytest.mark.parametrize(
    "es", ["", "xorl %eax, %eax; movl %eax, %es;"], ids=["as after INIT", "null"]
)
def test_an_access_through_ds_never_faults_on_es(es: str, tmp_path: Path) -> None:
    code = f"{es} movl $FLAT, %eax; movl %eax, %ds; movl %eax, %ss; movl $1, OFF(status)(%esi); hlt"
    end = only_end(run(tmp_path, code, 32, way="TO_32BIT_ONLY_CS", base=0x20000))
    assert end.kind in (EndKind.PARKED, EndKind.UNSUPPORTED)


def test_a_16_bit_stack_is_not_taken_for_a_32_bit_one(tmp_path: Path) -> None:
    code = "movl $0x20, %eax; movl %eax, %ss; movl $0x10000, %esp; pushl $5; hlt"
    end = only_end(run(tmp_path, code, 32, descriptors=".quad 0x008f93000000ffff"))
    if end.kind is not EndKind.UNSUPPORTED:
        assert value_of(end.state.registers["rsp"], Chosen()) == 0x1FFFC


def test_a_code_segment_that_is_not_flat_is_not_taken_for_a_flat_one(tmp_path: Path) -> None:
    code = """
        ljmp $0x20, $OFF(1f)
        1: call 2f
        2: popl %ebx
        movl $OFF(3f), %eax
        jmp *%eax
        3: hlt"""
    base_8000 = f".quad 0x00cf9b000000ffff + ({BASE:#x} << 16)"
    end = only_end(run(tmp_path, code, 32, descriptors=base_8000))
    if end.kind is not EndKind.UNSUPPORTED:
        assert end.kind is EndKind.PARKED
        assert value_of(end.state.registers["rbx"], Chosen()) < 0x100


@pytest.mark.parametrize("base", [BASE, None])
def test_the_return_address_counts_from_cs_in_real_mode(base: int | None, tmp_path: Path) -> None:
    code = """
        movw %cs, %ax
        movw %ax, %ds
        movw %ax, %ss
        movw $OFF(stack_end), %sp
        incw %ax
        movw %ax, OFF(far_pointer) + 2
        movw $(OFF(1f) - 16), OFF(far_pointer)
        ljmpw *OFF(far_pointer)
        1: call 2f
        2: popw %bx
        hlt"""
    end = only_end(run(tmp_path, code, 16, base=base))
    values = Chosen(sipi_vector=8)
    assert end.kind is EndKind.PARKED
    # `pop` and `hlt` have one byte each.
    assert value_of(end.state.registers["rbx"], values) == end.instruction - 1 - 16


def test_a_rip_relative_store_goes_into_the_image(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "movl $7, scratch(%rip); movl scratch(%rip), %ebx; hlt", 64))
    assert value_of(end.state.registers["rbx"], Chosen()) == 7
    assert end.accesses[-1].linear.as_long() == BASE + 0x414
    assert end.accesses[-2].linear.as_long() == BASE + 0x414


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (
            "movl $MSR_EFER, %ecx; rdmsr; btsl $EFER_LME_BIT, %eax; wrmsr; "
            "movl $CR0_PG | CR0_PE, %eax; movl %eax, %cr0",
            "CR0",
        ),
        ("movl $CR0_PG, %eax; movl %eax, %cr0", "CR0"),
        ("movl $0x20000001, %eax; movl %eax, %cr0", "CR0"),
        ("movl $MSR_EFER, %ecx; movl $2, %eax; xorl %edx, %edx; wrmsr", "EFER"),
        ("movl $0x38, %eax; movl %eax, %ds", "outside the GDT"),
        ("xorl %eax, %eax; movl %eax, %ss", "SS"),
        ("movl $CODE32, %eax; movl %eax, %ss", "SS"),
        ("movl $0x80000000, %eax; movl -1(%eax, %eax), %eax", "does not allow"),
        ("ljmp $0, $0", "null selector"),
        ("ljmp $FLAT, $0", "CS"),
    ],
)
def test_a_fault_is_a_shutdown(code: str, named: str, tmp_path: Path) -> None:
    end = only_end(run(tmp_path, f"{code}; hlt", 32))
    assert end.kind is EndKind.SHUTDOWN
    assert named in end.detail


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        ("movl 0x400000, %eax; hlt", [EndKind.SHUTDOWN]),  # beyond the one page that is mapped
        ("movl 0x1ffffc, %eax; hlt", [EndKind.PARKED]),
        ("movabs $0x800000000000, %rax; movl (%rax), %eax; hlt", [EndKind.SHUTDOWN]),
        (
            "movl kernel(%rip), %eax; andl $-4, %eax; orl $0x100000, %eax; movl (%rax), %ebx; hlt",
            [EndKind.SHUTDOWN, EndKind.PARKED],
        ),
        ("movq $0, OFF(tables)(%rsi); hlt", [EndKind.TABLE_IN_USE]),
        ("movq $0, OFF(tables) + 8(%rsi); hlt", [EndKind.PARKED]),
    ],
)
def test_paging_decides_what_an_access_reaches(
    code: str, kinds: list[EndKind], tmp_path: Path
) -> None:
    result = run(tmp_path, code, 64)
    assert sorted((end.kind for end in result.ends), key=str) == sorted(kinds, key=str)


def test_an_access_beyond_the_real_mode_limit_is_a_shutdown(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "movw $0xffff, %bx; movw (%bx), %ax; hlt", 16))
    assert (end.kind, end.detail) == (EndKind.SHUTDOWN, "#GP or #SS: DS does not allow the access")


UPPER = "TO_32BIT\nTO_64BIT_UPPER_HALVES_UNKNOWN"


def test_upper_halves_are_unknown_after_the_switch_to_64_bit_mode(tmp_path: Path) -> None:
    end = only_end(run(tmp_path, "movl %esi, %edi; hlt", 64, way=UPPER))
    assert any("upper_half" in name for name in variables(end.state.registers["rsi"]))
    assert end.state.registers["rdi"].as_long() == BASE


def test_upper_halves_are_zero_where_the_contract_assumes_it(tmp_path: Path) -> None:
    assume = '["upper-halves-zero"]'
    result = run(tmp_path, "movl (%rsi), %eax; hlt", 64, way=UPPER, assume=assume)
    assert only_end(result).state.registers["rsi"].as_long() == BASE
    assert any("upper halves" in sentence for sentence, _ in result.assumptions)


def test_an_address_with_an_unknown_upper_half_may_fault(tmp_path: Path) -> None:
    result = run(tmp_path, "movl (%rsi), %eax; hlt", 64, way=UPPER)
    assert {end.kind for end in result.ends} == {EndKind.SHUTDOWN, EndKind.PARKED}


def test_registers_at_entry_are_what_init_leaves(tmp_path: Path) -> None:
    state = only_end(run(tmp_path, "hlt", 16, base=None)).state
    assert set(variables(state.registers["rdx"])) == {"rdx_at_entry"}  # EDX: the signature
    assert value_of(state.registers["rax"], Chosen()) == 0
    assert set(variables(state.registers["rax"])) == {"rax_at_entry"}  # its upper half
    assert value_of(state.rflags, Chosen()) == 2
    assert state.registers["r8"].as_long() == 0
    assert value_of(state.segments["cs"].selector, Chosen(sipi_vector=0x9A)) == 0x9A00


def test_a_flag_that_the_manual_leaves_undefined_is_unknown(tmp_path: Path) -> None:
    state = only_end(run(tmp_path, "movl $5, %eax; andl $4, %eax; hlt", 32)).state
    assert set(variables(z3.simplify(z3.Extract(4, 4, state.rflags))))


def test_the_auxiliary_carry_is_right_or_unknown(tmp_path: Path) -> None:
    state = only_end(run(tmp_path, "movb $15, %al; addb $1, %al; hlt", 16)).state
    carry = z3.simplify(z3.Extract(4, 4, state.rflags))
    assert not z3.is_bv_value(carry) or carry.as_long() == 1


def test_a_branch_on_memory_forks_and_both_ways_are_accounted_for(tmp_path: Path) -> None:
    code = "cmpl $5, OFF(scratch)(%esi); je 1f; hlt; 1: movl $1, %ebx; hlt"
    first, second = run(tmp_path, code, 32).ends
    assert first.kind is second.kind is EndKind.PARKED
    solver = z3.Solver()
    solver.add(first.condition == second.condition)
    assert solver.check() == z3.unsat
