# SPDX-License-Identifier: GPL-2.0-only
"""Several CPUs started in one image: one after the other, or at once."""

from __future__ import annotations

import z3

from harness.solve.obligation import NOTHING, Obligation
from harness.x86.run import Access, EndKind, PathEnd
from proofs.prove import Prove
from proofs.subject import Subject

HELD = 1
"""Bit 0 of the lock's word: somebody holds it."""


def test_one_at_a_time(subject: Subject, prove: Prove) -> None:
    """A CPU reads and writes memory, and executes operands that a start writes, only while it holds
    the lock: it has taken it by a locked instruction that found it free, has not given it back, and
    hands over without giving it back. So of the CPUs started in the image at once one goes on; the
    others wait, for as long as it takes, and find the image as that one and its kernel leave it."""
    prove("one_at_a_time", *(_alone(subject, end) for end in subject.decided))


def _alone(subject: Subject, end: PathEnd) -> Obligation:
    goals: dict[str, z3.BoolRef] = {}
    holds, taken = z3.BoolVal(False), len(end.accesses)
    for number, access in enumerate(end.accesses):
        name = f"access {number + 1}, a {access.kind} at {access.instruction:#x}"
        if subject.is_lock(end, access):
            goals[f"{name}, takes the lock, or gives it back"] = _takes(access, holds)
            found_free = access.seen & HELD == 0 if access.seen is not None else z3.BoolVal(False)
            sets = access.value & HELD == HELD
            taken = min(taken, number)
            holds = z3.simplify(z3.And(sets, z3.Or(holds, found_free)))
        else:
            goals[f"{name}, is made with the lock held"] = holds
    if end.kind is EndKind.HAND_OFF:
        goals["the lock is held at the jump"] = holds
    for place, (offset, _) in enumerate(end.trace):
        if subject.is_patched(offset):
            late = end.history[place].accesses > taken
            goals[f"the operand at {offset:#x} is executed with the lock held"] = z3.BoolVal(late)
    unseen = dict.fromkeys(goals, (NOTHING,))  # one CPU alone shows nothing of it
    name = f"{subject.of(end)}: {end.kind.value}"
    return subject.about(name, end, goals or _NO_ACCESS, shown_by=unseen)


_NO_ACCESS = {"nothing is read or written": z3.BoolVal(True)}


def _takes(access: Access, holds: z3.BoolRef) -> z3.BoolRef:
    """It is a locked bit test and set, or the holder's release, after which bit 0 is 0."""
    released = z3.And(holds, access.value & HELD == 0)
    if access.kind != "locked" or access.seen is None:
        return released
    return z3.Or(access.value == access.seen | HELD, released)
