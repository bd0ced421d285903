# SPDX-License-Identifier: GPL-2.0-only
"""x86's memory order (TSO) by store buffers: stores become visible in order, but late.

SDM 3A 9.2 "Memory Ordering" (9.2.2: reads may pass older writes to other locations; writes of one
processor are seen in order; locked instructions have a total order and nothing passes them), 9.2.5
"Strengthening or Weakening the Memory-Ordering Model", 12.10 "Store Buffer". That this machine is
what these rules describe: Sewell et al., "x86-TSO", CACM 53(7), 2010.

Each CPU has a buffer, first in, first out. A store goes into it; its oldest store may reach memory
at any moment; a load takes the youngest store to its word from the own buffer, else memory; a fence
or a locked instruction waits until the buffer is empty.

Words and values are integers. A buffer holds as many stores as the model gives it slots; whoever
uses it has to show that no store finds it full (`is_full`), or to let that store wait.
"""

from __future__ import annotations

from dataclasses import dataclass

import z3

EMPTY = 0
"""The word of a slot that holds no store. Words are numbered from 1."""


@dataclass(frozen=True)
class Slot:
    """One store that no other CPU sees yet."""

    word: z3.ArithRef
    value: z3.ArithRef


Buffer = tuple[Slot, ...]
"""Oldest store first; empty slots last."""

NOTHING = Slot(z3.IntVal(EMPTY), z3.IntVal(0))


def is_empty(buffer: Buffer) -> z3.BoolRef:
    """A fence or a locked instruction may be executed."""
    return buffer[0].word == EMPTY if buffer else z3.BoolVal(True)


def is_full(buffer: Buffer) -> z3.BoolRef:
    """There is no slot for one more store."""
    return buffer[-1].word != EMPTY if buffer else z3.BoolVal(True)


def holds(buffer: Buffer, word: int) -> z3.BoolRef:
    """A store to `word` is on its way."""
    found = z3.BoolVal(False)
    for slot in buffer:
        found = z3.Or(found, slot.word == word)
    return found


def with_store(buffer: Buffer, word: int, value: z3.ArithRef) -> Buffer:
    """The buffer after one more store. Meaningful only if it was not full."""
    after = []
    free_before = z3.BoolVal(False)
    for slot in buffer:
        free = slot.word == EMPTY
        first_free = z3.And(free, z3.Not(free_before))
        after.append(Slot(z3.If(first_free, word, slot.word), z3.If(first_free, value, slot.value)))
        free_before = free
    return tuple(after)


def without_oldest(buffer: Buffer) -> Buffer:
    """The buffer after its oldest store has reached memory."""
    return (*buffer[1:], NOTHING)


def seen(buffer: Buffer, word: int, memory: z3.ArithRef) -> z3.ArithRef:
    """What a load of `word` by this CPU reads, if memory holds `memory` there."""
    value = memory
    for slot in buffer:
        value = z3.If(slot.word == word, slot.value, value)
    return value
