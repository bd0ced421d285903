# SPDX-License-Identifier: GPL-2.0-only
"""The memory log gives what a dictionary gives, for writes and reads at any kind of address."""

from __future__ import annotations

from random import Random

import pytest
import z3

from harness.solve.evaluate import compile_term
from harness.x86.memory import (
    EntryImage,
    Memory,
    Pages,
    RangeWrite,
    Record,
    Write,
    by_syntax,
    span_of,
)
from harness.x86.prover import Prover
from harness.x86.terms import ENTRY_MEMORY, INDEX, Base, const, index_symbol

PAGE = 0x1000
LOWEST, HIGHEST = 0x1000, 0x90000
WORD = z3.BitVec("word", 64)
WORD_AT = 0x18
UNKNOWN = frozenset(range(0x40, 0x60))
IMAGE = EntryImage(bytes(i * 7 & 0xFF for i in range(3 * PAGE)), UNKNOWN, {WORD_AT: WORD})
ASSUMED = [Base(LOWEST, HIGHEST).in_range()]

INPUTS = [
    {"sipi_vector": vector, "x": x, "y": y, "z": z, "word": 0x8877665544332211}
    for vector, x, y, z in (
        (0x01, 0, 0, 0),
        (0x90, 1, 1, 0xFFFF_FFFF_FFFF_FFFF),
        (0x10, 0x3B, 0x28, 0x10020),  # z at the image's byte 0x20
        (0x10, (1 << 64) - 8, 0x1007, 0x11002),
        (0x20, 0x123456789ABCDEF, 7, 0x2001D),
        (0x33, 0x28, 0x2F, 0x34FFC),  # across the image's first page border
    )
]
X, Y, Z = z3.BitVecs("x y z", 64)


def entry_byte(address: int, inputs: dict[str, int]) -> int:
    """Memory as the host left it: the image, with rubbish where it is unknown and around it."""
    offset = address - (inputs["sipi_vector"] << 12)
    if WORD_AT <= offset < WORD_AT + 8:
        return inputs["word"] >> 8 * (offset - WORD_AT) & 0xFF
    if 0 <= offset < len(IMAGE.data) and offset not in UNKNOWN:
        return IMAGE.data[offset]
    return address * 131 + (address >> 8) * 17 & 0xFF


def random_address(random: Random, base: Base) -> tuple[z3.BitVecRef, Pages]:
    """An address of some kind, and the pages of the image that hold 8 bytes there, if known."""
    offset = random.choice((0, 8, 16, 0x18, 0x20, 0x38, 0x48, 0x1000)) + random.choice(
        (0, 0, 0, 1, 4)
    )
    symbol = random.choice((X, Y))
    kind = random.randrange(5)
    if kind == 0:
        return base.at(offset), frozenset({offset & -PAGE})
    if kind == 1:  # aligned, somewhere in 64 bytes
        return z3.simplify(base.at(offset & -8) + (symbol & 0x38)), frozenset({offset & -PAGE})
    if kind == 2:  # at any byte of them
        return z3.simplify(base.at(offset) + (symbol & 0x3F)), frozenset({offset & -PAGE})
    if kind == 3:  # in either page
        page = z3.ZeroExt(51, z3.Concat(z3.Extract(3, 3, symbol), const(0, 12)))
        return z3.simplify(base.at(offset & 0x3F) + page), frozenset({0, PAGE})
    return z3.simplify(Z + random.randrange(4)), None


def random_value(random: Random, bits: int) -> z3.BitVecRef:
    constant = const(random.getrandbits(bits), bits)
    return random.choice((constant, z3.simplify(z3.Extract(bits - 1, 0, X) ^ constant)))


def random_record(random: Random, base: Base) -> Record:
    address, pages = random_address(random, base)
    pages = random.choice((pages, None))
    size = random.choice((1, 2, 4, 8))
    value = random_value(random, 8 * size)
    if random.random() < 0.6:
        return Write(address, size, value, pages)
    stride = size * random.choice((1, 1, 2, 8))
    step = z3.Extract(8 * size - 1, 0, index_symbol * random.getrandbits(16))
    count = random.choice((1, 2, 5, 16))
    record = RangeWrite(address, size, z3.simplify(value + step), count, stride, pages)
    if span_of(record) > 0x80:  # it may leave the page
        return RangeWrite(address, size, record.value, count, stride)
    return record


def apply(record: Record, content: dict[int, int], inputs: dict[str, int]) -> None:
    """The record's effect on a dictionary of bytes."""
    address, value = compile_term(record.address), compile_term(record.value)
    first = address(inputs, lambda at: 0)
    count, stride = (record.count, record.stride) if isinstance(record, RangeWrite) else (1, 0)
    for index in range(count):
        number = value(inputs | {INDEX: index}, lambda at: 0)
        for byte in range(record.size):
            at = (first + index * stride + byte) % (1 << 64)
            content[at] = number >> 8 * byte & 0xFF


@pytest.mark.parametrize("asks", ["syntax", "solver"])
@pytest.mark.parametrize("only_base", [None, 0x10000])
@pytest.mark.parametrize("seed", range(3))
def test_reads_give_what_a_dictionary_gives(seed: int, only_base: int | None, asks: str) -> None:
    random = Random(f"{seed} {only_base}")
    base = Base(LOWEST, HIGHEST) if only_base is None else Base(only_base, only_base)
    prover = Prover(ASSUMED)
    usable = [i for i in INPUTS if only_base is None or i["sipi_vector"] << 12 == only_base]
    for _ in range(3 if asks == "solver" else 8):
        memory = Memory(base, IMAGE)
        contents: list[dict[int, int]] = [{} for _ in usable]
        for _ in range(random.randrange(1, 6)):
            record = random_record(random, base)
            memory = memory.append(record)
            for content, inputs in zip(contents, usable, strict=True):
                apply(record, content, inputs)
        for size in (1, 2, 4, 8):
            address, pages = random_address(random, base)
            pages = random.choice((pages, None))
            ask = by_syntax if asks == "syntax" else lambda c: prover.possible((), c)
            term = memory.read(address, size, ask, pages)
            assert term.size() == 8 * size
            read, where = compile_term(term), compile_term(address)
            for content, inputs in zip(contents, usable, strict=True):

                def at_entry(at: int, inputs: dict[str, int] = inputs) -> int:
                    return entry_byte(at, inputs)

                first = where(inputs, at_entry)
                expected = [
                    content.get(at, entry_byte(at, inputs))
                    for at in ((first + byte) % (1 << 64) for byte in range(size))
                ]
                seen = read(inputs, at_entry).to_bytes(size, "little")
                assert list(seen) == expected, (memory.records, address, size, pages, inputs)


def test_an_earlier_memory_is_kept() -> None:
    base = Base(LOWEST, HIGHEST)
    first = Memory(base, IMAGE).append(Write(base.at(0x100), 4, const(1, 32)))
    second = first.append(Write(base.at(0x100), 4, const(2, 32)))
    assert first.read(base.at(0x100), 4).as_long() == 1
    assert second.read(base.at(0x100), 4).as_long() == 2
    assert second.before(1).read(base.at(0x100), 4).as_long() == 1
    assert second.before(0).read(base.at(0), 1).as_long() == IMAGE.data[0]


def test_reads_at_known_offsets_are_decided_by_arithmetic() -> None:
    base = Base(LOWEST, HIGHEST)
    fill = RangeWrite(base.at(0x1000), 8, z3.simplify(index_symbol + 5), 512, 8)
    memory = Memory(base, IMAGE).append(fill).append(Write(base.at(0x1008), 4, const(9, 32)))
    assert memory.read(base.at(0x1010), 8).as_long() == 7
    assert memory.read(base.at(0x1008), 8).as_long() == 9
    assert memory.read(base.at(0x1002), 2).as_long() == 0
    assert memory.read(base.at(WORD_AT), 8).eq(WORD)
    assert memory.read(base.at(0x2000), 2).as_long() == IMAGE.data[0] | IMAGE.data[1] << 8


def test_reads_at_known_distances_from_any_place_are_decided_by_arithmetic() -> None:
    def never(condition: z3.BoolRef) -> bool:
        raise AssertionError(f"a solver is asked whether {condition} is possible")

    fill = RangeWrite(Z, 8, z3.simplify(index_symbol + 5), 512, 8)
    copy = Write(z3.simplify(Z + 0x1001), 154, z3.BitVec("copied", 8 * 154))
    memory = Memory(Base(LOWEST, HIGHEST), IMAGE).append(fill).append(copy)
    assert memory.read(z3.simplify(Z + 0x10), 8, never).as_long() == 7
    assert memory.read(z3.simplify(Z + 0x1003), 2, never).eq(z3.Extract(31, 16, copy.value))
    assert memory.read(z3.simplify(Z + 0xFFC), 4, never).as_long() == 0
    assert memory.read(z3.simplify(Z - 1), 1, never).eq(ENTRY_MEMORY[z3.simplify(Z - 1)])
