# SPDX-License-Identifier: GPL-2.0-only
"""The page walk, on tables built by hand: the outcome of one address, and of one changed bit."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import z3

from models import paging
from tests.models.rows import Row, holds, number, word

# PML4 index 1, PDPT index 2, PD index 3, PT index 4, offset 567H.
LINEAR = 0x80_8060_4567
PML4E, PDPTE, PDE, PTE = 0x1008, 0x2010, 0x3018, 0x4020
TABLES = {PML4E: 0x2003, PDPTE: 0x3003, PDE: 0x4003, PTE: 0xABCD_E003}
# Large pages, and where the next entry would be if they were none.
TWO_MIB = {PDE: 0x1_2340_0083}
ONE_GIB = {PDPTE: 0x5_4000_0083}
NO_PTE = 0x1_2340_0020
NO_PDE = 0x5_4000_0018
# The same below a PML5 at 5000H, index 5.
LINEAR_5 = 0x5_0080_8060_4567
PML5E = 0x5028
TABLES_5 = TABLES | {PML5E: 0x1003}

CAUSES = ("non_canonical", "not_present", "reserved", "rights")
BITS_40 = 1 << 40
NX = 1 << 63


def walk(
    module: ModuleType,
    memory: dict[int, int],
    linear: int = LINEAR,
    access: str = "READ",
    *,
    cr3: int = 0x1000,
    levels: int = 4,
    write_protect: bool = True,
    no_execute: bool = True,
    gib_pages: bool = True,
    maxphyaddr: int = 52,
) -> paging.Translation:
    """The walk through tables held in a dict: address of an entry -> entry; all others are 0."""
    state = module.Paging(
        cr3=word(cr3),
        levels=levels,
        write_protect=z3.BoolVal(write_protect),
        no_execute=z3.BoolVal(no_execute),
        gib_pages=z3.BoolVal(gib_pages),
        maxphyaddr=word(maxphyaddr),
    )
    result: paging.Translation = module.walk(
        word(linear), module.Access[access], state, reader(memory)
    )
    return result


def reader(memory: dict[int, int]) -> paging.READ_ENTRY:
    """Entries at physical addresses of 64 bits."""

    def read_entry(at: z3.BitVecRef) -> z3.BitVecRef:
        assert at.size() == 64
        return word(memory.get(number(at), 0))

    return read_entry


def outcome(module: ModuleType, memory: dict[int, int], *args: object, **state: object) -> object:
    """The physical address, or the causes of the fault."""
    translation = walk(module, memory, *args, **state)  # type: ignore[arg-type]
    causes = [name for name in CAUSES if holds(getattr(translation, name))]
    assert holds(translation.fault) == bool(causes)
    assert len(causes) <= 1
    return causes[0] if causes else number(translation.physical)


def case(rule: str, changes: dict[int, int], expected: object, **state: object) -> Row:
    """A row on the 4-level tables with some entries replaced."""
    return Row(rule, lambda module: outcome(module, TABLES | changes, **state), expected)


def case_5(rule: str, changes: dict[int, int], expected: object, **state: object) -> Row:
    """A row on the 5-level tables with some entries replaced."""
    settings = {"linear": LINEAR_5, "levels": 5, "cr3": 0x5000} | state
    return Row(rule, lambda module: outcome(module, TABLES_5 | changes, **settings), expected)


def flags(changes: dict[int, int]) -> dict[int, int]:
    """Entries of the 4-KiB mapping with further bits set."""
    return {at: TABLES[at] | bits for at, bits in changes.items()}


TRANSLATIONS = (
    case("4-KiB page: frame of the PTE, offset 11:0", {}, 0xABCD_E567),
    case("2-MiB page: frame of the PDE, offset 20:0", TWO_MIB, 0x1_2340_4567),
    case("1-GiB page: frame of the PDPTE, offset 29:0", ONE_GIB, 0x5_4060_4567),
    case_5("5 levels, 4-KiB page", {}, 0xABCD_E567),
    case_5("5 levels, 2-MiB page", TWO_MIB, 0x1_2340_4567),
    case_5("5 levels, 1-GiB page", ONE_GIB, 0x5_4060_4567),
    case("CR3 11:0 and 63:52 do not address the PML4", {}, 0xABCD_E567, cr3=0xFFF0_0000_0000_1FFF),
    case("PAT of a PTE is not PS", flags({PTE: 0x80}), 0xABCD_E567),
    case("PAT of a 2-MiB page is not address", {PDE: 0x1_2340_1083}, 0x1_2340_4567),
    case("PAT of a 1-GiB page is not address", {PDPTE: 0x5_4000_1083}, 0x5_4060_4567),
    case("ignored bits 62:52 and 11:9 of a PTE", flags({PTE: 0x7FF0_0000_0000_0E00}), 0xABCD_E567),
    case("U/S, A, D and G decide nothing", flags({PTE: 0x164}), 0xABCD_E567),
    case("frames reach up to bit 51", {PTE: 0xF_FFFF_FFFF_F003}, 0xF_FFFF_FFFF_F567),
    case(
        "entries lead to tables up to bit 51",
        {PML4E: 0xF_FFFF_FFFF_F003, 0xF_FFFF_FFFF_F010: 0x3003},
        0xABCD_E567,
    ),
    case("R/W = 0 and XD = 1 do not matter to a read", {PTE: NX | 0xABCD_E001}, 0xABCD_E567),
)

PLACES = (("PML4E", PML4E), ("PDPTE", PDPTE), ("PDE", PDE), ("PTE", PTE))

NOT_PRESENT = (
    *(case(f"P = 0 in the {name}", {at: TABLES[at] & ~1}, "not_present") for name, at in PLACES),
    case_5("P = 0 in the PML5E", {PML5E: 0x1002}, "not_present"),
    case("P = 0: the reserved bits do not matter", {PML4E: 0xFFFF_FFFF_FFFF_FFFE}, "not_present"),
    case("1-GiB page: no PDE, so no P", ONE_GIB | {NO_PDE: 0}, 0x5_4060_4567),
    case("2-MiB page: no PTE, so no P", TWO_MIB | {NO_PTE: 0}, 0x1_2340_4567),
)


def _beyond(width: int) -> tuple[Row, ...]:
    """MAXPHYADDR = `width`: the bit below is address, the bit itself reserved, at each level."""
    rows = [
        case(
            f"MAXPHYADDR {width}: frame with bit {width - 1}",
            {PTE: 1 << (width - 1) | 0x3003},
            1 << (width - 1) | 0x3567,
            maxphyaddr=width,
        )
    ]
    if width < 52:
        rows += [
            case(
                f"MAXPHYADDR {width}: bit {bit} of the {name} is reserved",
                flags({at: 1 << bit}),
                "reserved",
                maxphyaddr=width,
            )
            for name, at in PLACES
            for bit in (width, 51)
        ]
    return tuple(rows)


RESERVED = (
    *_beyond(36),
    *_beyond(40),
    *_beyond(52),
    case("bit 52 is never address, never reserved", flags({PTE: 1 << 52}), 0xABCD_E567),
    case_5(
        "MAXPHYADDR 40: bit 40 of the PML5E", {PML5E: BITS_40 | 0x1003}, "reserved", maxphyaddr=40
    ),
    case("PS in the PML4E", flags({PML4E: 0x80}), "reserved"),
    case("PS in the PML4E, frame aligned", {PML4E: 0x83}, "reserved"),
    case("1-GiB page: no PDE, so no reserved bit", ONE_GIB | {NO_PDE: 0x2083}, 0x5_4060_4567),
    case(
        "2-MiB page: no PTE, so no reserved bit",
        TWO_MIB | {NO_PTE: BITS_40 | 3},
        0x1_2340_4567,
        maxphyaddr=40,
    ),
    case_5("PS in the PML5E", {PML5E: 0x1083}, "reserved"),
    case_5("PS in the PML4E with 5 levels", flags({PML4E: 0x80}), "reserved"),
    case("PS in the PDPTE without 1-GiB pages", ONE_GIB, "reserved", gib_pages=False),
    case("PS in the PDE needs no 1-GiB pages", TWO_MIB, 0x1_2340_4567, gib_pages=False),
    case("PDPTE without PS needs no 1-GiB pages", {}, 0xABCD_E567, gib_pages=False),
    *(
        case(f"2-MiB PDE: bit {bit}", {PDE: TWO_MIB[PDE] | 1 << bit}, "reserved")
        for bit in range(13, 21)
    ),
    *(
        case(f"1-GiB PDPTE: bit {bit}", {PDPTE: ONE_GIB[PDPTE] | 1 << bit}, "reserved")
        for bit in range(13, 30)
    ),
    case("2-MiB PDE: bit 21 is address", {PDE: TWO_MIB[PDE] | 1 << 21}, 0x1_2360_4567),
    case("1-GiB PDPTE: bit 30 is address", {PDPTE: 0x5_0000_0083 | 1 << 30}, 0x5_4060_4567),
    *(
        case(f"XD in the {name} while NXE = 0", flags({at: NX}), "reserved", no_execute=False)
        for name, at in PLACES
    ),
    *(case(f"XD in the {name} while NXE = 1", flags({at: NX}), 0xABCD_E567) for name, at in PLACES),
    case(
        "a reserved bit above goes before P = 0 below", flags({PML4E: 0x80}) | {PTE: 0}, "reserved"
    ),
)

READ_ONLY = {at: TABLES[at] & ~2 for _, at in PLACES}

RIGHTS = (
    case("write to a writable page", {}, 0xABCD_E567, access="WRITE"),
    *(
        case(f"write, R/W = 0 in the {name}", {at: READ_ONLY[at]}, "rights", access="WRITE")
        for name, at in PLACES
    ),
    *(
        case(f"fetch, XD in the {name}", flags({at: NX}), "rights", access="FETCH")
        for name, at in PLACES
    ),
    case_5("write, R/W = 0 in the PML5E", {PML5E: 0x1001}, "rights", access="WRITE"),
    case_5("fetch, XD in the PML5E", {PML5E: NX | 0x1003}, "rights", access="FETCH"),
    case(
        "write to a read-only page, WP = 0",
        READ_ONLY,
        0xABCD_E567,
        access="WRITE",
        write_protect=False,
    ),
    case("fetch from a read-only page", READ_ONLY, 0xABCD_E567, access="FETCH"),
    case("write to an XD page", flags({PTE: NX}), 0xABCD_E567, access="WRITE"),
    case("fetch while NXE = 0", {}, 0xABCD_E567, access="FETCH", no_execute=False),
    case("write to a read-only 2-MiB page", {PDE: 0x1_2340_0081}, "rights", access="WRITE"),
    case("fetch from an XD 1-GiB page", {PDPTE: NX | ONE_GIB[PDPTE]}, "rights", access="FETCH"),
    case("2-MiB page: no PTE, so no R/W", TWO_MIB | {NO_PTE: 1}, 0x1_2340_4567, access="WRITE"),
    case(
        "P = 0 goes before rights", {PML4E: READ_ONLY[PML4E], PTE: 0}, "not_present", access="WRITE"
    ),
    case("RSVD goes before rights", flags({PML4E: 0x80}) | {PTE: 1}, "reserved", access="WRITE"),
)

# One 1-GiB page, wanted for the last GiB of the low half, the first of the high half, and so on.
HALVES = {0x1000 + 8 * 255: 0x2003, 0x1000 + 8 * 256: 0x2003, 0x2000: 0x83, 0x2000 + 8 * 511: 0x83}
HALVES_5 = HALVES | {0x5000 + 8 * index: 0x1003 for index in (0, 255, 256, 511)}
HALVES_5 |= {0x1000: 0x2003, 0x1000 + 8 * 511: 0x2003}


def _canonical(linear: int, expected: object, levels: int = 4) -> Row:
    memory, cr3 = (HALVES, 0x1000) if levels == 4 else (HALVES_5, 0x5000)
    return Row(
        f"{levels} levels, {linear:#x}",
        lambda module: outcome(module, memory, linear, levels=levels, cr3=cr3),
        expected,
    )


CANONICAL = (
    _canonical(0x0000_7FFF_FFFF_FFFF, 0x3FFF_FFFF),
    _canonical(0x0000_8000_0000_0000, "non_canonical"),
    _canonical(0xFFFF_7FFF_FFFF_FFFF, "non_canonical"),
    _canonical(0xFFFF_8000_0000_0000, 0),
    _canonical(0x0001_0000_0000_0000, "non_canonical"),
    _canonical(0x8000_0000_0000_0000, "non_canonical"),
    _canonical(0x0000_8000_0000_0000, 0, 5),
    _canonical(0x00FF_FFFF_FFFF_FFFF, 0x3FFF_FFFF, 5),
    _canonical(0x0100_0000_0000_0000, "non_canonical", 5),
    _canonical(0xFEFF_FFFF_FFFF_FFFF, "non_canonical", 5),
    _canonical(0xFF00_0000_0000_0000, 0, 5),
)


def _used(
    memory: dict[int, int], linear: int = LINEAR, **state: object
) -> Callable[[ModuleType], object]:
    """Names and addresses of the entries that the walk uses."""

    def names(module: ModuleType) -> object:
        entries = walk(module, memory, linear, **state).entries  # type: ignore[arg-type]
        return [(entry.level, number(entry.address)) for entry in entries if holds(entry.used)]

    return names


WAY = [("PML4E", PML4E), ("PDPTE", PDPTE), ("PDE", PDE), ("PTE", PTE)]
ENTRIES = (
    Row("a 4-KiB page uses four entries", _used(TABLES), WAY),
    Row("a 2-MiB page uses three", _used(TABLES | TWO_MIB), WAY[:3]),
    Row("a 1-GiB page uses two", _used(TABLES | ONE_GIB), WAY[:2]),
    Row("the walk ends where P = 0", _used(TABLES | {PDE: 0}), WAY[:3]),
    Row("the walk ends at a reserved bit", _used(TABLES | {PML4E: 0x2083}), WAY[:1]),
    Row("no walk for a non-canonical address", _used(TABLES, 1 << 63), []),
    Row(
        "5 levels: one more entry",
        _used(TABLES_5, LINEAR_5, levels=5, cr3=0x5000),
        [("PML5E", PML5E), *WAY],
    ),
)


def _identity(
    memory: dict[int, int], linear: int, access: str | None = None
) -> Callable[[ModuleType], object]:
    def outcome_of(module: ModuleType) -> object:
        state = module.Paging(
            word(0x1000), 4, z3.BoolVal(True), z3.BoolVal(True), z3.BoolVal(True), word(52)
        )
        return holds(
            module.identity(
                word(linear),
                module.Access[access] if access else module.ANY_ACCESS,
                state,
                reader(memory),
            )
        )

    return outcome_of


MAPS_ITSELF = TABLES | {PTE: LINEAR & ~0xFFF | 3}
IDENTITY = (
    Row("identity: mapped to itself", _identity(MAPS_ITSELF, LINEAR), True),
    Row("identity: mapped elsewhere", _identity(TABLES, LINEAR), False),
    Row(
        "identity: not present", _identity(MAPS_ITSELF | {PTE: LINEAR & ~0xFFF | 2}, LINEAR), False
    ),
    Row("identity: not writable", _identity(MAPS_ITSELF | {PDE: 0x4001}, LINEAR), False),
    Row("identity: not executable", _identity(MAPS_ITSELF | {PDE: NX | 0x4003}, LINEAR), False),
    Row(
        "identity: read-only, and only read",
        _identity(MAPS_ITSELF | {PDE: NX | 0x4001}, LINEAR, "READ"),
        True,
    ),
)


def leads(rule: str, entry: str, value: int, expected: bool, maxphyaddr: int = 52) -> Row:
    """A row on one entry of a level, by its name."""

    def outcome(module: ModuleType) -> object:
        (level,) = (level for level in module.LEVELS if level.entry == entry)
        state = module.Paging(
            cr3=word(0),
            levels=5,
            write_protect=z3.BoolVal(True),
            no_execute=z3.BoolVal(False),
            gib_pages=z3.BoolVal(False),
            maxphyaddr=word(maxphyaddr),
        )
        return holds(module.leads_on(word(value), level, state))

    return Row(f"leads on: {rule}", outcome, expected)


LEADS = (
    leads("to a table", "PML5E", 0x1001, True),
    leads("without rights", "PTE", 0x1001, True),
    leads("not present", "PML5E", 0x1002, False),
    leads("PS is reserved", "PML5E", 0x1083, False),
    leads("the page itself", "PDE", 0x20_0083, True),
    leads("XD without NXE", "PML4E", NX | 0x1003, False),
    leads("frames reach up to bit 51", "PML4E", 1 << 51 | 3, True),
    leads("bits 62:52 are ignored", "PML4E", 0x7FF0_0000_0000_0003, True),
    leads("bits up to MAXPHYADDR", "PML4E", 0xFF_FFFF_F003, True, 40),
    leads("a bit beyond MAXPHYADDR", "PML4E", BITS_40 | 3, False, 40),
)

ROWS = (
    *TRANSLATIONS,
    *NOT_PRESENT,
    *RESERVED,
    *RIGHTS,
    *CANONICAL,
    *ENTRIES,
    *IDENTITY,
    *LEADS,
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_walk_gives_what_the_manual_says(row: Row) -> None:
    """One row: one address through hand-built tables."""
    assert row.outcome(paging) == row.expected


@pytest.mark.parametrize("levels", [4, 5])
def test_each_level_is_read_once_and_the_term_stays_small(levels: int) -> None:
    """`read_entry` gives large terms, so it is called once a level and its result is shared."""
    memory = z3.Array("memory", z3.BitVecSort(64), z3.BitVecSort(64))
    calls: list[z3.BitVecRef] = []

    def read_entry(at: z3.BitVecRef) -> z3.BitVecRef:
        calls.append(at)
        return z3.Select(memory, at)

    state = paging.Paging(
        z3.BitVec("cr3", 64),
        levels,
        z3.Bool("wp"),
        z3.Bool("nxe"),
        z3.Bool("page1gb"),
        z3.BitVec("maxphyaddr", 64),
    )
    term = paging.identity(z3.BitVec("linear", 64), paging.Access.WRITE, state, read_entry)
    assert len(calls) == levels
    assert _nodes(term) < 50 * levels


def test_symbolic_maxphyaddr_agrees_with_each_concrete_one() -> None:
    """Bits MAXPHYADDR..51 of an entry are reserved, for every MAXPHYADDR from 36 to 52."""
    for width in range(36, 53):
        for bit in range(32, 52):
            memory = TABLES | {PTE: 1 << bit | 3}
            expected = "reserved" if bit >= width else 1 << bit | 0x567
            assert outcome(paging, memory, maxphyaddr=width) == expected


def _nodes(term: z3.ExprRef) -> int:
    """Distinct sub-terms of a term."""
    seen: set[int] = set()
    pending = [term]
    while pending:
        node = pending.pop()
        if node.get_id() not in seen:
            seen.add(node.get_id())
            pending += node.children()
    return len(seen)


def test_terms_may_live_in_any_z3_context() -> None:
    """A proof with a context of its own can use the walk."""
    context = z3.Context()
    true = z3.BoolVal(True, context)
    linear = z3.BitVec("linear", 64, context)
    state = paging.Paging(linear, 4, true, true, true, z3.BitVecVal(40, 64, context))
    term = paging.identity(linear, paging.Access.READ, state, lambda at: at)
    assert term.ctx is context
