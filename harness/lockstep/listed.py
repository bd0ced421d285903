# SPDX-License-Identifier: GPL-2.0-only
"""Instructions to compare one by one, in AT&T syntax: all that the machine claims to execute."""

from __future__ import annotations

from models.modes import Mode

ANY_SIZE = """\
adc {a}, {b}; add {a}, {b}; and {a}, {b}; cmp {a}, {b}; or {a}, {b}; sbb {a}, {b}; sub {a}, {b}
test {a}, {b}; xor {a}, {b}; xchg {a}, {b}; mov {a}, {b}; dec {b}; inc {b}; neg {b}; not {b}
sal $1, {b}; shr $1, {b}; sar $1, {b}; sal $5, {b}; shr $5, {b}; sar $5, {b}
sal %cl, {b}; shr %cl, {b}; sar %cl, {b}; add $0x7f, {b}; sub $-3, {b}; cmp $5, {b}"""
WORD_OR_MORE = """\
imul {a}, {b}; imul $-5, {a}, {b}; bt {a}, {b}; bts {a}, {b}; btr {a}, {b}; btc {a}, {b}
cmovz {a}, {b}; cmovl {a}, {b}; cmovnbe {a}, {b}"""
DOUBLE_WORD_OR_MORE = "shld $3, {a}, {b}; shrd $3, {a}, {b}"
CONDITIONS = "o no b nb z nz be nbe s ns p np l nl le nle".split()


def plain(bits: int) -> list[str]:
    """One instruction for each mnemonic and operand size that the machine executes as plain."""
    registers = {8: ("%dl", "%bh"), 16: ("%dx", "%bx"), 32: ("%edx", "%ebx"), 64: ("%r9", "%rbx")}
    found: list[str] = []
    for size, (a, b) in registers.items():
        if size > max(bits, 32):
            continue
        text = ANY_SIZE if size == 8 else f"{ANY_SIZE}; {WORD_OR_MORE}"
        text = text if size < 32 else f"{text}; {DOUBLE_WORD_OR_MORE}"
        found += [part.strip() for part in text.format(a=a, b=b).replace("\n", ";").split(";")]
    found += [f"set{condition} %dl" for condition in CONDITIONS]
    found += [f"j{condition} . + 9" for condition in CONDITIONS]
    found += ["clc", "stc", "cmc", "cld", "std", "cli", "jmp . + 7", "call . + 7"]
    found += ["movzbl %bh, %edx", "movsbl %dl, %ebx", "movswl %dx, %ebx", "movzwl %dx, %ebx"]
    found += ["cbtw", "cwtl", "cwtd", "cltd", "stosb", "stosw", "stosl"]
    memory = {16: "6(%bx)", 32: "6(%ebx, %edx, 4)", 64: "6(%rbx, %r9, 4)"}[bits]
    found += [
        text.format(memory)
        for text in (
            *("addl $5, {}", "movw %cx, {}", "movb {}, %cl", "movl {}, %ecx", "incw {}"),
            *("sarl $3, {}", "cmpl {}, %eax", "orb $1, {}", "negl {}", "setz {}"),
        )
    ]
    if bits == 64:
        found += ["movslq %edx, %rbx", "cltq", "cqto", "stosq", "movabs $0x123456789abcdef0, %rbx"]
        found += ["movabs %al, 0x9234", "movabs 0x9234, %rax"]
        found += [f"pushq {memory}", "pushq $-5", "pushq %r9", "popq %rbx", "ret", "jmp *%rdx"]
        found += [
            "leaq 5(%rip), %rbx",
            *("movb 5(%rip), %cl", "movw 5(%rip), %cx", "movl 5(%rip), %ebx", "movq 5(%rip), %rbx"),
            *("movzbl 5(%rip), %ecx", "movswl 5(%rip), %ecx", "testb $1, 0x25(%rip)"),
            *("movb %cl, -0x80(%rip)", "movw %cx, 0x25(%rip)", "movb $7, 0x25(%rip)"),
            *("movw $0x1234, 0x25(%rip)", "addb %cl, 0x25(%rip)", "incw 0x25(%rip)"),
            *("cmpw $5, -0x80(%rip)", "setz 0x25(%rip)"),
            *("call *%rdx", "pushw %dx", "xorl %edx, %edx"),
        ]
    else:
        found += ["pushl $-5", "pushw %dx", "popl %ebx", "popw %bx", "pushl %esp"]
    if bits == 32:
        found += ["ret", "jmp *%edx", "call *%edx"]
    return found


def system(mode: Mode) -> list[str]:
    """System instructions, locked ones, string instructions and bit tests in memory."""
    bits, wide = mode.bits, "rax" if mode.bits == 64 else "eax"
    memory = {16: "6(%bx)", 32: "6(%ebx)", 64: "6(%rbx)"}[bits]
    sizes = "bwlq" if bits == 64 else "bwl"
    found = [f"mov %{wide}, %cr{n}" for n in (0, 3, 4)]
    found += [f"mov %cr{n}, %{wide}" for n in (0, 3, 4)]
    found += ["lmsw %ax", "rdmsr", "wrmsr", "cpuid", "cli"]
    found += ["nop", "pause", "wbinvd", "lfence", "mfence", "sfence", "endbr64", "hlt"]
    if bits == 64:
        found += [f"lgdt {memory}", f"lidt {memory}"]
    else:
        found += [f"{name}{size} {memory}" for name in ("lgdt", "lidt") for size in "wl"]
    found += [f"mov %ax, %{name}" for name in ("ds", "es", "ss", "fs", "gs")]
    found += [f"mov %{name}, %ax" for name in ("cs", "ds", "es", "ss", "fs", "gs")]
    found += [f"ljmpw *{memory}", f"ljmpl *{memory}"]
    if bits != 64:
        found += ["ljmpw $0x1008, $0x4100", "ljmpl $0x1008, $0x4100"]
    if bits == 32:
        found += ["lretl", "lretw"]
    if bits == 64:
        found += ["lretq", "lretl"]
    if mode is Mode.REAL16:
        found += ["retw", "retl"]
    found += [f"lock cmpxchg{s} {r}, {memory}" for s, r in _registers(sizes)]
    for name in ("bts", "btr", "btc"):
        found += [f"{lock}{name}{s} $3, {memory}" for lock in ("", "lock ") for s in sizes[1:]]
    found += [f"bt{s} $3, {memory}" for s in sizes[1:]]
    if bits != 16:
        found += [f"bt{s} {r}, {memory}" for s, r in _registers(sizes[1:])]
    strings = ("movs",) if bits == 16 else ("stos", "movs")  # no fill through a segment
    found += [f"rep {name}{s}" for name in strings for s in sizes]
    return found


def _registers(sizes: str) -> list[tuple[str, str]]:
    names = {"b": "%cl", "w": "%cx", "l": "%ecx", "q": "%rcx"}
    return [(size, names[size]) for size in sizes]
