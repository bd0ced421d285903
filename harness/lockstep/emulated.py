# SPDX-License-Identifier: GPL-2.0-only
"""An image on unicorn's CPU: its registers before each instruction, and what it writes, in order.

Unicorn is QEMU's CPU as a library. Of its limits these matter here: INIT leaves EDX 0, and limits
of data segments are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import unicorn
from unicorn import x86_const

from harness.lockstep import unicorn_cpu
from harness.lockstep.unicorn_cpu import Reader
from harness.qemu.job import Injection
from models.linux_entry import BOOT_CS, BOOT_DS
from models.modes import CR0_ET

PAGE = 0x1000
MAX_STEPS = 60_000
"""Instructions, each turn of a loop counted: more than any image takes."""
INIT_CS = {"selector": 0, "base": 0, "limit": 0xFFFF, "type": 0b0011}
"""Writable data, present, accessed: SDM 3A table 9-1, which gives CS these rights, too."""
FLAT = {"base": 0, "limit": 0xFFFF_FFFF, "s": 1, "dpl": 0, "present": 1}
BOOT_SEGMENTS = {
    "cs": {**FLAT, "selector": BOOT_CS, "type": 0b1011, "long": 1, "big": 0},
    **{
        name: {**FLAT, "selector": BOOT_DS, "type": 0b0011, "long": 0, "big": 1}
        for name in ("ds", "es", "ss")
    },
}
"""Those of the Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst)."""

Write = tuple[int, int, int]
"""Address, size in bytes, value."""


@dataclass(frozen=True)
class Step:
    """The CPU before an instruction.

    `registers`: see `unicorn_cpu.Registers`. Of general registers so many `bits` are right, of
    addresses and control registers `other_bits`. What is not there is not compared, but for those
    that every CPU shows.
    `writes`: how many writes lie before it.
    """

    address: int
    registers: Mapping[str, int]
    writes: int
    bits: int = 32
    other_bits: int = 64


@dataclass
class Emulation:
    """What the CPU did, up to a halt, a fault, a jump to where nothing is, or MAX_STEPS.

    `last`: the CPU where it stopped. `fault`: number of the exception that stopped it (SDM 3A 6.3,
    table 6-1), if one did. `in_vain`: how often the last instruction was begun anew, with nothing
    changed. `shows_writes`: they are seen as they happen. `died`: it shut down, because of an
    exception that is not seen.
    """

    steps: list[Step] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    last: Step | None = None
    fault: int | None = None
    in_vain: int = 0
    shows_writes: bool = True
    died: bool = False


@dataclass(frozen=True)
class Begin:
    """Where and how a CPU begins.

    `address`: the first instruction's, physical, as paging maps it to itself. `registers`: those of
    a 64-bit entry, by name, with CR0, CR3, CR4, EFER and RFLAGS; None after INIT and SIPI, when
    CR0 is `cr0`.
    `later`: what is to be put into general registers on the way, of a 64-bit entry.
    `long_mode`: CPUID says that there is Intel 64.
    """

    address: int
    registers: Mapping[str, int] | None = None
    cr0: int = CR0_ET
    later: Injection | None = None
    long_mode: bool = True


def emulate(
    begin: Begin,
    base: int,
    image: bytes,
    memory: Callable[[int], int],
    tables: Sequence[range] = (),
    until: int = 0,
) -> Emulation:
    """Run an image that lies at the physical address `base`.

    `memory`: bytes outside of it; `tables`: where page tables lie there, which the CPU reads
    unseen. `until`: linear address at which the CPU stops before it executes anything there.
    """
    cpu, done = unicorn_cpu.new_cpu(16 if begin.registers is None else 64), Emulation()
    mapped: set[int] = set()
    visited: set[int] = set()

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
        registers = reader.read()
        later = begin.later
        if later is not None and later.linear == address and address not in visited:
            unicorn_cpu.write(cpu, _changed(later, registers))
            registers = reader.read()
        visited.add(address)
        done.steps.append(Step(address, registers, len(done.writes), 64))
        if len(done.steps) >= MAX_STEPS:
            cpu.emu_stop()

    def on_write(_: Any, kind: int, address: int, size: int, value: int, user: Any) -> None:
        done.writes.append((address, size, value % (1 << 8 * size)))

    def on_exception(_: Any, number: int, user: Any) -> None:
        done.fault = number
        cpu.emu_stop()

    for part in (range(base, base + len(image)), *tables):
        provide(part.start, len(part))
    cpu.mem_write(base, image)
    _set_up(cpu, begin)
    reader = Reader(cpu)
    cpu.hook_add(unicorn.UC_HOOK_CODE, on_code)
    cpu.hook_add(unicorn.UC_HOOK_MEM_WRITE, on_write)
    cpu.hook_add(unicorn.UC_HOOK_INTR, on_exception)
    if not begin.long_mode:
        hook, cpuid = unicorn.UC_HOOK_INSN, x86_const.UC_X86_INS_CPUID
        cpu.hook_add(hook, _without_long_mode, aux1=cpuid)
    cpu.hook_add(
        unicorn.UC_HOOK_MEM_READ_UNMAPPED | unicorn.UC_HOOK_MEM_WRITE_UNMAPPED, on_unmapped
    )
    with suppress(unicorn.UcError):  # a fault; whether it is one of the run's, is compared
        cpu.emu_start(begin.address, until)
    registers = reader.read()
    done.last = Step(unicorn_cpu.linear_ip(registers), registers, len(done.writes), 64)
    return done


def _without_long_mode(cpu: unicorn.Uc, _: Any) -> bool:
    """CPUID of a CPU that has all but EDX.LM[29] of leaf 80000001H."""
    leaf = cpu.reg_read(x86_const.UC_X86_REG_EAX)
    found = dict(unicorn_cpu.cpuid().get(leaf, dict.fromkeys(("rax", "rbx", "rcx", "rdx"), 0)))
    if leaf == 0x8000_0001:
        found["rdx"] &= ~(1 << 29)
    unicorn_cpu.write(cpu, found)
    return True  # not to be executed


def _changed(later: Injection, registers: Mapping[str, int]) -> dict[str, int]:
    halves = later.upper_halves.items()
    lower = {name: registers[name] & 0xFFFF_FFFF for name, _ in halves}
    return {**later.registers, **{name: half << 32 | lower[name] for name, half in halves}}


def _set_up(cpu: unicorn.Uc, begin: Begin) -> None:
    """The state after INIT and SIPI, or that of a 64-bit entry."""
    for name in ("gdtr", "idtr"):  # as INIT leaves them (SDM 3A table 9-1)
        unicorn_cpu.load_pointer(cpu, name, 0, 0xFFFF)
    if begin.registers is None:
        unicorn_cpu.write(cpu, {"cr0": begin.cr0})
        cs = {**INIT_CS, "selector": begin.address >> 4, "base": begin.address}
        unicorn_cpu.load_segments(cpu, {"cs": cs})
        return
    given = dict(begin.registers)
    for name in ("efer", "cr4", "cr3", "cr0"):  # paging comes last
        unicorn_cpu.write(cpu, {name: given.pop(name)})
    given.pop("rip", None)
    unicorn_cpu.write(cpu, given)
    unicorn_cpu.load_segments(cpu, BOOT_SEGMENTS)
