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


@pytest.mark.parametrize("term", [term for term, words in WORDS if words != ""])
def test_what_is_written_has_the_term_s_value(term: z3.BitVecRef) -> None:
    words = in_words(term)
    assert words
    python = re.sub(r"(\w+)\[(\d+):(\d+)\]", r"(\1 >> \3 & (1 << \2 - \3 + 1) - 1)", words)
    rng = random.Random(1)
    for _ in range(50):
        values = {"kernel_phys_addr": rng.getrandbits(64), "other": rng.getrandbits(64)}
        vector = rng.getrandbits(8)
        pairs = [
            (KERNEL, z3.BitVecVal(values["kernel_phys_addr"], 64)),
            (OTHER, z3.BitVecVal(values["other"], 64)),
            (SIPI, z3.BitVecVal(vector, 8)),
        ]
        right = z3.simplify(z3.substitute(term, *pairs)).as_long()
        assert eval(python, {"base": vector << 12, **values}) % (1 << 64) == right


def test_a_long_term_is_left_out() -> None:
    names = [z3.BitVec(f"a_rather_long_name_{number}", 64) for number in range(5)]
    assert len(" + ".join(map(str, names))) > MOST
    assert in_words(sum(names[1:], names[0])) == ""
