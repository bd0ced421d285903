# SPDX-License-Identifier: GPL-2.0-only
"""Images of a few instructions that are entered in 64-bit mode, on page tables of the host's."""

from __future__ import annotations

from pathlib import Path

from harness.x86.execute import execute
from harness.x86.run import EndKind, PathEnd, Run
from trampoline.contract import Contract, load_contract
from trampoline.image import Image, load_image

BASE = 0x20_0000
"""The base of runs that need no symbolic one."""
TABLE = 0x7000
"""The area for a table of the code's own, of one page."""
COPY = 0x9000
"""The area for a copy of what lies between `copied` and `copied_end`."""

CONTRACT = """\
schema = 1
name = "small"
summary = "A test."
image = { source = "small.S", fixups = "pa_" }
base = { lowest = 0x100000, limit = 0x800000 }
kernel = { symbol = "done" }
cpu = { maxphyaddr = [36, 52] }
"""
ENTRY = '[entry]\nsymbol = "begin"\nmode = "long64"\n'
STACK = "[stack]\nbelow_rsp = 64\n"
BOOT_PARAMS = '[boot_params]\nsize = 0x1000\nregister = "rsi"\n'
SCRATCH = '[[scratch]]\nstart = "scratch"\nend = "scratch_end"\nwhy = "A test."\n'
AREA = f'[[area]]\nname = "table"\naddress = {TABLE}\nsize = 0x1000\nwhy = "A test."\n'
COPIED = (
    f'[[area]]\nname = "copy"\naddress = {COPY}\ncopy_of = ["copied", "copied_end"]\n'
    'why = "A test."\n'
)
USUAL = ENTRY + STACK + BOOT_PARAMS + SCRATCH + AREA

SOURCE = """\
#include "x86.h"
#define OFF(symbol) ((symbol) - image)
#define CODE32 0x08
#define CODE64 0x10
#define FLAT 0x18
#define CODE16 0x20
    .code64
image:
%s

done: ud2
    .balign 8
gdt: .quad 0, DESC_CODE32, DESC_CODE64, DESC_DATA, 0x008f9a000000ffff
gdt_end:
gdt_pointer: .short gdt_end - gdt - 1
    .long pa_gdt, 0
    .balign 8
scratch: .skip 64
scratch_end:
%s
    .section .note.GNU-stack, "", @progbits
"""

TO_32 = """
    lgdt gdt_pointer(%rip)
    movl $FLAT, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss
    ljmpl *1f(%rip)
1:  .long pa_code32
    .short CODE32
    .code32
code32:
"""
"""To compatibility mode."""
PAGING_OFF = "movl %cr0, %eax; andl $~CR0_PG, %eax; movl %eax, %cr0\n"
PAGING_ON = "movl %cr0, %eax; orl $CR0_PG, %eax; movl %eax, %cr0\n"
TO_64 = """
    ljmpl $CODE64, $pa_code64
    .code64
code64:
"""


def load(
    folder: Path, code: str, contract: str = USUAL, data: str = "", top: str = CONTRACT
) -> tuple[Contract, Image]:
    """The contract, and the image whose entry is `begin`: the first instruction of the code, unless
    this defines it."""
    code = code if "begin:" in code else f"begin: {code}"
    (folder / "small.S").write_text(SOURCE % (code, data), encoding="utf-8")
    path = folder / "contract.toml"
    path.write_text(top + contract, encoding="utf-8")
    found = load_contract(path)
    return found, load_image(found)


def run(
    folder: Path,
    code: str,
    contract: str = USUAL,
    data: str = "",
    base: int | None = BASE,
    top: str = CONTRACT,
) -> Run:
    """Execute the code at one base, or at all of them if `base` is None."""
    return execute(*load(folder, code, contract, data, top), base)


def ended(result: Run) -> set[str]:
    """The kinds of all ends."""
    assert not result.lost, result.lost
    return {end.kind.name for end in result.ends}


def only(result: Run, kind: EndKind) -> PathEnd:
    """The one end of this kind."""
    (end,) = result.ends_of(kind)
    return end


def begin(code: str) -> str:
    """The code at the entry; it may use the number TABLE, and halts at its end."""
    return f"#define TABLE {TABLE:#x}\nbegin: {code}" + ("" if "hlt" in code else "; hlt")
