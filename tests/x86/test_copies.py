# SPDX-License-Identifier: GPL-2.0-only
"""Part of the image is copied elsewhere by the code itself, and executed there."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.x86.run import EndKind, PathEnd
from tests.x86.promised import (
    BASE,
    COPIED,
    COPY,
    ENTRY,
    SCRATCH,
    TO_32,
    USUAL,
    ended,
    only,
    run,
)

MAKE = """
    leaq copied(%rip), %rsi; movl $COPY, %edi; movl $(copied_end - copied), %ecx; cld; rep movsb
"""
JUMP = "movl $COPY, %eax; jmp *%rax\n"
CODE = "copied: movl $7, %ebx; movl $8, %edx; hlt; copied_end:"
CONTRACT = USUAL + COPIED


def code(part: str = CODE, make: str = MAKE, jump: str = JUMP) -> str:
    return f"#define COPY {COPY:#x}\nbegin: {make}\n{jump}\n{part}\n"


def only_end(tmp_path: Path, source: str, base: int | None = BASE) -> PathEnd:
    (end,) = run(tmp_path, source, CONTRACT, base=base).ends
    return end


def where(end: PathEnd) -> list[int]:
    """The linear address of each instruction, for an image at BASE."""
    origins = [before.origin for before in end.history]
    return [o.as_long() + at for o, (at, _) in zip(origins, end.trace, strict=True)]


@pytest.mark.parametrize("base", [BASE, None])
def test_the_copy_does_what_the_image_would(base: int | None, tmp_path: Path) -> None:
    end = only_end(tmp_path, code(), base)
    assert end.kind is EndKind.PARKED
    assert [end.state.registers[name].as_long() for name in ("rbx", "rdx")] == [7, 8]
    here = only_end(tmp_path, code(jump="jmp copied"), base)
    offsets = [[at - e.trace[-3][0] for at, _ in e.trace[-3:]] for e in (here, end)]
    assert offsets == [[0, 5, 10]] * 2
    if base is not None:
        assert where(end)[-3:] == [COPY, COPY + 5, COPY + 10]
        assert where(here)[-3] > BASE


@pytest.mark.parametrize(
    "change",
    [
        f"movb $9, {COPY + 1:#x}",  # another immediate
        f"movb $0x90, {COPY + 10:#x}",  # no halt
        f"movb %al, {COPY:#x}",
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_changed_byte_is_not_executed_as_assembled(
    change: str, when: str, tmp_path: Path
) -> None:
    """Before the copy is made it does not matter."""
    at = {"before": f"{change}\n{MAKE}", "after": f"{MAKE}\n{change}"}[when]
    kind = {"before": "PARKED", "after": "OVERWRITTEN"}[when]
    kinds = ended(run(tmp_path, code(make=at), CONTRACT))
    assert kind in kinds and kinds <= {kind, "PARKED"} and len(kinds) <= 2
    if "%al" not in change:
        assert kinds == {kind}


def test_a_byte_of_the_image_that_is_changed_first_is_copied(tmp_path: Path) -> None:
    change = "movl $0x90, copied + 10(%rip)\n"
    assert ended(run(tmp_path, code(make=change + MAKE), CONTRACT)) == {"OVERWRITTEN"}
    assert ended(run(tmp_path, code(make=MAKE + change), CONTRACT)) == {"PARKED"}


def test_the_copy_may_change_code_that_was_executed_but_not_what_comes(tmp_path: Path) -> None:
    done = f"copied: movl $7, %ebx; movb $1, {COPY + 1:#x}; hlt; copied_end:"
    ahead = f"copied: movl $7, %ebx; movb $1, {COPY + 13:#x}; hlt; copied_end:"
    assert ended(run(tmp_path, code(done), CONTRACT)) == {"PARKED"}
    assert ended(run(tmp_path, code(ahead), CONTRACT)) == {"OVERWRITTEN"}


@pytest.mark.parametrize("made", ["", MAKE.replace("copied_end - copied", "5")])
def test_what_is_not_copied_is_not_known(made: str, tmp_path: Path) -> None:
    """The rest is whatever lay there before, which may be the same by chance."""
    assert ended(run(tmp_path, code(make=made), CONTRACT)) == {"OVERWRITTEN", "PARKED"}


def test_a_copy_of_other_bytes_is_not_executed(tmp_path: Path) -> None:
    made = MAKE.replace("leaq copied", "leaq begin")
    assert ended(run(tmp_path, code(make=made), CONTRACT)) == {"OVERWRITTEN"}


@pytest.mark.parametrize(
    "part",
    [
        "copied: nop; nop; copied_end: hlt",
        "copied: jmp copied_end; copied_end: hlt",
        "1: hlt; copied: jmp 1b; copied_end:",
    ],
)
def test_the_copy_ends_where_it_ends(part: str, tmp_path: Path) -> None:
    end = only_end(tmp_path, code(part))
    assert end.kind is EndKind.UNSUPPORTED and "out of the copy" in end.detail


def test_a_jump_behind_the_copy_is_a_jump_out_of_the_image(tmp_path: Path) -> None:
    jump = "movl $COPY + copied_end - copied, %eax; jmp *%rax"
    assert ended(run(tmp_path, code(jump=jump), CONTRACT)) == {"HAND_OFF"}


def test_a_jump_into_the_middle_of_the_copy(tmp_path: Path) -> None:
    end = only_end(tmp_path, code(jump="movl $COPY + 5, %eax; jmp *%rax"))
    assert end.kind is EndKind.PARKED and where(end)[-2:] == [COPY + 5, COPY + 10]


def test_from_the_copy_back_to_the_image_and_to_the_copy_again(tmp_path: Path) -> None:
    part = """
    copied: jmp *%rcx
    4: hlt
    copied_end:
    back: movl $7, %ebx; movl $COPY + 4b - copied, %eax; jmp *%rax
    """
    end = only_end(tmp_path, code(part, jump="leaq back(%rip), %rcx\n" + JUMP))
    assert end.kind is EndKind.PARKED
    assert where(end)[-1] == COPY + 2 and where(end)[-2] > BASE > where(end)[-5]


def test_addresses_relative_to_rip_are_those_of_the_copy(tmp_path: Path) -> None:
    part = """
    copied: leaq copied(%rip), %rbx; movl $5, word(%rip); movl word(%rip), %edx; call 2f
    2:      hlt
    word:   .long 0
    copied_end:"""
    result = run(tmp_path, code(part, make=MAKE + "movl $COPY + 0x40, %esp"), CONTRACT)
    end = only(result, EndKind.UNPROMISED)  # the call's push: COPY + 0x38 is behind the copy
    assert end.state.registers["rbx"].as_long() == COPY
    assert end.state.registers["rdx"].as_long() == 5
    stores = [access.linear.as_long() for access in end.accesses if access.kind == "store"]
    assert COPY < stores[-1] < COPY + 0x40


def test_a_call_in_the_copy_returns_to_the_copy(tmp_path: Path) -> None:
    part = "copied: call 2f; movl $6, %ebx; hlt; 2: ret; .skip 32; copied_end:"
    make = MAKE + "movl $COPY + copied_end - copied, %esp"
    end = only_end(tmp_path, code(part, make=make))
    assert end.kind is EndKind.PARKED and end.state.registers["rbx"].as_long() == 6
    assert where(end)[-2:] == [COPY + 5, COPY + 10]


@pytest.mark.parametrize("whole", [True, False])
def test_a_copy_made_downwards(whole: bool, tmp_path: Path) -> None:
    first = "leaq copied_end - 1(%rip), %rsi; movl $COPY + copied_end - copied - 1, %edi"
    made = f"{first}; movl $(copied_end - copied), %ecx; std; rep movsb"
    made = made if whole else made.replace("leaq copied_end - 1", "leaq copied_end - 2")
    kind = "PARKED" if whole else "OVERWRITTEN"
    assert ended(run(tmp_path, code(make=made), CONTRACT)) == {kind}


@pytest.mark.parametrize("bits", [16, 32])
def test_code_of_other_modes_in_the_copy(bits: int, tmp_path: Path) -> None:
    part = f"""
    copied: .code{bits}
        movl $7, %ebx; {"jmp 3f; nop" if bits == 32 else "nop"}
    3:  movl $8, %edx; hlt
    copied_end: .code64"""
    far = f"ljmpl *1f(%rip)\n1: .long COPY\n.short CODE{bits}"
    make = MAKE + "movl $FLAT, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss"
    result = run(tmp_path, code(part, "lgdt gdt_pointer(%rip)\n" + make, far), CONTRACT)
    assert ended(result) == {"PARKED"}
    for end in result.ends:
        assert end.mode.name == f"COMPATIBILITY{bits}"
        found = [end.state.registers[name] for name in ("rbx", "rdx")]
        assert [z3.simplify(z3.Extract(31, 0, term)).as_long() for term in found] == [7, 8]
        changed = far.replace("ljmpl", f"movb $9, {COPY + 2 if bits == 16 else COPY + 1:#x}; ljmpl")
    result = run(tmp_path, code(part, "lgdt gdt_pointer(%rip)\n" + make, changed), CONTRACT)
    assert ended(result) == {"OVERWRITTEN"}


def test_without_an_area_code_elsewhere_is_no_copy(tmp_path: Path) -> None:
    """In 64-bit mode it is where the trampoline ends, and else it is refused."""
    assert "UNPROMISED" in ended(run(tmp_path, code(), ENTRY + SCRATCH))
    assert ended(run(tmp_path, code(make=""), ENTRY + SCRATCH)) == {"HAND_OFF"}
    far = TO_32 + f"ljmpl $CODE32, ${COPY:#x}\n"
    (end, *_) = run(tmp_path, code(make="", jump=far), ENTRY + SCRATCH).ends
    assert end.kind is EndKind.UNSUPPORTED and "a jump out of the image" in end.detail
