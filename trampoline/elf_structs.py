# SPDX-License-Identifier: GPL-2.0-only
"""Layouts of the C structures in an ELF object, from its debug information (DWARF 5, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Struct:
    """A structure of `size` bytes. `members`: name to (offset, size), both in bytes."""

    size: int
    members: dict[str, tuple[int, int]]


def read_structs(elf: Any) -> dict[str, Struct]:
    """The named structures that are complete in some part of `elf`."""
    found: dict[str, Struct] = {}
    dwarf = elf.get_dwarf_info(relocate_dwarf_sections=True)
    for unit in dwarf.iter_CUs():
        for entry in unit.iter_DIEs():
            if entry.tag == "DW_TAG_structure_type" and "DW_AT_byte_size" in entry.attributes:
                name = _name(entry)
                if name is not None:
                    found[name] = Struct(entry.attributes["DW_AT_byte_size"].value, _members(entry))
    return found


def _members(entry: Any) -> dict[str, tuple[int, int]]:
    members = {}
    for child in entry.iter_children():
        name = _name(child)
        if child.tag == "DW_TAG_member" and name is not None:
            offset = child.attributes["DW_AT_data_member_location"].value
            members[name] = (offset, _size(child.get_DIE_from_attribute("DW_AT_type")))
    return members


def _name(entry: Any) -> str | None:
    attribute = entry.attributes.get("DW_AT_name")
    return None if attribute is None else attribute.value.decode()


def _size(kind: Any) -> int:
    """Bytes of an object of a type; qualifiers and typedefs have that of what they name."""
    size = 1
    if kind.tag == "DW_TAG_array_type":
        for child in kind.iter_children():
            size *= child.attributes["DW_AT_upper_bound"].value + 1
    elif "DW_AT_byte_size" in kind.attributes:
        return int(kind.attributes["DW_AT_byte_size"].value)
    return size * _size(kind.get_DIE_from_attribute("DW_AT_type"))
