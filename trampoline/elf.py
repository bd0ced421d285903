# SPDX-License-Identifier: GPL-2.0-only
"""One part of an ELF file as bytes, symbols and source lines; reads objects and executables.

Source of the format: System V ABI, chapters 4 and 5, and its AMD64 and i386 supplements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection, RelrRelocationSection
from elftools.elf.sections import Section, SymbolTableSection

from trampoline.elf_lines import read_lines

_MACHINES = ("EM_386", "EM_X86_64")
_ABSOLUTE_32 = (10, 11)
"""R_X86_64_32 and R_X86_64_32S (AMD64 supplement, table "Relocation Types")."""


@dataclass(frozen=True)
class Part:
    """A range of an ELF file's bytes.

    `symbols`: name to offset in bytes from the part's start. `ambiguous`: names with more than
    one offset, none of them global. `lines`: (offset, file, line), ascending. `fixups`: offset of
    a 4-byte word to the offset whose physical address somebody fills in there.
    """

    data: bytes
    symbols: dict[str, int]
    ambiguous: frozenset[str]
    lines: tuple[tuple[int, str, int], ...]
    fixups: dict[int, int] = field(default_factory=dict)


@dataclass
class _Symbols:
    """Symbols as (value, section index), by name; a global one hides local ones."""

    strong: dict[str, set[tuple[int, Any]]] = field(default_factory=dict)
    local: dict[str, set[tuple[int, Any]]] = field(default_factory=dict)

    def places(self, name: str) -> set[tuple[int, Any]]:
        return self.strong.get(name) or self.local.get(name, set())


class _Unfit(Exception):
    """The file has no such part; str() is the sentence without the file's name."""


def read_part(
    path: Path, section: str, symbols: tuple[str, str] | None, fixups: str | None = None
) -> Part | str:
    """The part of the ELF file `path` that is `section`, or lies between the two `symbols`.

    `fixups`: relocations against undefined symbols with this prefix are for the host to apply; the
    symbol without it is in the part. Returns the sentence (without the file's name) that says why
    there is no such part.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        return f"cannot be read ({error.strerror}); name the ELF file in [image] object."
    with stream:
        try:
            return _read(ELFFile(stream), section, symbols, fixups)
        except _Unfit as error:
            return str(error)
        except (ELFError, UnicodeDecodeError, ValueError, KeyError, IndexError) as error:
            return f"not a readable ELF file ({error or 'truncated'}); name one made for x86."


def defined_names(path: Path) -> frozenset[str]:
    """The symbols that an ELF file, which can be read, defines."""
    with path.open("rb") as stream:
        table = _symbols(ELFFile(stream))
    return frozenset(table.local | table.strong)


def _read(elf: Any, section_name: str, symbols: tuple[str, str] | None, prefix: str | None) -> Part:
    machine = elf["e_machine"]
    if machine not in _MACHINES:
        raise _Unfit(f"made for {machine}, not for x86; give an object for EM_386 or EM_X86_64.")
    if not elf.little_endian:
        raise _Unfit("big-endian; give an x86 object, which is little-endian.")
    table = _symbols(elf)
    if symbols is None:
        section, index = _section_named(elf, section_name)
        start, end = 0, section["sh_size"]
        if elf["e_type"] != "ET_REL":
            start, end = section["sh_addr"], section["sh_addr"] + section["sh_size"]
    else:
        start, end, section, index = _between(elf, table, symbols)
    what = f"section {section.name}" if symbols is None else f"{symbols[0]} to {symbols[1]}"
    if section["sh_type"] == "SHT_NOBITS":
        raise _Unfit(f"{what} holds no bytes in the file; put it into a section with contents.")
    if start == end:
        raise _Unfit(f"{what} is empty; name the part that holds the trampoline.")
    inside, ambiguous = _symbols_inside(elf, table, index, start, end)
    if prefix is not None:
        _check_prefix(prefix, table, inside)
    fixups = _fixups(elf, index, start, end, inside, prefix)
    first = start - _section_start(elf, section)
    data = section.data()[first : first + end - start]
    lines = read_lines(elf, index, start, end)
    return Part(data, inside, ambiguous, lines, fixups)


def _section_start(elf: Any, section: Section) -> int:
    """The value of a symbol at the section's first byte: 0 in an object, else its address."""
    return 0 if elf["e_type"] == "ET_REL" else int(section["sh_addr"])


def _section_named(elf: Any, name: str) -> tuple[Section, int]:
    index = elf.get_section_index(name)
    if index is None:
        loaded = [s for s in elf.iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_ALLOC]
        present = ", ".join(s.name for s in loaded)
        raise _Unfit(f"has no section {name}; name one of: {present or 'none'}.")
    return elf.get_section(index), index


def _symbols(elf: Any) -> _Symbols:
    found = _Symbols()
    for section in elf.iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        for symbol in section.iter_symbols():
            kind = symbol["st_info"]["type"]
            index = symbol["st_shndx"]
            if not symbol.name or index == "SHN_UNDEF" or kind in ("STT_SECTION", "STT_FILE"):
                continue
            local = symbol["st_info"]["bind"] == "STB_LOCAL"
            names = found.local if local else found.strong
            names.setdefault(symbol.name, set()).add((symbol["st_value"], index))
    return found


def _between(elf: Any, table: _Symbols, names: tuple[str, str]) -> tuple[int, int, Section, int]:
    """Start and end value of the part, its section and that section's index."""
    places = []
    for name in names:
        found = table.places(name)
        if not found:
            raise _Unfit(f"has no symbol {name}, which [image] symbols names; check its spelling.")
        if len(found) > 1:
            raise _Unfit(f"has more than one symbol {name}; [image] symbols must be unique.")
        places.append(next(iter(found)))
    (start, start_index), (end, end_index) = places
    if end <= start or (elf["e_type"] == "ET_REL" and start_index != end_index):
        raise _Unfit(f"{names[1]} is not behind {names[0]}; [image] symbols are first and end.")
    for index, section in enumerate(elf.iter_sections()):
        if elf["e_type"] == "ET_REL":
            fits = index == start_index
        else:
            fits = bool(section["sh_flags"] & SH_FLAGS.SHF_ALLOC)
        low = _section_start(elf, section)
        if fits and low <= start and end <= low + section["sh_size"]:
            return start, end, section, index
    raise _Unfit(f"{names[0]} to {names[1]} lies in no one section; name symbols of one section.")


def _symbols_inside(
    elf: Any, table: _Symbols, index: int, start: int, end: int
) -> tuple[dict[str, int], frozenset[str]]:
    """Offsets of the symbols from `start` to `end`, both included, and the ambiguous names.

    In an object a symbol's section counts; in an executable all values are virtual addresses, and
    an end symbol may belong to the section behind.
    """
    relocatable = elf["e_type"] == "ET_REL"
    inside: dict[str, int] = {}
    ambiguous = set()
    for name in table.local | table.strong:
        offsets = {
            value - start
            for value, section in table.places(name)
            if start <= value <= end
            and (section == index if relocatable else isinstance(section, int))
        }
        if len(offsets) > 1:
            ambiguous.add(name)
        elif offsets:
            inside[name] = offsets.pop()
    by_offset = dict(sorted(inside.items(), key=lambda item: item[1]))
    return by_offset, frozenset(ambiguous)


def _check_prefix(prefix: str, table: _Symbols, inside: dict[str, int]) -> None:
    """Nothing is both a symbol of the file's own and a name for the address of another one."""
    for name in sorted(table.local | table.strong):
        target = name.removeprefix(prefix)
        if target != name and target in inside:
            raise _Unfit(
                f"defines {name}, which by [image] fixups is the name of {target}'s physical "
                "address; rename it, or choose another prefix."
            )


def _fixups(
    elf: Any, index: int, start: int, end: int, symbols: dict[str, int], prefix: str | None
) -> dict[int, int]:
    """The words that the host fills in, and the offset whose address each gets.

    A byte that a linker or loader would still change is not known. Executables may carry
    relocations that the linker has applied (--emit-relocs): only those of loaded relocation
    sections are still to come.
    """
    found = {}
    for name, relocation in _relocations(elf, index):
        if not start <= relocation["r_offset"] < end:
            continue
        offset = relocation["r_offset"] - start
        if prefix is None or not name.startswith(prefix):
            against = f"against {name}" if name else "without a symbol"
            raise _Unfit(
                f"a relocation {against} is left at offset {offset:#x} of the image; "
                "use symbol differences, so that no address is needed at link time."
            )
        target = name.removeprefix(prefix)
        if target not in symbols:
            raise _Unfit(f"{name} is to be filled in, but the image has no symbol {target}.")
        if elf["e_machine"] != "EM_X86_64" or relocation["r_info_type"] not in _ABSOLUTE_32:
            raise _Unfit(
                f"{name} at offset {offset:#x} is no 4-byte absolute address of an x86-64 object; "
                "use .long, or an operand of 32 bits."
            )
        found[offset] = symbols[target] + relocation["r_addend"]
    return found


def _relocations(elf: Any, index: int) -> Iterator[tuple[str, Any]]:
    """Symbol name and entry of each relocation still to be applied that may concern the part."""
    for section in elf.iter_sections():
        if not isinstance(section, RelocationSection | RelrRelocationSection):
            continue
        if elf["e_type"] == "ET_REL":
            concerns = section["sh_info"] == index
        else:
            concerns = bool(section["sh_flags"] & SH_FLAGS.SHF_ALLOC)
        if not concerns:
            continue
        symbols = elf.get_section(section["sh_link"])
        for relocation in section.iter_relocations():
            name = ""
            if isinstance(section, RelocationSection) and isinstance(symbols, SymbolTableSection):
                symbol = symbols.get_symbol(relocation["r_info_sym"])
                name = symbol.name or _section_symbol(elf, symbol)
            yield name, relocation


def _section_symbol(elf: Any, symbol: Any) -> str:
    """The section's name of a section symbol, which has none of its own."""
    index = symbol["st_shndx"]
    return elf.get_section(index).name if isinstance(index, int) else ""
