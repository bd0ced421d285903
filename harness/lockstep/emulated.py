# SPDX-License-Identifier: GPL-2.0-only
"""An image on unicorn's CPU: its registers before each instruction, and what it writes, in order.

Unicorn is QEMU's CPU as a library. Of its limits these matter here: INIT leaves EDX 0, upper halves
cannot be read once it has begun in real mode, and limits of data segments are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import unicorn
from unicorn import x86_const

PAGE = 0x1000
MAX_STEPS = 60_000
"""Instructions, each turn of a loop counted: more than any image takes."""
MODEL = x86_const.UC_CPU_X86_ICELAKE_SERVER
"""It has long mode, NX, 1 GiB pages and LA57."""
GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
SELECTORS = ("cs", "ds", "es", "fs", "gs", "ss")
CONTROL = ("cr0", "cr3", "cr4")
POINTERS = ("gdtr", "idtr")
_EFER = 0xC000_0080
_READ = {
    **{name: getattr(x86_const, f"UC_X86_REG_E{name[1:].upper()}") for name in GENERAL},
    **{n: getattr(x86_const, f"UC_X86_REG_{n.upper()}") for n in (*SELECTORS, *CONTROL)},
}

Write = tuple[int, int, int]
"""Address, size in bytes, value."""


@dataclass(frozen=True)
class Step:
    """The CPU before an instruction. General registers have 32 bits here: their lower halves.

    `writes`: how many writes lie before it.
    """

    address: int
    registers: dict[str, int]
    writes: int


@dataclass
class Emulation:
    """What the CPU did, up to a halt, a fault, a jump to where nothing is, or MAX_STEPS."""

    steps: list[Step] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)


def emulate(
    base: int, image: bytes, memory: Callable[[int], int], tables: Sequence[range] = ()
) -> Emulation:
    """SIPI at the physical address `base`, where the image lies. `memory`: bytes outside of it;
    `tables`: where page tables lie there, which the CPU reads unseen."""
    cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
    cpu.ctl_set_cpu_model(MODEL)
    done = Emulation()
    mapped: set[int] = set()

    def provide(address: int, size: int) -> None:
        """Pages with what memory holds there."""
        for page in range(address & -PAGE, address + size, PAGE):
            if page not in mapped:
                mapped.add(page)
                cpu.mem_map(page, PAGE)
                cpu.mem_write(page, bytes(memory(page + offset) for offset in range(PAGE)))

    def on_unmapped(_: Any, kind: int, address: int, size: int, *rest: Any) -> bool:
        provide(address, size)
        return True

    def on_code(_: Any, address: int, size: int, user: Any) -> None:
        if done.steps and done.steps[-1].address == address:
            return  # one more turn of a REP, which is one instruction
        registers = dict(zip(_READ, cpu.reg_read_batch(list(_READ.values())), strict=True))
        registers["efer"] = cpu.reg_read(x86_const.UC_X86_REG_MSR, _EFER)
        for name in POINTERS:
            pointer = cpu.reg_read(getattr(x86_const, f"UC_X86_REG_{name.upper()}"))
            registers[f"{name}_base"], registers[f"{name}_limit"] = pointer[1], pointer[2]
        done.steps.append(Step(address, registers, len(done.writes)))
        if len(done.steps) >= MAX_STEPS:
            cpu.emu_stop()

    def on_write(_: Any, kind: int, address: int, size: int, value: int, user: Any) -> None:
        done.writes.append((address, size, value % (1 << 8 * size)))

    for part in (range(base, base + len(image)), *tables):
        provide(part.start, len(part))
    cpu.mem_write(base, image)
    cpu.reg_write(x86_const.UC_X86_REG_CS, base >> 4)
    for name in POINTERS:  # as INIT leaves them (SDM 3A table 9-1)
        cpu.reg_write(getattr(x86_const, f"UC_X86_REG_{name.upper()}"), (0, 0, 0xFFFF, 0))
    cpu.hook_add(unicorn.UC_HOOK_CODE, on_code)
    cpu.hook_add(unicorn.UC_HOOK_MEM_WRITE, on_write)
    cpu.hook_add(
        unicorn.UC_HOOK_MEM_READ_UNMAPPED | unicorn.UC_HOOK_MEM_WRITE_UNMAPPED, on_unmapped
    )
    with suppress(unicorn.UcError):  # a fault; whether it is one of the run's, is compared
        cpu.emu_start(base, 0)
    return done
