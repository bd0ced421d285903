# SPDX-License-Identifier: GPL-2.0-only
"""Assembles the host image and the payload from source, leaving nothing on disk."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.qemu.protocol import HERE, P
from trampoline.errors import UserError


class AssemblerMissing(UserError):
    """There is no `gcc` to assemble the host image with."""


@dataclass(frozen=True)
class Flat:
    """Machine code without relocations: `.text` of one source and its labels (byte offsets)."""

    code: bytes
    labels: dict[str, int]


@cache
def assemble(source: Path) -> Flat:
    """Assemble `source` with gcc (cpp and GNU as).

    Raises AssemblerMissing; a source of ours that does not assemble is a RuntimeError.
    """
    # The object goes to anonymous memory: even a killed process leaves no temporary file.
    out = os.memfd_create("object")
    try:
        done = subprocess.run(
            ["gcc", "-c", "-pipe", "-o", f"/proc/self/fd/{out}", str(source)],
            pass_fds=[out],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{source.name} does not assemble:\n{done.stderr}")
        elf = ELFFile(BytesIO(os.pread(out, os.fstat(out).st_size, 0)))
    except FileNotFoundError:
        raise AssemblerMissing("gcc not found; install Debian's gcc and binutils") from None
    finally:
        os.close(out)
    text, symbols = elf.get_section_by_name(".text"), elf.get_section_by_name(".symtab")
    if elf.get_section_by_name(".rela.text") is not None or text is None:
        raise RuntimeError(f"{source.name}: .text is missing or needs relocations")
    labels = symbols.iter_symbols() if isinstance(symbols, SymbolTableSection) else ()
    return Flat(
        code=bytes(text.data()),
        labels={label.name: int(label["st_value"]) for label in labels if label.name},
    )


def rom() -> bytes:
    """Return the host image: ROM_SIZE bytes that end at 4 GiB, the reset vector in the last 16."""
    code = assemble(HERE / "firmware.S").code
    if len(code) != P["ROM_SIZE"]:
        raise RuntimeError(f"firmware.S gives {len(code)} bytes, not {P['ROM_SIZE']}")
    return code


def payload(sequence: int) -> bytes:
    """Return the payload of job number `sequence` (64 bits, from 1 up)."""
    flat = assemble(HERE / "payload.S")
    code = bytearray(flat.code)
    code[flat.labels["arrival"]] = arrival_byte(sequence)
    number = flat.labels["sequence"]
    code[number : number + 8] = sequence.to_bytes(8, "little")
    return bytes(code)


def arrival_byte(sequence: int) -> int:
    """Return what that job's payload writes to the CMOS: 1..254, neither none nor WRONG_MODE."""
    return 1 + sequence % 254
