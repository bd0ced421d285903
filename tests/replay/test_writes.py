# SPDX-License-Identifier: GPL-2.0-only
"""The writes of a path on concrete inputs: stores, windows and single bytes agree."""

from __future__ import annotations

import pytest
import z3

from harness.replay.writes import CompiledWrite, Values
from harness.x86.memory import RangeWrite, Record, Write
from harness.x86.terms import index_symbol

x = z3.BitVec("x", 64)
VALUES = Values(x=0x1122_3344_5566_7788)
RECORDS: dict[str, Record] = {
    "one store": Write(x, 8, x + 1),
    "one byte": Write(x, 1, z3.BitVecVal(0x5A, 8)),
    "a dense range": RangeWrite(x, 4, z3.Extract(31, 0, index_symbol * 0x0101_0101), 5, 4),
    "a constant range": RangeWrite(x, 2, z3.BitVecVal(0x1234, 16), 3, 2),
    "a range with gaps": RangeWrite(x, 2, z3.Extract(15, 0, x + index_symbol), 3, 8),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_each_byte_is_that_of_the_stores_and_gaps_have_none(record: Record) -> None:
    write = CompiledWrite(record)

    def memory(address: int) -> int:
        raise AssertionError(f"no value here depends on memory at {address:#x}")

    stored = {
        place + index: byte
        for place, data in write.stores(0, VALUES, memory)
        for index, byte in enumerate(data)
    }
    around = range(-3, write.span + 3)
    assert {at: write.byte(at, VALUES, memory) for at in around} == {
        at: stored.get(at) for at in around
    }
    window = bytearray(b"\xee" * write.span)
    write.apply(window, 0, VALUES, memory)
    assert list(window) == [stored.get(at, 0xEE) for at in range(write.span)]
