# SPDX-License-Identifier: GPL-2.0-only
"""4-level and 5-level paging: from a linear address to a physical one, or to a fault.

SDM 3A 4.5 "4-Level Paging" (later "4-Level Paging and 5-Level Paging"), 4.6 "Access Rights",
4.7 "Page-Fault Exceptions"; SDM 1, 3.3.7.1 "Canonical Addressing".

Limits, each to be established by whoever uses the walk:
- supervisor mode, CPL 0, with CR4.SMEP, SMAP, PKE, PKS, CET, LASS and LAM known to be 0. A
  supervisor may then use user pages (U/S = 1) as its own, and U/S decides nothing.
- The walk reads the tables in memory. A translation still held in a TLB or a paging-structure
  cache is not seen, so neither is the G flag.
- Accessed and dirty flags are not set; no rule here reads them.
- No nested translation (EPT), no memory encryption bits in entries, no HLAT.
- Memory types (PAT, PCD, PWT) do not change where an address leads and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto

import z3

from models.bits import any_of, bit, field

READ_ENTRY = Callable[[z3.BitVecRef], z3.BitVecRef]
"""Physical address of a paging-structure entry (64 bits) -> the entry (64 bits)."""

# 4.5, tables "Format of a 4-Level PML4 Entry ..." and those after it: flags that the walk reads.
PRESENT = 0
WRITABLE = 1  # R/W
PAGE_SIZE = 7  # PS; in a PTE the same bit is PAT
EXECUTE_DISABLE = 63  # XD


@dataclass(frozen=True)
class Level:
    """One row of the hierarchy. 4.5, and 4.2, table "Paging Structures in the ... Modes"."""

    entry: str
    """The manual's name of an entry of this level."""
    index_low: int
    """Lowest bit of the 9 linear-address bits that select the entry, and log2 of the bytes that
    one entry controls."""
    large: bool
    """Bit 7 is PS and may be 1: the entry maps a page itself. A PTE has no PS and always maps."""


LEVELS = (
    Level("PML5E", 48, large=False),
    Level("PML4E", 39, large=False),
    Level("PDPTE", 30, large=True),
    Level("PDE", 21, large=True),
    Level("PTE", 12, large=False),
)


class Access(Flag):
    """What a supervisor does with a linear address. Several at once: each of them must be allowed.

    Each needs a translation, so that a read is allowed wherever anything is.
    """

    READ = auto()
    WRITE = auto()
    FETCH = auto()

    @property
    def words(self) -> str:
        """Its name in a sentence."""
        return " or ".join(str(kind.name).lower() for kind in self)


ANY_ACCESS = Access.READ | Access.WRITE | Access.FETCH


@dataclass(frozen=True)
class Paging:
    """The state outside memory that a walk depends on."""

    cr3: z3.BitVecRef
    """64 bits. 4.5, "Use of CR3": bits 51:12 hold the first structure's physical address."""
    levels: int
    """4, or 5 with CR4.LA57."""
    write_protect: z3.BoolRef
    """CR0.WP."""
    no_execute: z3.BoolRef
    """IA32_EFER.NXE."""
    gib_pages: z3.BoolRef
    """CPUID.80000001H:EDX.Page1GB[26]."""
    maxphyaddr: z3.BitVecRef
    """64 bits: the number of physical-address bits, CPUID.80000008H:EAX[7:0], at most 52."""


@dataclass(frozen=True)
class Entry:
    """One paging-structure entry on the way."""

    level: str
    """The manual's name: PML5E, PML4E, PDPTE, PDE or PTE."""
    address: z3.BitVecRef
    """Physical address of the entry, 64 bits; meaningful where `used`."""
    value: z3.BitVecRef
    """What `read_entry` gave for it, 64 bits; meaningful where `used`."""
    used: z3.BoolRef
    """The walk reads this entry: the address is canonical and every entry above is present, has no
    reserved bit set and does not map a page."""


@dataclass(frozen=True)
class Translation:
    """The outcome of a walk. At most one of the four causes holds."""

    fault: z3.BoolRef
    """Any of the four causes below."""
    non_canonical: z3.BoolRef
    """#GP (#SS for a stack access); there is no walk."""
    not_present: z3.BoolRef
    """#PF, P = 0 in an entry that the walk uses."""
    reserved: z3.BoolRef
    """#PF, a reserved bit is 1 in a present entry that the walk uses."""
    rights: z3.BoolRef
    """#PF, there is a translation but it does not allow the access."""
    physical: z3.BitVecRef
    """64 bits; meaningful where not `fault`, or where the fault is one of `rights`."""
    entries: tuple[Entry, ...]
    """From the first structure down; always `levels` of them."""


def canonical(linear: z3.BitVecRef, levels: int) -> z3.BoolRef:
    """Bits 63:47 are all equal (63:56 with 5 levels). SDM 1, 3.3.7.1."""
    top = field(linear, 63, 47 if levels == 4 else 56)
    return z3.Or(top == 0, ~top == 0)


def walk(
    linear: z3.BitVecRef, access: Access, paging: Paging, read_entry: READ_ENTRY
) -> Translation:
    """Translate the byte at `linear` (64 bits). `read_entry` is called once per level."""
    levels = LEVELS[len(LEVELS) - paging.levels :]
    is_canonical = canonical(linear, paging.levels)
    # 4.5, bits 51:MAXPHYADDR of every present entry are reserved.
    beyond_maxphyaddr = z3.BitVecVal(-1, 52, paging.maxphyaddr.ctx) << field(
        paging.maxphyaddr, 51, 0
    )

    entries: list[Entry] = []
    not_present: list[z3.BoolRef] = []
    reserved: list[z3.BoolRef] = []
    denied: list[z3.BoolRef] = []
    large_pages: list[tuple[z3.BoolRef, z3.BitVecRef]] = []
    used = is_canonical
    table = field(paging.cr3, 51, 12)
    for level in levels:
        # 4.5: bits 51:12 from the entry above, 11:3 from the linear address, 2:0 are 0.
        index = field(linear, level.index_low + 8, level.index_low)
        address = _concat((0, 12), table, index, (0, 3))
        value = read_entry(address)
        entries.append(Entry(level.entry, address, value, used))

        present = bit(value, PRESENT)
        bad = _reserved_bits(value, level, beyond_maxphyaddr, paging)
        not_present.append(z3.And(used, z3.Not(present)))
        reserved.append(z3.And(used, present, bad))
        denied.append(z3.And(used, _denies(value, access, paging)))

        used = z3.And(used, present, z3.Not(bad))
        if level.large:
            maps_page = bit(value, PAGE_SIZE)
            large_pages.append((maps_page, _page(value, level, linear)))
            used = z3.And(used, z3.Not(maps_page))
        table = field(value, 51, 12)

    # The first entry that maps a page ends the walk; a PTE always does.
    physical = _page(entries[-1].value, levels[-1], linear)
    for maps_page, page in reversed(large_pages):
        physical = z3.If(maps_page, page, physical)
    no_translation = z3.Or(*not_present, *reserved)
    rights = z3.And(z3.Not(no_translation), z3.Or(*denied))
    non_canonical = z3.Not(is_canonical)
    return Translation(
        fault=z3.Or(non_canonical, no_translation, z3.Or(*denied)),
        non_canonical=non_canonical,
        not_present=z3.Or(*not_present),
        reserved=z3.Or(*reserved),
        rights=rights,
        physical=physical,
        entries=tuple(entries),
    )


def leads_on(value: z3.BitVecRef, level: Level, paging: Paging) -> z3.BoolRef:
    """An entry of this level is present and has no reserved bit set: a walk goes on behind it, or
    ends there. 4.5, tables "Format of ..."; what of it is a right does not matter here."""
    beyond = z3.BitVecVal(-1, 52, paging.maxphyaddr.ctx) << field(paging.maxphyaddr, 51, 0)
    return z3.And(bit(value, PRESENT), z3.Not(_reserved_bits(value, level, beyond, paging)))


def identity(
    linear: z3.BitVecRef, access: Access, paging: Paging, read_entry: READ_ENTRY
) -> z3.BoolRef:
    """The access does not fault and reaches the physical address equal to the linear one."""
    translation = walk(linear, access, paging, read_entry)
    return z3.And(z3.Not(translation.fault), translation.physical == linear)


def _reserved_bits(
    value: z3.BitVecRef, level: Level, beyond_maxphyaddr: z3.BitVecRef, paging: Paging
) -> z3.BoolRef:
    """A reserved bit of a present entry is 1. 4.5, tables "Format of ..."; 4.7, flag RSVD."""
    rules = [
        any_of(field(value, 51, 0), beyond_maxphyaddr),
        # XD is reserved while IA32_EFER.NXE = 0.
        z3.And(bit(value, EXECUTE_DISABLE), z3.Not(paging.no_execute)),
    ]
    page_size = bit(value, PAGE_SIZE)
    if level.large:
        # A large page is aligned to its size; bit 12 is its PAT flag, bits below are not address.
        unaligned = field(value, level.index_low - 1, 13) != 0
        rules.append(z3.And(page_size, unaligned))
    elif level.entry != "PTE":
        rules.append(page_size)
    if level.entry == "PDPTE":
        # 4.1.4 "Enumeration of Paging Features by CPUID", Page1GB.
        rules.append(z3.And(page_size, z3.Not(paging.gib_pages)))
    return z3.Or(*rules)


def _denies(value: z3.BitVecRef, access: Access, paging: Paging) -> z3.BoolRef:
    """An entry forbids a supervisor's access. 4.6.1 "Determination of Access Rights"."""
    rules = [z3.BoolVal(False, value.ctx)]  # a read
    if Access.WRITE in access:
        rules.append(z3.And(paging.write_protect, z3.Not(bit(value, WRITABLE))))
    if Access.FETCH in access:
        rules.append(z3.And(paging.no_execute, bit(value, EXECUTE_DISABLE)))
    return z3.Or(*rules)


def _page(value: z3.BitVecRef, level: Level, linear: z3.BitVecRef) -> z3.BitVecRef:
    """Physical address if this entry maps the page: its frame, then the linear address's offset."""
    low = level.index_low
    return _concat((0, 12), field(value, 51, low), field(linear, low - 1, 0))


def _concat(*parts: z3.BitVecRef | tuple[int, int]) -> z3.BitVecRef:
    """Join parts, highest first; a pair is (value, width in bits)."""
    context = next(part.ctx for part in parts if not isinstance(part, tuple))
    return z3.Concat(
        *(z3.BitVecVal(*part, context) if isinstance(part, tuple) else part for part in parts)
    )
