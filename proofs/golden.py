# SPDX-License-Identifier: GPL-2.0-only
"""What a contract expects of a claim, whether a verdict meets it, and the record that says so."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record import ClaimRecord, Evidence
from harness.solve.obligation import Verdict
from reports.causes import cause
from reports.fingerprint import fingerprint
from trampoline.contract import Contract

MARK = fingerprint()
"""Of the files that this process has begun with."""


@dataclass(frozen=True)
class Golden:
    """`expected` is "" if the contract names no verdict: then PROVED is wanted. `cause`: "" if any
    will do."""

    expected: str
    finding: str
    title: str
    cause: str
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
        return Golden("", "", "", "", Evidence.CONFIRMED)
    words = (named.finding or "", named.title or "", named.cause or "")
    return Golden(named.verdict, *words, Evidence(named.evidence))


def claim_record(
    contract: Contract,
    claim: str,
    sentence: str,
    verdict: str,
    reason: str,
    seconds: float,
    **fields: object,
) -> ClaimRecord:
    """The record of a claim on the contract's trampoline. `fields`: more of the record's."""
    want = golden(contract, claim)
    said: dict[str, object] = {
        "of": MARK,
        "trampoline": contract.name,
        "summary": contract.summary,
        "claim": claim,
        "sentence": " ".join(sentence.split()),
        "verdict": verdict,
        "expected": want.expected,
        "finding": want.finding,
        "title": want.title,
        "as_expected": False,
        "reason": reason,
        "seconds": seconds,
        "obligations": (),
        "witness": None,
        "samples": None,
        "bases": (),
        "paths": (),
        "not_reached": (),
    }
    record = ClaimRecord.model_validate(said | fields)
    shown = record.replay.evidence if record.replay is not None else None
    contradicted = record.samples is not None and bool(record.samples.contradictions)
    met = want.met(verdict, shown) and not contradicted
    found = cause(record)
    if found is not None and want.cause not in ("", found.fingerprint):
        met, why = False, f"another cause than that of {want.finding} ({want.cause})"
        record = record.model_copy(update={"reason": f"{why}: {found.fingerprint}: {reason}"})
    return record.model_copy(update={"as_expected": met})
