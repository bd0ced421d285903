# SPDX-License-Identifier: GPL-2.0-only
"""Claim 6: two starts that differ in nothing that matters hand over the same."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.run import EndKind
from proofs.prove import Prove
from proofs.subject import Subject
from proofs.two_starts import Other, shown_by, visible


def test_determined(subject: Subject, prove: Prove) -> None:
    """Base, mailbox, status word, lock and CPU features alone (and the control registers that a
    64-bit entry finds) decide which path is taken and what is handed over (RIP, RSI, control
    registers, segments, GDT, the translation of every address) or refused: not general registers
    and flags found at entry, upper halves, or what memory and tables held before."""
    anything = subject.from_any_registers
    obligations = _determined(anything)  # a start as INIT leaves the CPU is one of these
    if anything.left_out:
        obligations = _determined(subject) + obligations
    prove("determined", *obligations, gaps=anything.left_out)


def _determined(subject: Subject) -> list[Obligation]:
    """Two starts, the second one's symbols renamed, under the assumptions twice.

    What the machine refused is not judged, in neither start.
    """
    other = Other(subject)
    refused = [end.condition for end in subject.run.ends_of(EndKind.UNSUPPORTED)]
    hypotheses = (*subject.run.hypotheses, *map(z3.Not, refused))
    assumed = tuple(other.of(condition) for condition in hypotheses)
    obligations = []
    for end in subject.decided:
        name = f"{subject.of(end)}: {end.kind.value}"
        taken = {"the other start takes the same path": other.of(end.condition)}
        obligations.append(subject.about(f"{name}, taken", end, taken, *assumed))
        if end.kind in (EndKind.HAND_OFF, EndKind.PARKED):
            same = {
                f"{what} is the same": term == other.of(term)
                for what, term in visible(subject, end).items()
            }
            both = (*assumed, other.of(end.condition))
            shown = shown_by(same) if end.kind is EndKind.HAND_OFF else None
            obligations.append(subject.about(f"{name}, result", end, same, *both, shown_by=shown))
    return obligations
