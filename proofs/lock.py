# SPDX-License-Identifier: GPL-2.0-only
"""What a CPU may wait for: another one that holds the lock."""

from __future__ import annotations

import z3

from harness.x86.memory import Write, overlap
from harness.x86.run import Access, PathEnd
from harness.x86.terms import const, index_symbol
from models.at_once import FREE
from proofs.subject import Subject
from trampoline.image import LOCK_WORD_SIZE


def waits_for_another(subject: Subject, end: PathEnd) -> dict[str, z3.BoolRef]:
    """Of a path that comes round in a loop: as sentences, why it is left some time.

    Each way round finds in the lock that it is held, and not by this CPU. So there is no endless
    way of which each read finds the lock free from some time on: of the rounds of which it is made
    the first one then would be none. (A round is told by `harness.x86.waits`.)
    """
    assert end.round is not None and subject.contract.lock is not None
    lock = subject.image.symbols[subject.contract.lock.word]
    next_round = end.history[-1].accesses  # the last instruction begins it
    before, once = end.accesses[: end.round], end.accesses[end.round : next_round]
    at = end.memory.base.offset_of
    reads = [one for one in once if one.seen is not None and at(one.linear) == lock]
    return {
        "each round finds the lock held": z3.Or(*(one.seen != FREE for one in reads)),
        "it waits for a lock that it does not hold itself": z3.Not(_holds(end, before, lock)),
    }


def _holds(end: PathEnd, accesses: tuple[Access, ...], lock: int) -> z3.BoolRef:
    """The CPU holds the lock after these: it has found it free and left it not so."""
    base = end.memory.base
    word = Write(base.at(lock), LOCK_WORD_SIZE, const(0, 8 * LOCK_WORD_SIZE))
    holds = z3.BoolVal(False)
    for access in accesses:
        if not access.writes:
            continue
        if base.offset_of(access.linear) != lock or access.size != LOCK_WORD_SIZE:
            first = access.linear + index_symbol * access.stride
            meets = z3.And(z3.ULT(index_symbol, access.count), overlap(word, first, access.size))
            holds = z3.Or(holds, meets)
            continue
        written, was_free = access.value, z3.BoolVal(True)
        if access.seen is not None:
            was_free = access.seen == FREE
            if access.expected is not None:
                written = z3.If(access.seen == access.expected, written, access.seen)
        holds = z3.And(written != FREE, z3.Or(holds, was_free))
    return holds
