# SPDX-License-Identifier: GPL-2.0-only
"""What a contract expects of a claim, and whether a verdict meets it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record import Evidence
from harness.solve.obligation import Verdict
from trampoline.contract import Contract


@dataclass(frozen=True)
class Golden:
    """`expected` is "" if the contract names no verdict: then PROVED is wanted."""

    expected: str
    finding: str
    title: str
    evidence: Evidence

    def met(self, verdict: str, shown: Evidence | None) -> bool:
        """Whether this is the verdict, and, of a refutation, what its replay gave (None: of none).

        Where nothing can be replayed on this machine the verdict alone counts.
        """
        right = verdict == (self.expected or Verdict.PROVED)
        return right and shown in (None, self.evidence, Evidence.NOT_REPLAYED)


def golden(contract: Contract, claim: str) -> Golden:
    """What `contract` expects of `claim`."""
    named = {str(name): want for name, want in contract.expected.items()}.get(claim)
    if named is None:
        return Golden("", "", "", Evidence.CONFIRMED)
    return Golden(named.verdict, named.finding or "", named.title or "", Evidence(named.evidence))
