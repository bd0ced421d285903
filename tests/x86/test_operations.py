# SPDX-License-Identifier: GPL-2.0-only
"""The table of p-code operations agrees with angr's own, which nobody here wrote."""

from __future__ import annotations

from random import Random

import claripy
import pytest
import z3
from angr.engines.pcode.behavior import BehaviorFactory
from pypcode import OpCode

from harness.lockstep.draw import corner_or_random
from harness.x86.pcode import BINARY, UNARY
from harness.x86.terms import const

ANGR = BehaviorFactory()
SIZES = (1, 2, 4, 8)
TRIES = 40

SHIFTS = {OpCode.INT_LEFT, OpCode.INT_RIGHT, OpCode.INT_SRIGHT}
TRUTHS = {OpCode.BOOL_AND, OpCode.BOOL_OR, OpCode.BOOL_XOR}


def _sizes(code: OpCode) -> list[tuple[int, int]]:
    if code in TRUTHS:
        return [(1, 1)]
    if code in SHIFTS:
        return [(a, b) for a in SIZES for b in SIZES]
    return [(size, size) for size in SIZES]


def _value(term: z3.BitVecRef) -> int:
    value: int = z3.simplify(term).as_long()
    return value


@pytest.mark.parametrize(
    "code", sorted(BINARY.keys() - {OpCode.PIECE}, key=str), ids=lambda code: code.name
)
def test_operations_on_two_values_agree_with_angr(code: OpCode) -> None:
    random = Random(code.name)
    for a_size, b_size in _sizes(code):
        for _ in range(TRIES):
            a, b = corner_or_random(random, 8 * a_size), corner_or_random(random, 8 * b_size)
            if code in SHIFTS:  # angr takes a bigger amount for a signed one or runs out of memory
                b = random.choice((random.randrange(8 * a_size + 3), b % 128))
            if code in TRUTHS:
                a, b = a & 1, b & 1
            ours = _value(BINARY[code](const(a, 8 * a_size), const(b, 8 * b_size)))
            theirs = ANGR.get_behavior_for_opcode(code).evaluate_binary(
                a_size, a_size, claripy.BVV(a, 8 * a_size), claripy.BVV(b, 8 * b_size)
            )
            # angr widens a value to the width of the amount and leaves it so.
            theirs_cut = theirs.concrete_value & ((1 << 8 * a_size) - 1)
            assert ours == theirs_cut, (hex(a), hex(b), a_size, b_size)


@pytest.mark.parametrize("code", sorted(UNARY, key=str), ids=lambda code: code.name)
def test_operations_on_one_value_agree_with_angr(code: OpCode) -> None:
    random = Random(code.name)
    widens = code in (OpCode.INT_ZEXT, OpCode.INT_SEXT)
    for size in SIZES:
        for size_out in [s for s in SIZES if (s > size if widens else s == size)]:
            for _ in range(TRIES):
                a = corner_or_random(random, 8 * size)
                if code == OpCode.BOOL_NEGATE:
                    a &= 1
                ours = _value(UNARY[code](const(a, 8 * size), 8 * size_out))
                theirs = ANGR.get_behavior_for_opcode(code).evaluate_unary(
                    size_out, size, claripy.BVV(a, 8 * size)
                )
                assert ours == theirs.concrete_value, (hex(a), size, size_out)


def test_piece_puts_the_first_operand_above_the_second() -> None:  # angr does not implement it
    assert _value(BINARY[OpCode.PIECE](const(0x12, 8), const(0x3456, 16))) == 0x123456
