# SPDX-License-Identifier: GPL-2.0-only
"""One image on an emulated CPU (unicorn): fixed up, started in real or 64-bit mode, and watched.

Unicorn keeps what the manuals call undefined (upper halves), and does not check CR4.PCIDE and
CR4.CET when CR0 is written.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from ctypes import c_ubyte
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import unicorn
from elftools.elf.elffile import ELFFile
from unicorn import x86_const

from trampoline.assemble import assemble

HERE = Path(__file__).parent
MIB, GIB = 1 << 20, 1 << 30
RAM = 32 * MIB
STUB_BASE, REPORT, REPORT_END = 0x2000, 0x3000, 0x4000  # as in stub.S
TABLES = 24 * MIB
"""The firmware's tables: three pages."""
NOTED = "rsi rsp rflags cr0 cr3 cr4 efer cs ds es ss fs gs gdt_limit gdt_base rip".split()
ENOUGH = 50_000
"""Instructions, each turn of REP counted: more than any image takes. Who still runs, waits."""
PE_PG, PAE, LA57, LME = 0x80000001, 0x20, 0x1000, 0x100
EXTENDED, FEATURES, LONG_MODE = 0x80000000, 0x80000001, 1 << 29
ALL = 0xFFFF_FFFF

Cpuid = Callable[[int], tuple[int, int, int, int]]
"""EAX to EAX, EBX, ECX, EDX."""


@dataclass(frozen=True)
class Linkable:
    """`.text` of one source: bytes, symbols (offset), relocations (offset, type, name, addend)."""

    data: bytes
    symbols: dict[str, int]
    relocations: tuple[tuple[int, int, str, int], ...]

    def at(self, base: int) -> bytes:
        """The bytes for physical address `base`: pa_X is the address of X."""
        symbols, data = {"real_mode_base": 0} | self.symbols, bytearray(self.data)
        for offset, _, name, addend in self.relocations:
            address = base + symbols[name.removeprefix("pa_")] + addend
            struct.pack_into("<I", data, offset, address)
        return bytes(data)


@cache
def linkable(source: Path) -> Linkable:
    """Assemble `source`."""
    with tempfile.TemporaryDirectory(prefix="trampoline-") as work:
        target = Path(work) / "image.o"
        assert assemble(source, target) is None
        elf: Any = ELFFile.load_from_path(str(target))
        try:
            names, text = elf.get_section_by_name(".symtab"), elf.get_section_index(".text")
            found = elf.get_section_by_name(".rela.text")
            relocations = [one.entry for one in found.iter_relocations()] if found else []
            return Linkable(
                elf.get_section(text).data(),
                {s.name: s["st_value"] for s in names.iter_symbols() if s["st_shndx"] == text},
                tuple(
                    (r.r_offset, r.r_info_type, names.get_symbol(r.r_info_sym).name, r.r_addend)
                    for r in relocations
                ),
            )
        finally:
            elf.close()


def shipped(name: str) -> Linkable:
    """The image of the trampoline in folder `name`."""
    return linkable(Path("trampoline") / name / "trampoline.S")


def payload() -> bytes:
    """Position-independent 64-bit code that notes the registers NOTED and halts."""
    stub = linkable(HERE / "stub.S")
    return stub.data[stub.symbols["payload"] : stub.symbols["payload_end"]]


def no_long_mode(highest: int) -> Cpuid:
    """A CPU without long mode whose highest extended leaf is `highest`.

    Of a leaf that does not exist nothing is known, so that one may look like long mode.
    """

    def answer(leaf: int) -> tuple[int, int, int, int]:
        if leaf == EXTENDED:
            return highest, ALL, ALL, ALL
        return ALL, ALL, ALL, ALL & ~LONG_MODE if leaf == FEATURES <= highest else ALL

    return answer


@dataclass
class Machine:
    """A CPU and its memory, which outlives a run: 32 MiB, and 64 KiB at `high` if that is not 0."""

    image: Linkable
    base: int
    high: int = 0
    model: int = x86_const.UC_CPU_X86_ICELAKE_SERVER
    cpuid: Cpuid | None = None
    """None: the model's own."""
    outside: list[int] = field(default_factory=list)
    """Addresses that were written outside the image before the payload ran."""

    def __post_init__(self) -> None:
        """Copy the image to the base."""
        self._memory = {0: bytearray(RAM)}
        if self.high:
            self._memory[self.high] = bytearray(0x10000)
        self.place(self.base, self.image.at(self.base))

    def place(self, address: int, data: bytes) -> None:
        """Put `data` at physical `address`."""
        ram, at = self._ram(address)
        ram[at : at + len(data)] = data

    def put(self, symbol: str, value: int, size: int = 4, offset: int = 0) -> None:
        """Put a word into the image."""
        at = self.base + self.image.symbols[symbol] + offset
        self.place(at, value.to_bytes(size, "little"))

    def read(self, address: int, size: int = 8) -> int:
        """The word at physical `address`; 0 where there is no RAM."""
        ram, at = self._ram(address)
        return int.from_bytes(ram[at : at + size], "little")

    def word(self, symbol: str) -> int:
        """The 4-byte word of the image."""
        return self.read(self.base + self.image.symbols[symbol], 4)

    def map_to_itself(self, top: int, lower: int, levels: int) -> None:
        """Tables for the first 64 GiB, of 1 GiB pages; those below the top one from `lower` on."""
        tables = [top, *(lower + 0x1000 * n for n in range(levels - 3))]
        for table, next_one in pairwise(tables):
            self.place(table, struct.pack("<Q", next_one | 7))
        self.place(tables[-1], b"".join(struct.pack("<Q", gib << 30 | 0x83) for gib in range(64)))

    def walk(self, address: int) -> int | None:
        """What `address` translates to with the CR3 and CR4 that the payload noted."""
        table = self.noted["cr3"] & ~0xFFF
        for shift in (48, 39, 30, 21, 12) if self.noted["cr4"] & LA57 else (39, 30, 21, 12):
            entry = self.read(table + 8 * (address >> shift & 511))
            if not entry & 1:
                return None
            if entry & 0x80 or shift == 12:
                return entry >> shift << shift | address & ((1 << shift) - 1)
            table = entry & 0xF_FFFF_FFFF_F000
        return None

    def start(self, rflags: int = 2) -> str:
        """SIPI at the base: "arrived" at the payload, "parked", "waiting" or "fault"."""
        return self._run(self.base, rflags)

    def enter(self, entry: int, **words: int) -> str:
        """The firmware enters 64-bit code at `entry`. `words`: rsi, rsp, rflags, cr0, cr3, cr4."""
        stub = linkable(HERE / "stub.S")
        code = bytearray(stub.data)
        words = {"rflags": 2, "cr0": PE_PG, "cr3": TABLES, "cr4": PAE, "efer": LME} | words
        for name, value in (words | {"entry": entry}).items():
            struct.pack_into("<Q", code, stub.symbols[f"word_{name}"], value)
        self.place(STUB_BASE, bytes(code))
        return self._run(STUB_BASE, rflags=2)

    @property
    def noted(self) -> dict[str, int]:
        """What the payload found; all 0 if it did not run."""
        found = {name: self.read(REPORT + 8 * n) for n, name in enumerate(NOTED)}
        return found | {"gdt_limit": found["gdt_limit"] >> 48}

    def _ram(self, address: int) -> tuple[bytearray, int]:
        for start, ram in self._memory.items():
            if start <= address < start + len(ram):
                return ram, address - start
        return bytearray(), 0

    def _run(self, start: int, rflags: int) -> str:
        self.place(REPORT, bytes(REPORT_END - REPORT))
        cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
        cpu.ctl_set_cpu_model(self.model)
        for at, ram in self._memory.items():
            shared = (c_ubyte * len(ram)).from_buffer(ram)
            cpu.mem_map_ptr(at, len(ram), unicorn.UC_PROT_ALL, shared)
        cpu.reg_write(x86_const.UC_X86_REG_CS, start >> 4)
        cpu.reg_write(x86_const.UC_X86_REG_EFLAGS, rflags)
        halted: list[int] = []

        def on_code(_: unicorn.Uc, address: int, size: int, user: object) -> None:
            if size == 1 and cpu.mem_read(address, 1) == b"\xf4":
                halted.append(address)
                cpu.emu_stop()

        def on_write(
            _: unicorn.Uc, kind: int, address: int, size: int, value: int, user: object
        ) -> None:
            inside = self.base <= address <= self.base + len(self.image.data) - size
            if not inside and not STUB_BASE <= address < REPORT_END:
                self.outside.append(address)

        def on_cpuid(_: unicorn.Uc, user: object) -> bool:
            assert self.cpuid is not None
            answers = self.cpuid(cpu.reg_read(x86_const.UC_X86_REG_EAX))
            for name, answer in zip(("EAX", "EBX", "ECX", "EDX"), answers, strict=True):
                cpu.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), answer)
            return True

        cpu.hook_add(unicorn.UC_HOOK_CODE, on_code)
        cpu.hook_add(unicorn.UC_HOOK_MEM_WRITE, on_write)
        if self.cpuid is not None:
            cpu.hook_add(unicorn.UC_HOOK_INSN, on_cpuid, aux1=x86_const.UC_X86_INS_CPUID)
        try:
            cpu.emu_start(start, 0, count=ENOUGH)
        except unicorn.UcError:
            return "fault"
        if not halted:
            return "waiting"
        return "arrived" if self.noted["rip"] else "parked"
