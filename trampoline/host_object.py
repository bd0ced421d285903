# SPDX-License-Identifier: GPL-2.0-only
"""The host's side as machine code: C sources, compiled into one ELF object that needs a platform.

The object calls nothing but the functions of host/include/platform.h. Whoever runs it provides
these: a proof by rules, a machine by code.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from trampoline.assemble import INCLUDE_FOLDER
from trampoline.constants import read_constants
from trampoline.contract import Contract
from trampoline.elf_calls import Inlined, read_inlined
from trampoline.elf_lines import read_lines
from trampoline.elf_structs import Struct, read_structs
from trampoline.errors import UserError

HOST_FOLDER = Path(__file__).parent / "host"

FUNCTIONS = (
    *("multikernel_setup", "multikernel_load", "multikernel_kick", "multikernel_wait"),
    *("load_segment", "load_piece"),
    *("check_segments", "check_nth", "check_segment", "check_apart"),
)
"""What each host must define: host/include/host.h."""

STRUCTS = ("trampoline", "area", "segment", "image", "host", "progress")
"""What its debug information must describe."""

_FLAGS = (
    *("-m64", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-pic", "-fno-pie", "-mno-red-zone", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
    # No call to memset that the source does not show, no jump through a table, one code section.
    *("-fno-tree-loop-distribute-patterns", "-fno-jump-tables"),
    "-fno-reorder-blocks-and-partition",
    # Calls keep to the ABI also inside the object, so that a function can be proved by itself.
    "-fno-ipa-ra",
    *("-r", "-nostdlib"),  # several sources, one relocatable object
)


class HostError(UserError):
    """The host's object cannot be built, or lacks what its header promises."""


@dataclass(frozen=True)
class HostObject:
    """One host. `elf`: the ELF object's bytes. `functions`: name to offset in .text.

    `platform`: names of the functions that it calls and does not define. `lines`: (offset in
    .text, source file, line), ascending. `inlined`: calls that are no calls any more.
    `constants`: macros of host.h, platform.h and multikernel.h.
    """

    name: str
    elf: bytes
    functions: dict[str, int]
    platform: frozenset[str]
    structs: dict[str, Struct]
    lines: tuple[tuple[int, str, int], ...]
    inlined: tuple[Inlined, ...]
    constants: dict[str, int]

    def source_of(self, offset: int) -> str:
        """file:line of the instruction at an offset in .text: in a header's function, of its
        call."""
        at = [f"{file}:{line}" for start, file, line in self.lines if start <= offset][-1:]
        calls = [one for one in self.inlined if one.start <= offset < one.end]
        for call in reversed(calls):
            if at and not at[0].split(":")[0].endswith(".h"):
                break
            at = [f"{call.file}:{call.line}"]
        return at[0] if at else ""

    @property
    def text(self) -> bytes:
        """The code: .text, with nothing relocated."""
        section = ELFFile(io.BytesIO(self.elf)).get_section_by_name(".text")
        assert section is not None  # read_host has looked
        return bytes(section.data())


def compile_host(folder: Path, target: Path) -> str | None:
    """Compile the host in `folder`, with what it shares with others beside it, into `target`.

    Returns None, or the one sentence that says why there is no object.
    """
    sources = sorted(folder.glob("*.c"))
    if not sources:
        return f"{folder}: holds no C source; name the folder of a host."
    for tool, package in (("gcc", "gcc"), ("ld", "binutils")):
        if shutil.which(tool) is None:
            return f"{folder}: cannot be compiled without {tool}; install the package {package}."
    sources += sorted(folder.parent.glob("*.c"))
    includes = ("-I", str(folder.parent / "include"), "-I", str(INCLUDE_FOLDER))
    done = subprocess.run(
        ["gcc", *_FLAGS, *includes, *map(str, sources), "-o", str(target)],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )
    if done.returncode == 0:
        return None
    errors = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
    problem = (errors or ["gcc failed without a message"])[0].rstrip(".")
    return f"{folder}: does not compile; mend this first: {problem}."


def host_of(contract: Contract) -> HostObject:
    """The host that a contract names. Raises HostError."""
    if contract.host is None:
        raise HostError(f"{contract.path}: has no [host]; name the folder of its host's C sources.")
    try:
        return load_host(contract.path.parent / contract.host.source)
    except HostError as error:
        raise HostError(f"{contract.path}: [host] source: {error}") from None


def load_host(folder: Path) -> HostObject:
    """Compile the host in `folder` and check what came out. Raises HostError."""
    with tempfile.TemporaryDirectory(prefix="host-") as work:
        target = Path(work) / "host.o"
        if (problem := compile_host(folder, target)) is not None:
            raise HostError(problem)
        return read_host(target, folder)


def read_host(path: Path, folder: Path) -> HostObject:
    """The host's object in the file `path`, compiled from `folder`. Raises HostError."""
    try:
        data = path.read_bytes()
        elf = ELFFile(io.BytesIO(data))
        if elf["e_machine"] != "EM_X86_64" or elf["e_type"] != "ET_REL":
            raise HostError(f"{path}: not a relocatable object for x86-64; compile it with gcc -r.")
        text = elf.get_section_index(".text")
        if text is None:
            raise HostError(f"{path}: has no section .text; compile the host's functions into it.")
        for section in elf.iter_sections():
            # What it keeps from call to call must be in struct host, where the proofs look for it.
            writable = section["sh_flags"] & SH_FLAGS.SHF_WRITE and section["sh_size"]
            if writable and section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                raise HostError(
                    f"{path}: has variables of its own ({section.name}); keep what must last in "
                    "struct host."
                )
        functions, platform = _symbols(elf, text)
        if not elf.has_dwarf_info():
            raise HostError(f"{path}: has no debug information; compile it with -g.")
        structs = read_structs(elf)
        lines = read_lines(elf, text, 0, elf.get_section(text)["sh_size"])
        inlined = read_inlined(elf)
    except OSError as error:
        raise HostError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ELFError, DWARFError, KeyError, ValueError) as error:
        problem = f"not a readable ELF file with debug information ({error or 'truncated'})"
        raise HostError(f"{path}: {problem}; compile it with gcc -g.") from None
    for name in FUNCTIONS:
        if name not in functions:
            raise HostError(f"{path}: has no function {name}; host.h says what a host defines.")
    for name in STRUCTS:
        if name not in structs:
            raise HostError(f"{path}: does not describe struct {name}; include host.h.")
    constants = read_constants(folder.parent / "include" / "host.h")
    constants |= read_constants(folder.parent / "include" / "platform.h")
    constants |= read_constants(INCLUDE_FOLDER / "multikernel.h")
    return HostObject(folder.name, data, functions, platform, structs, lines, inlined, constants)


def _symbols(elf: Any, text: int) -> tuple[dict[str, int], frozenset[str]]:
    """Functions in section `text` by name, and names that are used but not defined."""
    functions, missing = {}, set()
    for section in elf.iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        for symbol in section.iter_symbols():
            if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name:
                missing.add(symbol.name)
            elif symbol["st_shndx"] == text and symbol["st_info"]["type"] == "STT_FUNC":
                functions[symbol.name] = symbol["st_value"]
    return functions, frozenset(missing)
