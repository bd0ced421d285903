# SPDX-License-Identifier: GPL-2.0-only
"""Claim 4: nothing faults."""

from __future__ import annotations

from harness.x86.run import EndKind
from proofs.prove import Prove
from proofs.subject import Subject


def test_no_fault(subject: Subject, prove: Prove) -> None:
    """No fetch, access, selector load, jump or write to a control register or MSR faults on any
    path before the hand-off."""
    faults = [end for end in subject.decided if end.kind is EndKind.SHUTDOWN]
    prove("no_fault", *subject.never(faults, "no path faults"))
