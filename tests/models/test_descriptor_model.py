# SPDX-License-Identifier: GPL-2.0-only
"""Descriptors: fields decoded by hand, and each load and access rule with and without its cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import z3

from models import descriptors
from tests.models.rows import Row, holds, number, word

# The multikernel trampoline's two GDTs.
CODE32 = 0x00CF_9B00_0000_FFFF
CODE64 = 0x00AF_9B00_0000_FFFF
DATA = 0x00CF_9300_0000_FFFF
CODE64_NOT_ACCESSED = 0x00AF_9A00_0000_FFFF
DATA_NOT_ACCESSED = 0x00CF_9200_0000_FFFF
TSS64 = 0x0080_8900_0000_0000

# Single bits of a descriptor, SDM 3A figure 3-8.
READ_OR_WRITE, CONFORMING_OR_DOWN, CODE, S, PRESENT = 1 << 41, 1 << 42, 1 << 43, 1 << 44, 1 << 47
LONG, BIG, GRANULARITY = 1 << 53, 1 << 54, 1 << 55
CONFORMING = CODE32 | CONFORMING_OR_DOWN
EXECUTE_ONLY = CODE32 & ~READ_OR_WRITE
READ_ONLY = DATA & ~READ_OR_WRITE


def with_dpl(raw: int, dpl: int) -> int:
    """The descriptor with another DPL."""
    return raw & ~(3 << 45) | dpl << 45


def decoded(raw: int, selector: int = 8) -> Callable[[ModuleType], object]:
    """Every field of the segment, as plain values."""

    def fields(module: ModuleType) -> object:
        segment = module.decode(word(selector, 16), word(raw))
        bits = [segment.s, segment.present, segment.long, segment.big, segment.null]
        values = [segment.selector, segment.base, segment.limit, segment.type, segment.dpl]
        assert [value.size() for value in values] == [16, 64, 32, 4, 2]
        return [*map(number, values), *map(holds, bits)]

    return fields


def kinds(raw: int) -> Callable[[ModuleType], object]:
    """What table 3-1 says of the type."""
    names = ("is_code", "is_readable", "is_writable", "is_conforming", "is_expand_down")

    def true_names(module: ModuleType) -> object:
        segment = module.decode(word(8, 16), word(raw))
        return [name[3:] for name in names if holds(getattr(segment, name))]

    return true_names


DECODE = (
    Row(
        "fields of the flat 32-bit code segment",
        decoded(CODE32),
        [8, 0, 0xFFFF_FFFF, 0xB, 0, True, True, False, True, False],
    ),
    Row(
        "fields of the flat 64-bit code segment",
        decoded(CODE64, 0x10),
        [0x10, 0, 0xFFFF_FFFF, 0xB, 0, True, True, True, False, False],
    ),
    Row(
        "base 12345678H from three places, limit 9ABCDH in bytes, DPL 3, data 5H, not present",
        decoded(0x1209_7534_5678_ABCD, 0xFFFB),
        [0xFFFB, 0x1234_5678, 0x9ABCD, 5, 3, True, False, False, False, False],
    ),
    Row(
        "base FFFFFFFFH, limit 0 in pages",
        decoded(0xFF80_00FF_FFFF_0000),
        [8, 0xFFFF_FFFF, 0xFFF, 0, 0, False, False, False, False, False],
    ),
    Row("limit 1 in pages is 1FFFH", lambda m: number(_limit(m, 0x0080_0000_0000_0001)), 0x1FFF),
    Row("limit FFFFFH in bytes", lambda m: number(_limit(m, 0x000F_0000_0000_FFFF)), 0xF_FFFF),
    Row("a 64-bit TSS is a system descriptor", kinds(TSS64), []),
    Row("a system descriptor of type 6 is no writable, expand-down data", kinds(6 << 40), []),
    Row("type 0: read-only data", kinds(S), ["readable"]),
    Row("type 2: read/write data", kinds(DATA), ["readable", "writable"]),
    Row("type 4: expand-down", kinds(S | 4 << 40), ["readable", "expand_down"]),
    Row("type 8: execute-only", kinds(EXECUTE_ONLY), ["code"]),
    Row("type A: execute/read", kinds(CODE32), ["code", "readable"]),
    Row("type E: conforming", kinds(CONFORMING), ["code", "readable", "conforming"]),
)


def _limit(module: ModuleType, raw: int) -> z3.BitVecRef:
    limit: z3.BitVecRef = module.decode(word(8, 16), word(raw)).limit
    return limit


def selector(name: str, value: int, expected: object, *args: z3.BitVecRef) -> Row:
    """A row on a function of the selector."""

    def outcome(module: ModuleType) -> object:
        term = getattr(module, name)(word(value, 16), *args)
        if z3.is_bool(term):
            return holds(term)
        assert term.size() == {"rpl": 2, "table_offset": 64}[name]
        return number(term)

    shown = "".join(f", {number(arg):#x}" for arg in args)
    return Row(f"{name}({value:#x}{shown})", outcome, expected)


SELECTORS = (
    *(selector("is_null", value, True) for value in (0, 1, 2, 3)),
    *(selector("is_null", value, False) for value in (4, 8, 0x8000)),
    *(selector("uses_ldt", value, value == 0xC) for value in (0xC, 8, 0xB, 0x10)),
    *(selector("rpl", value, value & 3) for value in (8, 9, 0xA, 0xF)),
    *(selector("table_offset", value, 0x18) for value in (0x18, 0x1B, 0x1F)),
    selector("table_offset", 0xFFFF, 0xFFF8),
    selector("outside_table", 0x10, False, word(0x17, 16)),
    selector("outside_table", 0x13, False, word(0x17, 16)),
    selector("outside_table", 0x10, True, word(0x16, 16)),
    selector("outside_table", 0x18, True, word(0x17, 16)),
    selector("outside_table", 0xFFF8, False, word(0xFFFF, 16)),
    selector("returns_outwards", 0x0B, True, word(0, 2)),
    selector("returns_outwards", 0x0B, False, word(3, 2)),
    selector("returns_outwards", 0x08, False, word(3, 2)),
)


def load(
    rule: str,
    name: str,
    sel: int,
    raw: int,
    expected: bool,
    *,
    cpl: int = 0,
    mode: bool | None = None,
) -> Row:
    """A row on a `*_load_faults` function; `mode`: IA-32e or 64-bit mode, where it has a say."""
    args = [word(sel, 16), word(raw), word(cpl, 2)] + ([] if mode is None else [z3.BoolVal(mode)])
    return Row(f"{name}: {rule}", lambda m: holds(getattr(m, name)(*args)), expected)


def jump(rule: str, sel: int, raw: int, expected: bool, cpl: int = 0, lma: bool = False) -> Row:
    """A row on the far jump."""
    return load(rule, "code_load_faults", sel, raw, expected, cpl=cpl, mode=lma)


def far_return(rule: str, sel: int, raw: int, expected: bool, cpl: int = 0) -> Row:
    """A row on the far return."""
    return load(rule, "far_return_faults", sel, raw, expected, cpl=cpl, mode=True)


def data(rule: str, sel: int, raw: int, expected: bool, cpl: int = 0) -> Row:
    """A row on a load of DS, ES, FS or GS."""
    return load(rule, "data_load_faults", sel, raw, expected, cpl=cpl)


def stack(rule: str, sel: int, raw: int, expected: bool, cpl: int = 0, long: bool = False) -> Row:
    """A row on a load of SS."""
    return load(rule, "stack_load_faults", sel, raw, expected, cpl=cpl, mode=long)


CODE_LOADS = (
    jump("flat 32-bit code", 8, CODE32, False),
    jump("64-bit code in IA-32e mode", 0x10, CODE64, False, lma=True),
    jump("L and D in IA-32e mode", 0x10, CODE64 | BIG, True, lma=True),
    jump("L and D outside IA-32e mode: L is ignored", 0x10, CODE64 | BIG, False),
    jump("D alone in IA-32e mode: compatibility", 8, CODE32, False, lma=True),
    *(jump(f"null selector {sel}", sel, CODE32, True) for sel in (0, 3)),
    jump("data segment", 8, DATA, True),
    jump("system descriptor", 8, CODE32 & ~S, True),
    jump("not present", 8, CODE32 & ~PRESENT, True),
    jump("execute-only", 8, EXECUTE_ONLY, False),
    jump("nonconforming, DPL > CPL", 8, with_dpl(CODE32, 1), True),
    jump("nonconforming, DPL < CPL", 0xB, CODE32, True, cpl=3),
    jump("nonconforming, DPL = CPL = 3", 0xB, with_dpl(CODE32, 3), False, cpl=3),
    jump("nonconforming, RPL > CPL", 9, CODE32, True),
    jump("nonconforming, RPL < CPL", 8, with_dpl(CODE32, 3), False, cpl=3),
    jump("conforming, DPL > CPL", 8, with_dpl(CONFORMING, 1), True),
    jump("conforming, DPL < CPL", 8, CONFORMING, False, cpl=3),
    jump("conforming, DPL = CPL", 8, CONFORMING, False),
    jump("conforming, RPL > CPL", 0xB, CONFORMING, False),
    far_return("same level", 0x10, CODE64, False),
    far_return("RPL < CPL", 0x10, CODE64 | CONFORMING_OR_DOWN, True, cpl=3),
    far_return("DPL is compared with RPL", 0x13, CODE64, True, cpl=3),
    far_return("same level 3", 0x13, with_dpl(CODE64, 3), False, cpl=3),
    far_return("outwards to DPL = RPL", 0x13, with_dpl(CODE64, 3), False),
    far_return("L and D", 0x10, CODE64 | BIG, True),
    Row(
        "far jump: CS.RPL becomes CPL",
        lambda m: number(m.code_load(word(0xB, 16), word(CONFORMING), word(0, 2)).selector),
        8,
    ),
    Row(
        "a TSS or gate is no code segment",
        lambda m: [holds(m.names_system_descriptor(word(raw))) for raw in (TSS64, CODE32, DATA)],
        [True, False, False],
    ),
)

DATA_LOADS = (
    data("flat data", 0x18, DATA, False),
    *(data(f"null selector {sel}", sel, 0, False) for sel in (0, 3)),
    data("read-only data", 0x18, READ_ONLY, False),
    data("readable code", 8, CODE32, False),
    data("execute-only code", 8, EXECUTE_ONLY, True),
    data("system descriptor", 8, DATA & ~S, True),
    data("not present", 0x18, DATA & ~PRESENT, True),
    data("RPL > DPL", 0x19, DATA, True),
    data("CPL > DPL", 0x18, DATA, True, cpl=1),
    data("CPL = RPL = DPL = 3", 0x1B, with_dpl(DATA, 3), False, cpl=3),
    data("CPL and RPL below DPL", 0x18, with_dpl(DATA, 3), False),
    data("nonconforming code, CPL > DPL", 8, CODE32, True, cpl=3),
    data("conforming code, CPL and RPL > DPL", 0xB, CONFORMING, False, cpl=3),
)

STACK_LOADS = (
    stack("flat data", 0x18, DATA, False),
    stack("null selector outside 64-bit mode", 0, DATA, True),
    stack("null selector in 64-bit mode", 0, 0, False, long=True),
    stack("null selector in 64-bit mode, CPL 3", 3, 0, True, cpl=3, long=True),
    stack("null selector in 64-bit mode, RPL = CPL = 2", 2, 0, False, cpl=2, long=True),
    stack("null selector in 64-bit mode, RPL != CPL", 1, 0, True, long=True),
    stack("RPL != CPL", 0x19, DATA, True),
    stack("DPL != CPL", 0x18, with_dpl(DATA, 1), True),
    stack("all at 3", 0x1B, with_dpl(DATA, 3), False, cpl=3),
    stack("read-only data", 0x18, READ_ONLY, True),
    stack("code", 8, CODE32, True),
    stack("system descriptor", 0x18, DATA & ~S, True),
    stack("not present", 0x18, DATA & ~PRESENT, True),
    stack("64-bit mode changes nothing else", 0x18, READ_ONLY, True, long=True),
)


def access(
    rule: str,
    raw: int,
    offset: int,
    size: int,
    expected: bool,
    *,
    write: bool = True,
    null: bool = False,
) -> Row:
    """A row on an access through a segment."""

    def outcome(module: ModuleType) -> object:
        segment = module.decode(word(0 if null else 8, 16), word(raw))
        return holds(module.access_faults(segment, word(offset, 32), size, write))

    return Row(f"access: {rule}", outcome, expected)


def fetch(rule: str, raw: int, offset: int, size: int, expected: bool) -> Row:
    """A row on an instruction fetch."""

    def outcome(module: ModuleType) -> object:
        segment = module.decode(word(8, 16), word(raw))
        return holds(module.fetch_faults(segment, word(offset, 32), size))

    return Row(f"fetch: {rule}", outcome, expected)


# Read/write data, limit FFFFH in bytes; the same expand-down, 16-bit and 32-bit.
DATA_64K = 0x0000_9300_0000_FFFF
DOWN_0FFF = 0x0000_9700_0000_0FFF
ACCESSES = (
    access("last byte within the limit", DATA_64K, 0xFFFF, 1, False),
    access("last word within the limit", DATA_64K, 0xFFFE, 2, False),
    access("word across the limit", DATA_64K, 0xFFFF, 2, True),
    access("beyond the limit", DATA_64K, 0x1_0000, 1, True),
    access("8 bytes across the limit", DATA_64K, 0xFFF9, 8, True),
    access("4 GiB flat, last doubleword", DATA, 0xFFFF_FFFC, 4, False),
    access("4 GiB flat, wrapping", DATA, 0xFFFF_FFFD, 4, True),
    access("expand-down, at the limit", DOWN_0FFF, 0x0FFF, 1, True),
    access("expand-down, above the limit", DOWN_0FFF, 0x1000, 1, False),
    access("expand-down, last byte of 64 KiB", DOWN_0FFF, 0xFFFF, 1, False),
    access("expand-down, across 64 KiB", DOWN_0FFF, 0xFFFF, 2, True),
    access("expand-down with B, beyond 64 KiB", DOWN_0FFF | BIG, 0x1_0000, 4, False),
    access("expand-down with B, wrapping", DOWN_0FFF | BIG, 0xFFFF_FFFF, 2, True),
    access("write to read-only data", READ_ONLY, 0, 1, True),
    access("read of read-only data", READ_ONLY, 0, 1, False, write=False),
    access("write through code", CODE32, 0, 1, True),
    access("read through readable code", CODE32, 0, 1, False, write=False),
    access("read through execute-only code", EXECUTE_ONLY, 0, 1, True, write=False),
    access("null segment, read", DATA, 0, 1, True, write=False, null=True),
    access("conforming code is not expand-down", CONFORMING, 0, 1, False, write=False),
    fetch("last byte within the limit", 0x0000_9B00_0000_FFFF, 0xFFFF, 1, False),
    fetch("instruction across the limit", 0x0000_9B00_0000_FFFF, 0xFFFF, 2, True),
    fetch("execute-only code", EXECUTE_ONLY, 0, 15, False),
)


def _real_mode(module: ModuleType) -> object:
    old = module.decode(word(8, 16), word(0x1209_7534_5678_ABCD))
    new = module.real_mode_load(old, word(0xFFFF, 16))
    kept = ("limit", "type", "s", "dpl", "present", "long", "big", "null")
    assert all(getattr(new, name) is getattr(old, name) for name in kept)
    assert new.base.size() == 64
    return number(new.selector), number(new.base)


REAL_MODE = (Row("real-mode load: only selector and base", _real_mode, (0xFFFF, 0xF_FFF0)),)


def reserved(rule: str, sel: int, raw: int, expected: bool) -> Row:
    """A row on what may not be loaded because what it means is not said."""
    return Row(
        f"reserved: {rule}",
        lambda m: holds(m.is_reserved(m.decode(word(sel, 16), word(raw)))),
        expected,
    )


RESERVED = (
    reserved("L of a data segment", 0x18, DATA | LONG, True),
    reserved("L of a segment that may only be read", 0x18, READ_ONLY | LONG, True),
    reserved("no L", 0x18, DATA, False),
    reserved("L of code", 0x10, CODE64, False),
    reserved("L of a system segment", 0x18, TSS64 | LONG, False),
    reserved("a null selector: its descriptor is not read", 0, DATA | LONG, False),
)

ROWS = (
    *DECODE,
    *SELECTORS,
    *CODE_LOADS,
    *DATA_LOADS,
    *STACK_LOADS,
    *ACCESSES,
    *REAL_MODE,
    *RESERVED,
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_descriptor_rule(row: Row) -> None:
    """One row: one rule with or without its cause."""
    assert row.outcome(descriptors) == row.expected


@pytest.mark.parametrize("raw", [CODE64, CODE64_NOT_ACCESSED])
def test_both_gdts_of_multikernel_have_a_loadable_64_bit_code_segment(raw: int) -> None:
    """Selector 10H, CPL 0, IA-32e mode."""
    faults = descriptors.code_load_faults(word(0x10, 16), word(raw), word(0, 2), z3.BoolVal(True))
    assert not holds(faults)


def test_a_segment_keeps_its_hidden_part_until_it_is_loaded() -> None:
    """Setting CR0.PE changes no segment: real-mode base and limit stay in force (unreal mode)."""
    flat = descriptors.decode(word(0x18, 16), word(DATA))
    unreal = descriptors.real_mode_load(flat, word(0x1234, 16))
    assert number(unreal.base) == 0x12340
    assert not holds(descriptors.access_faults(unreal, word(0xFFFF_0000, 32), 4, True))
    assert holds(
        descriptors.access_faults(
            replace(unreal, limit=word(0xFFFF, 32)), word(0xFFFF_0000, 32), 4, True
        )
    )
