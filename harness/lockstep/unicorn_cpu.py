# SPDX-License-Identifier: GPL-2.0-only
"""All registers of unicorn's CPU, hidden segment state included, read and written at once.

Unicorn's register calls show 32 bits of general registers outside of its 64-bit mode, and no hidden
part but the bases of FS and GS. A saved context holds all of it: the CPU's own record, in whose
first part these fields lie one behind the other. Where it begins is looked for, not taken for
granted; a unicorn in which the fields lie otherwise is refused.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from functools import cache

import unicorn
from unicorn import x86_const

from harness.lockstep.lazy import LazyRegisters
from harness.lockstep.state import State
from models.modes import (
    CR0_PE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    GENERAL_REGISTERS,
    IA32_EFER,
    RFLAGS_FIXED,
)
from trampoline.errors import UserError

MODEL = x86_const.UC_CPU_X86_ICELAKE_SERVER
"""It has long mode, NX, 1 GiB pages and LA57."""
NAME = f"unicorn {unicorn.__version__}"
PHYS_BITS = 40
"""MAXPHYADDR that its CPUID tells."""
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
SELECTORS = ("cs", "ds", "es", "fs", "gs", "ss")
HIDDEN = {"type": (8, 4), "s": (12, 1), "dpl": (13, 2), "present": (15, 1), "long": (21, 1)} | {
    "big": (22, 1)
}
"""Field of a segment's rights to its lowest bit and width, as in a descriptor's upper half (SDM 3A
3.4.5, figure 3-8)."""
_UNICORN_MODES = {
    16: unicorn.UC_MODE_16,
    32: unicorn.UC_MODE_32,
    64: unicorn.UC_MODE_64,
}
# From the first general register on: 16 of them, 56 bytes (RIP and what flags are made of), ES to
# GS, LDTR, TR, GDTR and IDTR (24 bytes each), CR0 to CR4.
_GENERAL = struct.Struct("<16Q")
_SEGMENT = struct.Struct("<IxxxxQII")
_RIP, _FIRST_SEGMENT, _GDTR, _CONTROL, _SIZE = 128, 184, 376, 424, 464


def new_cpu(bits: int) -> unicorn.Uc:
    """A CPU in code of 16 bits (real mode), 32 or 64 bits, without paging."""
    cpu = unicorn.Uc(unicorn.UC_ARCH_X86, _UNICORN_MODES[bits])
    cpu.ctl_set_cpu_model(MODEL)
    return cpu


@cache
def _start() -> int:
    """Where the first general register lies in a context. Raises UserError."""
    cpu = new_cpu(16)
    marks = [0x1357_0000 + n for n in range(8)]
    for name, mark in zip(GENERAL_REGISTERS, marks, strict=False):
        cpu.reg_write(_number(f"e{name[1:]}"), mark)
    for number, name in enumerate(SEGMENTS):
        cpu.reg_write(_number(name), 0x1000 + number)
    cpu.reg_write(x86_const.UC_X86_REG_CR3, 0x5000)
    cpu.reg_write(x86_const.UC_X86_REG_GDTR, (0, 0x1234_5678, 0x77, 0))
    raw = bytes(cpu.context_save())
    found = raw.find(struct.pack("<8Q", *marks))
    segments = [(0x1000 + n, (0x1000 + n) << 4) for n in range(len(SEGMENTS))]
    if found < 0 or len(raw) < found + _SIZE:
        at = []
    else:
        part = raw[found : found + _SIZE]
        at = [_SEGMENT.unpack_from(part, _FIRST_SEGMENT + 24 * n)[:2] for n in range(6)]
    if at != segments or _pointer(part, 0) != (0x1234_5678, 0x77) or _control(part)[3] != 0x5000:
        raise UserError(
            f"unicorn {unicorn.__version__} keeps its CPU's registers in another order than "
            "harness/lockstep/unicorn_cpu.py knows; install the version in requirements.lock."
        )
    return found


@cache
def _efer() -> int:
    """Where EFER lies in a context: WRMSR does not write LMA. Raises UserError."""
    cpu, seen = new_cpu(64), []
    values = (EFER_LME, EFER_LME | EFER_NXE | EFER_SCE)
    for value in values:
        cpu.reg_write(x86_const.UC_X86_REG_MSR, (IA32_EFER, value))
        seen.append(bytes(cpu.context_save()))
    first, second = (struct.pack("<Q", EFER_LMA | value) for value in values)
    places = [
        at
        for at in range(_start(), len(seen[0]) - 7)
        if seen[0][at : at + 8] == first and seen[1][at : at + 8] == second
    ]
    if len(places) != 1:
        raise UserError(
            f"unicorn {unicorn.__version__} keeps EFER in a way that "
            "harness/lockstep/unicorn_cpu.py does not know; install the version in "
            "requirements.lock."
        )
    return places[0]


def _number(name: str) -> int:
    number: int = getattr(x86_const, f"UC_X86_REG_{name.upper()}")
    return number


def _pointer(part: bytes, index: int) -> tuple[int, int]:
    _, base, limit, _ = _SEGMENT.unpack_from(part, _GDTR + 24 * index)
    return base, limit


def _control(part: bytes) -> tuple[int, ...]:
    return struct.unpack_from("<5Q", part, _CONTROL)


class Registers(LazyRegisters):
    """Registers by name, worked out when somebody looks: of most steps nobody does.

    Of each segment register the selector (`cs`) and the hidden part (`cs_base`, `cs_limit` and
    HIDDEN); general registers with 64 bits; `rip` (the offset in CS); `rflags`, `cr0`, `cr2` to
    `cr4`, `efer`, base and limit of GDTR and IDTR.
    """

    __slots__ = ("_efer", "_part", "_rflags")

    def __init__(self, part: bytes, rflags: int, efer: int) -> None:
        super().__init__()
        self._part, self._rflags, self._efer = part, rflags, efer

    def _work_out(self) -> dict[str, int]:
        return dict(self._unpacked())

    def _unpacked(self) -> Iterator[tuple[str, int]]:
        part = self._part
        yield from zip(GENERAL_REGISTERS, _GENERAL.unpack_from(part), strict=True)
        yield "rip", struct.unpack_from("<Q", part, _RIP)[0]
        yield "rflags", self._rflags
        yield "efer", self._efer
        for number, name in enumerate(SEGMENTS):
            selector, base, limit, rights = _SEGMENT.unpack_from(part, _FIRST_SEGMENT + 24 * number)
            yield from ((name, selector), (f"{name}_base", base), (f"{name}_limit", limit))
            for field, (low, width) in HIDDEN.items():
                yield f"{name}_{field}", rights >> low & (1 << width) - 1
        for number, name in enumerate(("gdtr", "idtr")):
            base, limit = _pointer(part, number)
            yield from ((f"{name}_base", base), (f"{name}_limit", limit))
        cr0, _, cr2, cr3, cr4 = _control(part)
        yield from (("cr0", cr0), ("cr2", cr2), ("cr3", cr3), ("cr4", cr4))


class Reader:
    """Reads the registers of one CPU, also from within a hook."""

    def __init__(self, cpu: unicorn.Uc) -> None:
        self._cpu, self._context = cpu, cpu.context_save()
        self._address = self._context.context.value + _start()

    def read(self) -> Registers:
        """All registers as they are now."""
        cpu = self._cpu
        cpu.context_update(self._context)
        part = ctypes.string_at(self._address, _SIZE)
        efer = cpu.reg_read(x86_const.UC_X86_REG_MSR, IA32_EFER)
        return Registers(part, cpu.reg_read(x86_const.UC_X86_REG_EFLAGS), efer)


def load_segments(cpu: unicorn.Uc, segments: Mapping[str, Mapping[str, int]]) -> None:
    """Give segment registers a selector and a hidden part: `selector`, `base`, `limit`, HIDDEN.

    Fields that are not named stay. The code size that the CPU was made with stays, too.
    """
    context = cpu.context_save()
    start = context.context.value + _start() + _FIRST_SEGMENT
    for name, fields in segments.items():
        at = start + 24 * SEGMENTS.index(name)
        old = _SEGMENT.unpack(ctypes.string_at(at, _SEGMENT.size))
        selector, base, limit, rights = old
        for field, (low, width) in HIDDEN.items():
            if field in fields:
                rights = rights & ~((1 << width) - 1 << low) | fields[field] << low
        selector = fields.get("selector", selector)
        new = _SEGMENT.pack(selector, fields.get("base", base), fields.get("limit", limit), rights)
        ctypes.memmove(at, new, len(new))
    cpu.context_restore(context)


def write(cpu: unicorn.Uc, registers: Mapping[str, int]) -> None:
    """Set registers by name, in the order given: general ones, rflags, control, EFER, GDTR, IDTR.

    Outside of unicorn's 64-bit mode general registers get their lower halves only.
    """
    wide = cpu.query(unicorn.UC_QUERY_MODE) == unicorn.UC_MODE_64
    for name, value in registers.items():
        if name == "efer":
            cpu.reg_write(x86_const.UC_X86_REG_MSR, (IA32_EFER, value))
        elif name in ("gdtr", "idtr"):
            raise ValueError(name)
        elif name in GENERAL_REGISTERS and not wide:
            if name in GENERAL_REGISTERS[:8]:
                cpu.reg_write(_number(f"e{name[1:]}"), value & 0xFFFF_FFFF)
        else:
            cpu.reg_write(_number("eflags" if name == "rflags" else name), value)


def load_pointer(cpu: unicorn.Uc, name: str, base: int, limit: int) -> None:
    """Set GDTR or IDTR."""
    cpu.reg_write(_number(name), (0, base, limit, 0))


def linear_ip(registers: Mapping[str, int]) -> int:
    """The linear address of the next instruction."""
    long = registers["cs_long"] and registers["efer"] & EFER_LMA
    return registers["rip"] + (0 if long else registers["cs_base"])


_PE, _CS32, _SS32, _ADDSEG, _LMA, _CS64 = (1 << bit for bit in (7, 4, 5, 6, 14, 15))
"""Bits of QEMU's summary of what decides how code is translated; it keeps them beside the rest."""
_REST = struct.Struct("<3QIi2I")
"""What QEMU makes flags of while it runs, behind RIP and EFLAGS, and that summary."""


def put(cpu: unicorn.Uc, fresh: unicorn.UcContext, state: State) -> None:
    """Put a CPU that was made for 64-bit code into a state, whatever its mode.

    `fresh`: its context before it executed anything; an exception leaves traces that make a double
    fault of the next one.
    """
    segments = {name: state.segments[name] for name in SEGMENTS}
    packed = [_GENERAL.pack(*(state.registers[name] for name in GENERAL_REGISTERS))]
    packed.append(struct.pack("<2Q", state.ip, state.rflags | RFLAGS_FIXED))
    packed.append(_REST.pack(0, 0, 0, 1, 1, _summary(state), 1))
    for one in segments.values():
        rights = sum(one[field] << low for field, (low, _) in HIDDEN.items())
        packed.append(_SEGMENT.pack(one["selector"], one["base"], one["limit"], rights))
    packed.append(bytes(2 * _SEGMENT.size))
    for base, limit in (state.gdtr, state.idtr):
        packed.append(_SEGMENT.pack(0, base, limit, 0))
    packed.append(struct.pack("<5Q", state.cr0, 0, 0, state.cr3, state.cr4))
    ctypes.memmove(fresh.context.value + _efer(), struct.pack("<Q", state.efer), 8)
    data = b"".join(packed)
    assert len(data) == _SIZE
    ctypes.memmove(fresh.context.value + _start(), data, len(data))
    cpu.context_restore(fresh)
    cpu.ctl(unicorn.UC_CTL_TLB_FLUSH, unicorn.UC_CTL_IO_WRITE)


def _summary(state: State) -> int:
    cs, ss = state.segments["cs"], state.segments["ss"]
    flags = _PE if state.cr0 & CR0_PE else 0
    if state.efer & EFER_LMA:
        flags |= _LMA
        if cs["long"]:
            return flags | _CS64 | _CS32 | _SS32
    flags |= (_CS32 if cs["big"] else 0) | (_SS32 if ss["big"] else 0)
    flat = cs["big"] and not any(state.segments[name]["base"] for name in ("ds", "es", "ss"))
    return flags if flat and state.cr0 & CR0_PE else flags | _ADDSEG


@cache
def cpuid() -> dict[int, dict[str, int]]:
    """What CPUID gives for the leaves that matter here."""
    cpu, found = new_cpu(32), {}
    cpu.mem_map(0x1000, 0x1000)
    cpu.mem_write(0x1000, b"\x0f\xa2")
    reader = Reader(cpu)
    for leaf in (0, 1, 7, 0x8000_0000, 0x8000_0001, 0x8000_0008):
        write(cpu, {"rax": leaf, "rcx": 0})
        cpu.emu_start(0x1000, 0x1002)
        registers = reader.read()
        found[leaf] = {name: registers[name] for name in ("rax", "rbx", "rcx", "rdx")}
    return found
