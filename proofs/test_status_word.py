# SPDX-License-Identifier: GPL-2.0-only
"""Claim 8: the status word."""

from __future__ import annotations

import z3

from harness.solve.obligation import END, IMAGE, Obligation
from harness.x86.run import Access, EndKind, PathEnd
from harness.x86.terms import index_symbol
from proofs.handshake import goals
from proofs.prove import Prove
from proofs.subject import Subject
from trampoline.image import STATUS_WORD_SIZE


def test_status_word(subject: Subject, prove: Prove) -> None:
    """The first that a path writes to the status word is `started`, before it reads the mailbox. A
    refusal is the last, and then the CPU is parked; at the jump the word says `started`. Nothing
    else is ever written to it, or to a part of it. With a handshake, each of these is one locked
    instruction that expects what the word must be before, a commit comes before the jump, and
    nothing is written or read of the mailbox but between a claim and the end of the start."""
    prove("status_word", *(_of_path(subject, end) for end in subject.decided))


def _of_path(subject: Subject, end: PathEnd) -> Obligation:
    shake = subject.status.handshake
    found = _plain(subject, end) if shake is None else goals(subject, end, shake)
    shown_by = dict.fromkeys(found, (END, IMAGE))
    return subject.about(f"{subject.of(end)}: its status", end, found, shown_by=shown_by)


def _plain(subject: Subject, end: PathEnd) -> dict[str, z3.BoolRef]:
    """The word is written by plain stores."""
    status, found = subject.status, {}
    refused = status.refused.values if status.refused is not None else ()
    writes = [a for a in end.accesses if a.writes and not _misses_for_sure(subject, end, a)]
    for number, access in enumerate(end.accesses, start=1):
        name = f"access {number} at {access.instruction:#x}"
        if subject.reads_mailbox(access):
            now = subject.status_word(end, access.records)
            found[f"{name} reads the mailbox after `started`"] = now == status.started
        if access in writes:
            last = access is writes[-1] and access is not writes[0]
            allowed = refused if last and end.kind is EndKind.PARKED else ()
            found[f"{name} writes what it may to the status word, or nothing"] = _writes_well(
                subject, access, (status.started, *allowed)
            )
    word = subject.status_word(end)
    if end.kind is EndKind.HAND_OFF:
        found["at the jump the word says `started`"] = word == status.started
    if end.kind is EndKind.PARKED:
        found["the word names the refusal"] = z3.Or(*(word == value for value in refused))
    return found or {"no mailbox is read": z3.BoolVal(True)}


def _misses_for_sure(subject: Subject, end: PathEnd, access: Access) -> bool:
    start = end.memory.base.offset_of(access.linear)
    length = access.stride * (access.count - 1) + access.size
    word = subject.status_offset
    return start is not None and not (start < word + STATUS_WORD_SIZE and word < start + length)


def _writes_well(subject: Subject, access: Access, allowed: tuple[int, ...]) -> z3.BoolRef:
    """The write misses the word, or writes all of it with one of these values."""
    means = z3.BoolVal(False)
    if access.size == STATUS_WORD_SIZE and access.kind == "store":
        word = subject.base + subject.status_offset
        first = access.linear + index_symbol * access.stride
        means = z3.And(first == word, z3.Or(*(access.value == value for value in allowed)))
    counted = z3.ULT(index_symbol, access.count)
    return z3.Implies(counted, z3.Or(subject.spares_status(access), means))
