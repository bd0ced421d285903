# SPDX-License-Identifier: GPL-2.0-only
"""The certificate file: one JSON document per trampoline and claim, all that a report may read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from harness.certify.certify import Certificate, Verdict

SCHEMA = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProofRecord(_Record):
    """One set of clauses and its proof. `file`: name of both without end; they are beside the
    certificate, in folder `proofs`, as .cnf.gz (DIMACS) and .lrat.gz (LRAT)."""

    question: str
    file: str
    variables: int
    clauses: int
    steps: int
    checkers: tuple[str, ...]  # that accept the proof
    seconds: float


class ObligationRecord(_Record):
    """What is said of one obligation; if it is certified, all its proofs are accepted."""

    name: str
    verdict: Verdict
    reason: str
    seconds: float
    proofs: tuple[ProofRecord, ...]


class ClaimCertificate(_Record):
    """The obligations of one claim of one trampoline. `tools`: those that took part, each with its
    version. `seconds`: of all, the checker that is verified included."""

    schema_version: int = SCHEMA
    trampoline: str
    claim: str
    sentence: str
    tools: tuple[str, ...]
    obligations: tuple[ObligationRecord, ...]
    seconds: float

    @property
    def certified(self) -> int:
        """How many obligations are certified."""
        return sum(one.verdict is Verdict.CERTIFIED for one in self.obligations)

    @property
    def failed(self) -> tuple[ObligationRecord, ...]:
        """Those that do not hold, or whose proof or clauses are wrong."""
        return tuple(one for one in self.obligations if one.verdict is Verdict.FAILED)


def recorded(
    certificate: Certificate, checker: str, second: str | None, accepted: dict[str, bool]
) -> ObligationRecord:
    """The record of one obligation. `checker` has accepted all its proofs; `second`, if there is
    one, those that are `accepted` by name: a proof that it rejects is a failure."""
    rejected = [proof.name for proof in certificate.proofs if second and not accepted[proof.name]]
    verdict, reason = certificate.verdict, certificate.reason
    if rejected:
        verdict, reason = Verdict.FAILED, f"{second} rejects {', '.join(rejected)}"
    return ObligationRecord(
        name=certificate.obligation,
        verdict=verdict,
        reason=reason,
        seconds=certificate.seconds,
        proofs=tuple(
            ProofRecord(
                question=proof.question,
                file=proof.name,
                variables=proof.variables,
                clauses=proof.clauses,
                steps=proof.steps,
                checkers=(checker, second) if second and accepted[proof.name] else (checker,),
                seconds=proof.seconds,
            )
            for proof in certificate.proofs
        ),
    )


def file_name(trampoline: str, claim: str) -> str:
    """Name of the certificate file of a claim."""
    return f"{trampoline}.{claim}.json"
