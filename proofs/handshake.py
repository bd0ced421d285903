# SPDX-License-Identifier: GPL-2.0-only
"""The CPU's side of the handshake (trampoline/PROTOCOL.md): it claims the area, then commits or
refuses; each by one locked instruction that says what it takes the status word to be."""

from __future__ import annotations

import z3

from harness.x86.run import Access, EndKind, PathEnd
from proofs.subject import Subject
from trampoline.sections import Handshake


def locked(subject: Subject, end: PathEnd) -> list[Access]:
    """The path's locked accesses to the status word."""
    place, word = end.memory.base.offset_of, subject.status_offset
    found = [a for a in end.accesses if a.kind == "locked" and a.seen is not None]
    return [access for access in found if place(access.linear) == word]


def lost(subject: Subject, end: PathEnd) -> z3.BoolRef:
    """The CPU may park: the area was not offered to it, or the host had given up."""
    return z3.Or(*(z3.Not(_succeeds(access)) for access in locked(subject, end)[-1:]))


def goals(subject: Subject, end: PathEnd, shake: Handshake) -> dict[str, z3.BoolRef]:
    """What the handshake demands of a path, each as a sentence."""
    own, status = locked(subject, end), subject.status
    if not 1 <= len(own) <= 2:
        return {"there is a claim, then at most one end of the start": z3.BoolVal(False)}
    to_me = shake.offered + z3.ZeroExt(24, subject.run.features.apic_id)
    refused = status.refused.values if status.refused is not None else ()
    claims = _changes(own[0], to_me, status.started)
    found = {"the first locked access claims: from offered to me to started": claims}
    commits = refuses = over = z3.BoolVal(False)
    if len(own) > 1:
        commits = _changes(own[1], status.started, shake.running)
        refuses = z3.Or(*(_changes(own[1], status.started, value) for value in refused))
        ends = z3.And(_succeeds(own[0]), z3.Or(commits, refuses))
        found["the second commits or refuses, after a claim that succeeded"] = ends
        over = _succeeds(own[1])
    found |= _others(subject, end, own)
    if end.kind is EndKind.HAND_OFF:
        found["it jumps because it has committed"] = z3.And(commits, over)
    if end.kind is EndKind.PARKED:
        reason = z3.Or(refuses, z3.Not(over)) if len(own) > 1 else z3.Not(_succeeds(own[0]))
        found["it parks because it claimed in vain, refused, or was given up"] = reason
    return found


def _others(subject: Subject, end: PathEnd, own: list[Access]) -> dict[str, z3.BoolRef]:
    """Whatever else the path reads or writes, it does while the area is its own."""
    found = {}
    started, over = False, False
    for number, access in enumerate(end.accesses, start=1):
        if access in own:
            started, over = True, access is not own[0]
        else:
            mine = _succeeds(own[0]) if started and not over else z3.BoolVal(False)
            found[f"access {number} at {access.instruction:#x} is made by the owner"] = mine
        if access.writes and access not in own:
            name = f"access {number} at {access.instruction:#x} spares the status word"
            found[name] = subject.spares_status(access)
    return found


def _changes(access: Access, expected: z3.BitVecRef | int, value: int) -> z3.BoolRef:
    """The access writes `value` if it finds `expected`, and nothing else otherwise."""
    if access.expected is None:
        return z3.BoolVal(False)
    return z3.And(access.expected == expected, access.value == value)


def _succeeds(access: Access) -> z3.BoolRef:
    """The access found what it expected, if it expected anything."""
    if access.expected is None:
        return z3.BoolVal(True)
    return access.seen == access.expected
