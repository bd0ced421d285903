# SPDX-License-Identifier: GPL-2.0-only
"""Several entries of one image, and several starts of it: they hand over the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import z3

from harness.solve.obligation import Obligation
from harness.x86.given import at_entry, kept_parts
from harness.x86.run import LASTING, EndKind, PathEnd
from proofs.prove import Prove
from proofs.subject import Subject
from proofs.two_starts import Other, shown_by, visible

Seen = Callable[[Subject, PathEnd], dict[str, z3.ExprRef]]
"""What is compared of a hand-over, by name."""


def test_entries_agree(subject: Subject, prove: Prove) -> None:
    """Whatever is handed over from one entry is handed over from each other entry, too, with the
    same state: RIP, RSI, RSP if it points into the image, control registers (so CR0.NE on the way
    decides nothing), segments, GDT, IDTR. A CPU may wait for the lock on its way."""
    entries = subject.contract.entry
    first = [number for number, entry in enumerate(entries) if entry.after is None]
    pairs = permutations(first, 2)
    prove("entries_agree", *(o for pair in pairs for o in _agree(subject, *pair, _handed_over)))


def test_once(subject: Subject, prove: Prove) -> None:
    """A start that finds the image as an earlier one has left it hands over the same as that one,
    and leaves in the image what it found there, also if it parks: so every later start does."""
    obligations = []
    names = [entry.called for entry in subject.contract.entry]
    for number, entry in enumerate(subject.contract.entry):
        if entry.after is not None:
            obligations += _agree(subject, names.index(entry.after), number, visible)
            lasting = [end for end in subject.ends if end.entry == number and end.kind in LASTING]
            obligations += [_leaves(subject, end) for end in lasting]
    prove("once", *obligations)


def _agree(subject: Subject, one: int, another: int, seen: Seen) -> list[Obligation]:
    """What a start at entry `one` hands over, a start at entry `another` does, too."""
    other = Other(subject, same_entry=False)
    there = other.of(at_entry(another, subject.contract))
    assumed = (*(other.of(condition) for condition in subject.run.hypotheses), there)
    others = [end for end in subject.ends if end.entry == another]
    arrives = [e for e in others if e.kind in (EndKind.HAND_OFF, EndKind.WAITING)]
    names = subject.run.entries
    obligations = []
    for end in _hand_offs(subject, one):
        name = f"{subject.of(end)}, entry {names[one]}, and entry {names[another]}"
        too = {"the other start hands over, too": z3.Or(*(other.of(e.condition) for e in arrives))}
        obligations.append(subject.about(f"{name}: taken", end, too, *assumed))
        for counterpart in _hand_offs(subject, another):
            mine, its = seen(subject, end), seen(subject, counterpart)
            same = {f"{what} is the same": mine[what] == other.of(its[what]) for what in mine}
            both = (*assumed, other.of(counterpart.condition))
            about = f"{name}, {subject.of(counterpart)}: result"
            if not subject.exclude_each_other(end, both):
                obligations.append(subject.about(about, end, same, *both, shown_by=shown_by(same)))
    return obligations


def _handed_over(subject: Subject, end: PathEnd) -> dict[str, z3.ExprRef]:
    """What is visible, and what a start may leave as found, but every entry must leave alike."""
    state, stack = end.state, subject.contract.stack
    seen = visible(subject, end)
    seen |= {"IDTR.base": state.idtr_base, "IDTR.limit": state.idtr_limit}
    if stack is not None and stack.start is not None:
        seen["RSP"] = state.registers["rsp"]
    return seen


def _leaves(subject: Subject, end: PathEnd) -> Obligation:
    """What is kept in the image is at the end as it was at the begin."""
    memory, goals = end.memory, {"nothing is kept": z3.BoolVal(True)}
    for part in kept_parts(subject.contract, subject.image):
        at = memory.base.at(part.start)
        before, after = (m.read(at, len(part)) for m in (memory.before(end.found), memory))
        goals[f"the bytes {part.start:#x} to {part.stop:#x} are left as they were"] = (
            before == after
        )
    return subject.about(f"{subject.of(end)}: what it leaves", end, goals)


def _hand_offs(subject: Subject, entry: int) -> list[PathEnd]:
    return [end for end in subject.hand_offs if end.entry == entry]
