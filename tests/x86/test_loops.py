# SPDX-License-Identifier: GPL-2.0-only
"""A counted loop done in one step leaves what it leaves when every iteration is executed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import z3

from harness.x86 import engine
from harness.x86.execute import execute
from harness.x86.run import EndKind, PathEnd
from harness.x86.terms import const, variables
from tests.x86 import promised
from tests.x86.small import only_end, refusal, run
from tests.x86.values import Chosen, value_of

FILL = "leal OFF(area)(%esi), %edi; movl $0x11223344, %eax; movl ${count}, %ecx; "
FILL64 = "leaq OFF(area)(%rsi), %rdi; movl $0x11223344, %eax; movl ${count}, %ecx; "
SUMMARISED = {
    "rows of a page directory": (
        32, FILL + "1: movl %eax, (%edi); addl $0x200000, %eax; addl $8, %edi; decl %ecx; jnz 1b"
    ),
    "dense words": (32, FILL + "1: movl %eax, (%edi); addl $4, %edi; decl %ecx; jnz 1b"),
    "a store behind the steps": (
        32, FILL + "1: addl $16, %edi; addl $3, %eax; movl %eax, -8(%edi); decl %ecx; jnz 1b"
    ),
    "counting up": (
        32,
        FILL + "xorl %edx, %edx; 1: movb %dl, (%edi); incl %edi; incl %edx; cmpl %ecx, %edx; jb 1b",
    ),
    "loop counted by subtraction": (
        32, FILL + "1: movl %eax, (%edi); addl $4, %edi; subl $1, %ecx; jnz 1b"
    ),
    "64-bit entries": (
        64, FILL64 + "1: movq %rax, (%rdi); addq $0x200000, %rax; addq $8, %rdi; decl %ecx; jnz 1b"
    ),
    "a value that wraps": (
        64, FILL64 + "1: movq %rax, (%rdi); subq $0x7654, %rax; addq $8, %rdi; decl %ecx; jnz 1b"
    ),
    "a scaled index": (
        32, FILL + "xorl %edx, %edx; 1: movw %ax, (%edi, %edx, 4); incl %edx; decl %ecx; jnz 1b"
    ),
}  # fmt: skip
UNROLLED = {
    "a load": FILL + "1: movl (%edi), %edx; movl %eax, 4(%edi); addl $4, %edi; decl %ecx; jnz 1b",
    "a load of what was stored": (
        FILL
        + "1: movl (%edi), %edx; incl %edx; movl %edx, 4(%edi); addl $4, %edi; decl %ecx; jnz 1b"
    ),
    "two stores": (
        FILL + "1: movl %eax, (%edi); movl %ecx, 4(%edi); addl $8, %edi; decl %ecx; jnz 1b"
    ),
    "an address that doubles": (
        FILL + "movl $1, %edx; 1: movb %al, (%edi, %edx); shll $1, %edx; decl %ecx; jnz 1b"
    ),
    "stores that overlap": FILL + "1: movl %eax, (%edi); addl $2, %edi; decl %ecx; jnz 1b",
    "stores that go down": (
        FILL + "leal 64(%edi), %edi; 1: movl %eax, (%edi); subl $4, %edi; decl %ecx; jnz 1b"
    ),
    "an index that goes down": FILL + "1: movw %ax, -4(%edi, %ecx, 4); decl %ecx; jnz 1b",
    "a value that changes by another amount each time": (
        FILL + "1: movl %eax, (%edi); subl %ecx, %eax; addl $4, %edi; decl %ecx; jnz 1b"
    ),
    "a gap that is no power of two": (
        FILL + "1: movl %eax, (%edi); addl $12, %edi; decl %ecx; jnz 1b"
    ),
    "a value that is multiplied": (
        FILL + "1: movl %eax, (%edi); imull $3, %eax; addl $4, %edi; decl %ecx; jnz 1b"
    ),
    "a push": FILL + "movl %edi, %esp; addl $128, %esp; 1: pushl %eax; decl %ecx; jnz 1b",
    "a flag carried over": (
        FILL + "clc; 1: movb $0, %dl; adcb $0, %dl; movb %dl, (%edi); leal 1(%edi), %edi; "
        "addl $0x80000000, %eax; decl %ecx; jnz 1b"
    ),
}


def finish(folder: Path, code: str, bits: int = 32, base: int | None = 0x8000) -> PathEnd:
    end = only_end(run(folder, f"{code}\nhlt", bits, base=base))
    assert end.kind is EndKind.PARKED, end.detail
    return end


def in_one_step(end: PathEnd) -> bool:
    return any(access.count > 1 for access in end.accesses)


def assert_same_state(a: PathEnd, b: PathEnd, base: int | None) -> None:
    """Registers but flags, for some inputs, and the memory that these loops write."""
    random = Random(0)
    for _ in range(2):
        vector = random.randrange(1, 0x90) if base is None else base >> 12
        values = Chosen(sipi_vector=vector)
        values |= {f"{name}_at_entry": random.getrandbits(64) for name in a.state.registers}
        for name, value in a.state.registers.items():
            other = b.state.registers[name]
            assert value_of(value, values) == value_of(other, values), name
    for offset in (*range(0xFF8, 0x1280, 8), *range(0x1280, 0x3000, 0x1F8)):
        at = a.memory.base.at(offset)
        assert z3.simplify(a.memory.read(at, 8)).eq(z3.simplify(b.memory.read(at, 8))), hex(offset)


@pytest.mark.parametrize("count", [2, 37])
@pytest.mark.parametrize("shape", SUMMARISED)
def test_a_counted_loop_is_done_in_one_step(
    shape: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits, code = SUMMARISED[shape]
    code = code.replace("{count}", str(count))
    quick = finish(tmp_path, code, bits)
    assert in_one_step(quick) == (count > 3)  # the first and the last iteration are executed
    monkeypatch.setattr(engine, "summarise", lambda *_: False)
    slow = finish(tmp_path, code, bits)
    assert not in_one_step(slow)
    assert slow.trace != quick.trace or count <= 2
    assert_same_state(quick, slow, 0x8000)


def test_a_counted_loop_is_done_in_one_step_for_all_bases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = SUMMARISED["rows of a page directory"][1].replace("{count}", "20")
    quick = finish(tmp_path, code, base=None)
    assert in_one_step(quick)
    monkeypatch.setattr(engine, "summarise", lambda *_: False)
    assert_same_state(quick, finish(tmp_path, code, base=None), None)


@pytest.mark.parametrize("shape", UNROLLED)
def test_a_loop_of_another_shape_is_unrolled(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = UNROLLED[shape].replace("{count}", "8")
    end = finish(tmp_path, code)
    assert not in_one_step(end)
    monkeypatch.setattr(engine, "summarise", lambda *_: False)
    assert_same_state(end, finish(tmp_path, code), 0x8000)


@pytest.mark.parametrize("count", [0, 1, 33])
@pytest.mark.parametrize(
    ("bits", "store"), [(32, "stosb"), (32, "stosw"), (32, "stosl"), (64, "stosq")]
)
def test_rep_stos_does_what_single_ones_do(
    bits: int, store: str, count: int, tmp_path: Path
) -> None:
    start = (FILL if bits == 32 else FILL64).replace("{count}", str(count))
    counter = "%ecx" if bits == 32 else "%rcx"
    singly = f"{store}; leal -1({counter}), %ecx; " * count
    assert_same_state(
        finish(tmp_path, f"{start} rep {store}", bits),
        finish(tmp_path, f"{start} {singly}", bits),
        0x8000,
    )


@pytest.mark.parametrize("store", ["stosb", "stosw", "stosl", "stosq"])
def test_rep_stos_fills_an_image_that_lies_anywhere(store: str, tmp_path: Path) -> None:
    """The base has up to 47 bits, so that addresses are no sums of base and offset by shape."""
    start = "leaq scratch(%rip), %rdi; movl $5, %ecx; movabs $0x1122334455667788, %rax; cld;"
    base, found = 0x7FFF_FFF0_0000, []
    values = Chosen(sipi_vector=base >> 12)
    for fill in (f"rep {store}", f"{store}; " * 5):
        contract, image = promised.load(tmp_path, f"{start} {fill}; hlt")
        end = promised.only(execute(contract, image), EndKind.PARKED)
        scratch = base + image.symbols["scratch"]
        words = (end.memory.read(const(scratch + at), 8) for at in range(0, 64, 8))
        content = [value_of(word, values) for word in words]
        found.append((content, value_of(end.state.registers["rdi"], values) - scratch))
    assert found[0] == found[1]


def test_a_second_longer_fill_is_seen_beyond_the_first(tmp_path: Path) -> None:
    code = """
        leal OFF(area)(%esi), %edi; movl $16, %ecx; movl $0x11111111, %eax; rep stosl
        leal OFF(area)(%esi), %edi; movl $2048, %ecx; movl $0x22222222, %eax; rep stosl
        movl OFF(area) + 4096 + 64(%esi), %ebx"""
    end = finish(tmp_path, code, base=None)
    assert z3.simplify(z3.Extract(31, 0, end.state.registers["rbx"])).as_long() == 0x22222222


def test_rep_stos_downwards_fills_what_lies_below(tmp_path: Path) -> None:
    up = FILL.replace("{count}", "8") + "rep stosl; hlt"
    down = FILL.replace("{count}", "8") + "addl $28, %edi; std; rep stosl; hlt"
    one, other = (finish(tmp_path, code) for code in (up, down))
    above, below = (value_of(end.state.registers["rdi"], Chosen()) for end in (one, other))
    start = (above & 0xFFFF_FFFF) - 32
    assert below & 0xFFFF_FFFF == start - 4
    content = [end.memory.read(const(start + 16), 4) for end in (one, other)]
    assert value_of(content[0], Chosen()) == value_of(content[1], Chosen())


def test_a_single_stos_downwards_moves_down(tmp_path: Path) -> None:
    end = finish(tmp_path, FILL.replace("{count}", "1") + "std; rep stosl; movl %edi, %ebx")
    start = finish(tmp_path, FILL.replace("{count}", "1") + "movl %edi, %ebx")
    down, up = (value_of(e.state.registers["rbx"], Chosen()) for e in (end, start))
    assert down & 0xFFFF_FFFF == (up & 0xFFFF_FFFF) - 4


def test_rep_stos_with_a_count_from_memory_is_refused(tmp_path: Path) -> None:
    code = "movl OFF(scratch)(%esi), %ecx; leal OFF(area)(%esi), %edi; rep stosl"
    assert "with a count that is not constant" in refusal(run(tmp_path, code, 32))


def test_a_loop_with_a_count_from_memory_is_not_done_in_one_step(tmp_path: Path) -> None:
    code = """
        movl OFF(scratch)(%esi), %ecx; andl $3, %ecx; leal OFF(area)(%esi), %edi
        1: movl %eax, (%edi); addl $4, %edi; decl %ecx; jns 1b; hlt"""
    result = run(tmp_path, code, 32)
    assert [end.kind for end in result.ends] == [EndKind.PARKED] * 4
    assert not any(in_one_step(end) for end in result.ends)
    fills = {len(end.memory.records) for end in result.ends}
    assert len(fills) == 4


def test_a_loop_beyond_a_segments_limit_is_not_done_in_one_step(tmp_path: Path) -> None:
    code = (
        "movl $0x20, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss; "
        "movl $0x1ff00, %edi; movl $0x100, %ecx; 1: movl %eax, (%edi); addl $4, %edi; "
        "decl %ecx; jnz 1b; hlt"
    )
    limited = ".quad 0x004193000000ffff"  # limit 1FFFFH in bytes, B = 1
    end = only_end(run(tmp_path, code, 32, descriptors=limited))
    assert end.kind is EndKind.SHUTDOWN
    assert sum(access.linear.as_long() >= 0x1FF00 for access in end.accesses) == 64


def test_memory_at_entry_is_still_there_around_a_fill(tmp_path: Path) -> None:
    code = FILL.replace("{count}", "4") + "rep stosl; movl 0x400000, %ebx"
    end = finish(tmp_path, code)
    assert "memory_at_entry" in variables(end.state.registers["rbx"])


@pytest.mark.parametrize("body", ["nop", "lock btsl $0, OFF(area)(%esi)"])
def test_a_loop_without_an_end_is_left_after_some_turns(body: str, tmp_path: Path) -> None:
    """Each turn that is locked makes what follows dearer: 5,000 instructions would take minutes."""
    text = refusal(run(tmp_path, f"1: {body}; pause; jmp 1b", 32))
    assert f"more than {engine.MAX_TURNS} turns of a loop that cannot be summarised" in text
