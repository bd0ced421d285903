# SPDX-License-Identifier: GPL-2.0-only
"""Source lines of one part of an ELF file, from its DWARF line table (DWARF 5, section 6.2)."""

from __future__ import annotations

from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.constants import SH_FLAGS

Lines = tuple[tuple[int, str, int], ...]


def read_lines(elf: Any, index: int, start: int, end: int) -> Lines:
    """(offset from `start`, source file, line) of each line table row from `start` to `end`.

    `index` is the part's section. Empty without a line table, and where one cannot tell: in an
    object every section starts at 0, so rows say nothing if a second section holds code.
    """
    if elf["e_type"] == "ET_REL" and _other_code(elf, index):
        return ()
    try:
        if not elf.has_dwarf_info():
            return ()
        dwarf = elf.get_dwarf_info(relocate_dwarf_sections=True)
        rows: dict[int, tuple[str, int]] = {}
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            for entry in program.get_entries():
                state = entry.state
                if state is None or state.end_sequence or not start <= state.address < end:
                    continue
                rows[state.address - start] = (file_name(program, state.file), state.line)
    except (ELFError, DWARFError, KeyError, IndexError, ValueError, UnicodeDecodeError):
        return ()  # lines only serve the reader; a broken table is no reason to refuse the image
    return tuple((offset, *rows[offset]) for offset in sorted(rows))


def _other_code(elf: Any, index: int) -> bool:
    """Whether a section other than `index` holds instructions."""
    code = SH_FLAGS.SHF_EXECINSTR
    return any(
        number != index and section["sh_flags"] & code and section["sh_size"]
        for number, section in enumerate(elf.iter_sections())
    )


def file_name(program: Any, number: int) -> str:
    """The base name of a file in the line program's header; numbered from 0 since DWARF 5."""
    files = program["file_entry"]
    position = number if program["version"] >= 5 else number - 1
    name: bytes = files[position].name
    return name.decode("utf-8", "replace").rsplit("/", 1)[-1]
