# SPDX-License-Identifier: GPL-2.0-only
"""Claim 8: the status word."""

from __future__ import annotations

import z3

from harness.solve.obligation import END, IMAGE, Obligation
from harness.x86.run import Access, EndKind, PathEnd
from harness.x86.terms import index_symbol
from proofs.prove import Prove
from proofs.subject import Subject

SIZE = 4
"""Bytes of the status word."""


def test_status_word(subject: Subject, prove: Prove) -> None:
    """The first that a path writes to the status word is `started`, before it reads the mailbox. A
    refusal is the last, and then the CPU is parked; at the jump the word says `started`. Nothing
    else is ever written to it, or to a part of it."""
    prove("status_word", *(_of_path(subject, end) for end in subject.decided))


def _of_path(subject: Subject, end: PathEnd) -> Obligation:
    status, goals = subject.contract.status, {}
    refused = status.refused.values if status.refused is not None else ()
    writes = [a for a in end.accesses if a.writes and not _misses_for_sure(subject, end, a)]
    for number, access in enumerate(end.accesses, start=1):
        name = f"access {number} at {access.instruction:#x}"
        if access.kind == "load" and _reads_mailbox(subject, access):
            now = subject.status_word(end, access.records)
            goals[f"{name} reads the mailbox after `started`"] = now == status.started
        if access in writes:
            last = access is writes[-1] and access is not writes[0]
            allowed = refused if last and end.kind is EndKind.PARKED else ()
            goals[f"{name} writes what it may to the status word, or nothing"] = _writes_well(
                subject, access, (status.started, *allowed)
            )
    word = subject.status_word(end)
    if end.kind is EndKind.HAND_OFF:
        goals["at the jump the word says `started`"] = word == status.started
    if end.kind is EndKind.PARKED:
        goals["the word names the refusal"] = z3.Or(*(word == value for value in refused))
    goals = goals or {"no mailbox is read": z3.BoolVal(True)}
    shown_by = dict.fromkeys(goals, (END, IMAGE))
    return subject.about(f"{subject.of(end)}: its status", end, goals, shown_by=shown_by)


def _reads_mailbox(subject: Subject, access: Access) -> bool:
    """The access may read a mailbox word: it does unless it is known to lie elsewhere."""
    offset = z3.simplify(access.linear - subject.base)
    if not z3.is_bv_value(offset):
        return True
    mailbox, first = subject.contract.mailbox, offset.as_long()
    words = (subject.image.symbols[symbol] for symbol in (mailbox.kernel, mailbox.boot_params))
    return any(word - access.size < first < word + 8 for word in words)


def _misses_for_sure(subject: Subject, end: PathEnd, access: Access) -> bool:
    start = end.memory.base.offset_of(access.linear)
    length = access.stride * (access.count - 1) + access.size
    word = subject.status_offset
    return start is not None and not (start < word + SIZE and word < start + length)


def _writes_well(subject: Subject, access: Access, allowed: tuple[int, ...]) -> z3.BoolRef:
    """The write misses the word, or writes all of it with one of these values."""
    word = subject.base + subject.status_offset
    first = access.linear + index_symbol * access.stride
    misses = z3.And(z3.UGE(first - word, SIZE), z3.UGE(word - first, access.size))
    means = z3.BoolVal(False)
    if access.size == SIZE and access.kind == "store":
        means = z3.And(first == word, z3.Or(*(access.value == value for value in allowed)))
    return z3.Implies(z3.ULT(index_symbol, access.count), z3.Or(misses, means))
