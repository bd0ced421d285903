# SPDX-License-Identifier: GPL-2.0-only
"""What is at the root of a refutation: a condition, at an instruction; not what input shows it.

Two refutations with the same cause are one defect. A cause's fingerprint is that of all that is
known to be violated: by the smallest input, by any schedule, of any goal. It leaves out what an
edit elsewhere in the source changes: lines, offsets, operands, how many accesses came before.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from harness.record import ClaimRecord, StepRecord, WitnessRecord

PROVED = "PROVED"
REFUTED = "REFUTED"
_NUMBERED = re.compile(r"\b(access|load|store) \d+\b")
_AT = re.compile(r" at (0x[0-9a-f]+)\b")
_DISTANCE = re.compile(r"\+0x[0-9a-f]+$")
_OPERANDS = re.compile(r"`([\w.]+)[^`]*`")
_CPU = re.compile(r"\bCPU \d+\b")


@dataclass(frozen=True)
class Cause:
    """Of one claim on one trampoline.

    `condition`: what is violated, in words. `place`: the symbol before the instruction that
    violates it, `operation`: what that does, `source`: "file:line" of it. Each is "" where nobody
    knows: a schedule of host and CPUs, for one, ends with a step that need not have a line.
    """

    trampoline: str
    claim: str
    condition: str
    place: str
    operation: str
    source: str
    violated: tuple[str, ...] = ()
    """All that is, each with its place, in a form that edits elsewhere do not change."""

    @property
    def fingerprint(self) -> str:
        """The same as long as the defect is: of everything but the line."""
        parts = (self.trampoline, self.claim, *sorted(set(self.violated)))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cause(record: ClaimRecord) -> Cause | None:
    """The cause of the smallest refutation; None of a claim that is not refuted."""
    if record.verdict != REFUTED:
        return None
    condition, place, operation, source = record.reason, "", "", ""
    violated: list[str] = []
    if record.witness is not None and record.witness.violated:
        for said in reversed(record.witness.violated):  # the first one last: it is what is shown
            step = _step(record.witness, said)
            condition = _AT.sub("", _NUMBERED.sub(r"\1", said))
            if step is not None:
                place, source = _DISTANCE.sub("", step.symbol), step.source
                operation = step.instruction.split(" ")[0] if step.count else ""
            violated.append(_form(condition, place, operation))
    elif record.schedules and record.schedules[0].events:
        last = record.schedules[0].events[-1]
        condition, operation = record.schedules[0].shows, f"{last.who}: {last.what}"
        is_line = re.fullmatch(r"[\w./-]+:\d+", last.where) is not None
        place = _DISTANCE.sub("", last.where.rpartition(":")[0] if is_line else last.where)
        source = last.where if is_line else ""
        violated = [_form(condition, place, operation)]
        violated += [_form(one.shows, "", "") for one in record.schedules[1:]]
    elif record.goals:
        condition = record.goals[0].goal
        violated = [_form(one.goal, "", "") for one in record.goals]
    known = tuple(violated) or (_form(condition, "", ""),)
    return Cause(record.trampoline, record.claim, condition, place, operation, source, known)


def _form(condition: str, place: str, operation: str) -> str:
    """Without operands and without a CPU's number."""
    plain = _OPERANDS.sub(r"`\1`", condition)
    return "\0".join((plain, place, _CPU.sub("CPU", operation)))


def _step(witness: WitnessRecord, violated: str) -> StepRecord | None:
    """The instruction that the violated condition names; else the last one that was executed."""
    executed = [step for step in witness.path if step.count]
    if (named := _AT.search(violated)) is not None:
        at = [step for step in executed if step.offset == named[1]]
        if at:
            return at[0]
    ended = witness.path[-1] if witness.path else None
    if ended is not None:
        # What faults is not executed: the end stands where it lies.
        there = [step for step in executed if step.offset == ended.offset]
        return there[-1] if there else ended
    return None
