# SPDX-License-Identifier: GPL-2.0-only
"""Terms in words: short, right for every value, or nothing."""

from __future__ import annotations

import random
import re

import pytest
import z3

from harness.replay.symbolic import MOST, in_words
from harness.x86.terms import VECTOR

KERNEL, OTHER = z3.BitVecs("kernel_phys_addr other", 64)
SIPI = z3.BitVec(VECTOR, 8)
BASE = z3.ZeroExt(44, z3.Concat(SIPI, z3.BitVecVal(0, 12)))
WORDS = [
    (KERNEL, "kernel_phys_addr"),
    (BASE, "base"),
    (BASE + 0x5C, "base + 0x5c"),
    (BASE + 0x2000, "base + 0x2000"),
    (z3.ZeroExt(56, SIPI), "base[19:12]"),
    (KERNEL - 8, "kernel_phys_addr - 0x8"),
    (KERNEL + OTHER, "kernel_phys_addr + other"),
    (z3.LShR(KERNEL, 30) << 3, "kernel_phys_addr[63:30] << 3"),
    ((KERNEL & 0xFFFF_FFFF_C000_0000) + 0x183, "(kernel_phys_addr[63:30] << 30) + 0x183"),
    (z3.Concat(z3.Extract(31, 0, OTHER), z3.Extract(31, 0, KERNEL)), None),
    (KERNEL ^ OTHER, "kernel_phys_addr ^ other"),
    (z3.LShR(KERNEL, OTHER), ""),
    (z3.If(KERNEL == 0, OTHER, KERNEL), ""),
    (z3.BitVecVal(7, 64), ""),
    (z3.Array("memory", z3.BitVecSort(64), z3.BitVecSort(8)), ""),
]


@pytest.mark.parametrize(("term", "words"), WORDS)
def test_a_term_is_written_as_people_write_it(term: z3.ExprRef, words: str | None) -> None:
    if words is not None:
        assert in_words(term) == words


A32, B32 = z3.BitVecs("a b", 32)
C8 = z3.BitVec("c", 8)
MIXED = [
    z3.Concat(A32 + B32, A32),
    z3.Concat(A32 + B32, z3.BitVecVal(0x10, 32)),
    z3.ZeroExt(32, A32 - 8),
    KERNEL + z3.ZeroExt(32, A32 + 5),
    z3.Concat(A32 << 3, B32),
    KERNEL ^ (OTHER | z3.ZeroExt(56, C8)),
    z3.Extract(63, 12, KERNEL + z3.ZeroExt(32, z3.Extract(31, 0, OTHER))),
    z3.Extract(31, 0, KERNEL) - 4,
    z3.ZeroExt(32, z3.Extract(31, 0, OTHER) - 4),
    z3.Concat(C8 | z3.Extract(7, 0, A32), C8),
    z3.LShR(KERNEL + OTHER, 12),
    (KERNEL << 4) + (OTHER & 0xFF0),
    z3.LShR(A32 + B32, 4),
    (A32 + 1) | B32,
]
"""Parts that wrap around before the whole does, and operators inside each other."""


def value_of(words: str, values: dict[str, int]) -> int:
    """As Python reads the words, but that its bits bind tightest."""
    bits = re.compile(r"(\w+|\([^()]*\)|\((?:[^()]|\([^()]*\))*\))\[(\d+):(\d+)\]")
    while bits.search(words):
        words = bits.sub(r"((\1) >> \3 & (1 << \2 - \3 + 1) - 1)", words, count=1)
    return int(eval(words, dict(values)))


@pytest.mark.parametrize("term", [*(term for term, words in WORDS if words != ""), *MIXED])
def test_what_is_written_has_the_term_s_value(term: z3.BitVecRef) -> None:
    words = in_words(term)
    assert words
    symbols = [KERNEL, OTHER, SIPI, A32, B32, C8]
    rng = random.Random(1)
    edges = [0, 1, 7, (1 << 64) - 1]
    for number in range(100):
        drawn = {
            str(one): (rng.choice(edges) if number % 2 else rng.getrandbits(64)) % (1 << one.size())
            for one in symbols
        }
        pairs = [(one, z3.BitVecVal(drawn[str(one)], one.size())) for one in symbols]
        right = z3.simplify(z3.substitute(term, *pairs)).as_long()
        values = {**drawn, "base": drawn[VECTOR] << 12}
        assert value_of(words, values) % (1 << term.size()) == right, words


def test_a_sum_that_wraps_inside_a_wider_term_is_named_by_its_bits() -> None:
    assert in_words(z3.ZeroExt(32, A32 - 8)) == "(a - 0x8)[31:0]"
    assert in_words(z3.Concat(A32 + B32, z3.BitVecVal(0x10, 32))) == "((a + b)[31:0] << 32) + 0x10"


def test_a_term_that_shares_its_parts_is_given_up_at_once() -> None:
    term = KERNEL
    for number in range(60):
        term = z3.RotateLeft(term, 5) ^ (term + number)
    assert in_words(term) == ""
    for _ in range(3000):
        term = (term ^ OTHER) | KERNEL
    assert in_words(term) == ""


def test_a_long_term_is_left_out() -> None:
    names = [z3.BitVec(f"a_rather_long_name_{number}", 64) for number in range(5)]
    assert len(" + ".join(map(str, names))) > MOST
    assert in_words(sum(names[1:], names[0])) == ""
