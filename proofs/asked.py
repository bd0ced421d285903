# SPDX-License-Identifier: GPL-2.0-only
"""What a claim asks: its obligations, collected instead of judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from harness.solve.obligation import Obligation
from proofs.prove import Prove
from proofs.subject import Subject

Claim = Callable[[Subject, Prove], None]


def asked(claim: Claim, subject: Subject) -> tuple[tuple[Obligation, ...], tuple[str, ...]]:
    """The obligations of a claim on a trampoline; and what the machine has refused on other runs
    that the claim speaks of, so that they are not all."""
    found: list[Obligation] = []
    refused: list[str] = []

    def collect(name: str, *obligations: Obligation, gaps: tuple[str, ...] = ()) -> None:
        found.extend(obligations)
        refused.extend(gaps)

    claim(subject, cast(Prove, collect))  # a claim does nothing with it but call it
    return tuple(found), tuple(refused)
