# SPDX-License-Identifier: GPL-2.0-only
"""Builds the guest: the host's object as it was proved, linked with the platform that it needs."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.qemu.firmware import AssemblerMissing
from harness.qemu.protocol import HERE
from trampoline.host_object import HOST_FOLDER, HostObject

SOURCES = ("entry.S", "wires.S", "payload.S", "guest.c")
FOLDER = Path(__file__).parent / "guest"
LINKED_AT = 0x100_0000
"""The guest's physical address, 16 MiB. Host code may be linked below 2 GiB only: it is not PIC."""

_FLAGS = (
    *("-m64", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding"),
    *("-fno-pic", "-no-pie", "-mno-red-zone", "-mgeneral-regs-only", "-fno-stack-protector"),
    *("-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-static", "-nostdlib"),
    *("-Wl,--build-id=none", f"-Wl,-Ttext={LINKED_AT:#x}", "-Wl,-e,start", "-Wl,-z,noexecstack"),
    *("-Wl,-N",),  # one segment, code and data together: the tables map all as writable anyway
)


@dataclass(frozen=True)
class Guest:
    """What is put into RAM before CPU 0 enters it. `symbols`: physical addresses.

    `text`: where the host object's .text lies.
    """

    parts: tuple[tuple[int, bytes], ...]
    symbols: dict[str, int]
    text: int
    end: int


def build(host: HostObject) -> Guest:
    """Link the guest around `host`. Raises AssemblerMissing; other failures are RuntimeErrors."""
    with tempfile.TemporaryDirectory(prefix="guest-") as work:
        binary, target = Path(work) / "host.o", Path(work) / "guest.elf"
        binary.write_bytes(host.elf)
        includes = ("-I", str(HOST_FOLDER / "include"), "-I", str(HERE))
        sources = [str(FOLDER / name) for name in SOURCES]
        try:
            done = subprocess.run(
                ["gcc", *_FLAGS, *includes, *sources, str(binary), "-o", str(target)],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise AssemblerMissing("gcc not found; install Debian's gcc and binutils") from None
        if done.returncode:
            raise RuntimeError(f"the guest of {host.name} cannot be linked:\n{done.stderr}")
        return _read(target.read_bytes(), host)


def _read(data: bytes, host: HostObject) -> Guest:
    elf = ELFFile(BytesIO(data))
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols = {symbol.name: int(symbol["st_value"]) for symbol in table.iter_symbols()}
    segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    return Guest(
        parts=tuple((int(s["p_paddr"]), bytes(s.data())) for s in segments),
        symbols=symbols,
        text=symbols["multikernel_kick"] - host.functions["multikernel_kick"],
        end=max(int(s["p_paddr"] + s["p_memsz"]) for s in segments),
    )
