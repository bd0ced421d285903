# SPDX-License-Identifier: GPL-2.0-only
"""Claim 2: the jump."""

from __future__ import annotations

import z3

from harness.solve.obligation import END, IMAGE, OUTSIDE, Obligation
from harness.x86.run import EndKind, PathEnd
from proofs.handshake import lost
from proofs.lock import waits_for_another
from proofs.prove import Prove
from proofs.subject import Subject

SHOWN_BY = {
    "RSI holds the physical address of boot_params": ("rsi",),
    "paging is on": ("cr0", "cr4"),
    "interrupts are off": ("if",),
    "the CS selector is __BOOT_CS (0x10)": ("cs",),
    "the DS, ES and SS selectors are __BOOT_DS (0x18)": ("ds", "es", "ss"),
}
"""The demands of the entry protocol that a replay shows, where the payload is reached."""


def test_hand_off(subject: Subject, prove: Prove) -> None:
    """Every path ends with the jump to the kernel's entry, RSI = boot_params where the kernel wants
    that, in the state that the contract's entry protocol demands; or in a justified refusal that
    the host can see, with the CPU parked and nothing outside the image written. With a handshake it
    may also park where the area was not offered to it, or the host has given up. Without a status
    word it may park for the contract's reasons; with a lock it may wait for as long as another CPU
    holds it, and no longer."""
    prove("hand_off", *(_ends_well(subject, end) for end in subject.decided))


def _ends_well(subject: Subject, end: PathEnd) -> Obligation:
    name = f"{subject.of(end)}: {end.kind.value}"
    if end.kind is EndKind.HAND_OFF:
        goals = subject.hand_off_state(end)
        shown_by = {goal: seen for goal, seen in SHOWN_BY.items() if goal in goals}
        return subject.about(name, end, goals, shown_by=shown_by)
    if end.kind is EndKind.PARKED and subject.refusals:
        return _refuses(subject, name, end)
    if end.kind is EndKind.PARKED and subject.park_reasons:
        named = "it parks for a reason that the contract allows"
        return subject.about(name, end, {named: z3.Or(*subject.park_reasons)})
    if end.kind is EndKind.WAITING and subject.contract.lock is not None:
        return subject.about(name, end, waits_for_another(subject, end))
    goal = f"the path does not end with: {end.detail or end.kind.value}"
    return subject.about(name, end, {goal: z3.BoolVal(False)})


def _refuses(subject: Subject, name: str, end: PathEnd) -> Obligation:
    status, image = subject.status_word(end), range(len(subject.image.data))
    justified = [
        z3.And(status == value, condition) for value, condition in subject.refusals.values()
    ]
    if subject.status.handshake is not None:
        justified.append(lost(subject, end))
    named = "the status word names what is refused, for a reason"
    goals = {named: z3.Or(*justified)}
    shown_by: dict[str, tuple[str, ...]] = {named: (END, IMAGE)}
    for number, access in enumerate(subject.writes(end), start=1):
        inside = f"write {number} lies in the image"
        goals[inside], shown_by[inside] = subject.lies_in(access, [image]), (OUTSIDE,)
    return subject.about(name, end, goals, shown_by=shown_by)
