# SPDX-License-Identifier: GPL-2.0-only
"""Calls that the compiler inlined, from an ELF object's debug information (DWARF 5, 3.3.8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.ranges import BaseAddressEntry

from trampoline.elf_lines import file_name


@dataclass(frozen=True)
class Inlined:
    """The bytes [start, end) of .text stem from a call in `file`, `line`. Calls nest: `depth`."""

    start: int
    end: int
    depth: int
    file: str
    line: int


def read_inlined(elf: Any) -> tuple[Inlined, ...]:
    """All of them, the outermost first."""
    dwarf = elf.get_dwarf_info(relocate_dwarf_sections=True)
    found: list[Inlined] = []
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        todo = [(unit.get_top_DIE(), 0)]
        while todo:
            entry, depth = todo.pop()
            if entry.tag == "DW_TAG_inlined_subroutine":
                called = entry.attributes
                file = file_name(program, called["DW_AT_call_file"].value)
                line = called["DW_AT_call_line"].value
                parts = _parts(dwarf, unit, entry)
                found += [Inlined(start, end, depth, file, line) for start, end in parts]
                depth += 1
            todo += [(child, depth) for child in entry.iter_children()]
    return tuple(sorted(found, key=lambda one: one.depth))


def _parts(dwarf: Any, unit: Any, entry: Any) -> Iterator[tuple[int, int]]:
    """The address ranges of an entry (DWARF 5, 2.17)."""
    attributes = entry.attributes
    if "DW_AT_ranges" in attributes:
        offset = attributes["DW_AT_ranges"].value
        first = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        base = first.value if first is not None else 0
        for part in dwarf.range_lists().get_range_list_at_offset(offset, cu=unit):
            if isinstance(part, BaseAddressEntry):
                base = part.base_address
            else:
                added = 0 if getattr(part, "is_absolute", False) else base
                yield added + part.begin_offset, added + part.end_offset
    elif "DW_AT_low_pc" in attributes:
        start, end = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
        yield start, end.value + (0 if describe_form_class(end.form) == "address" else start)
