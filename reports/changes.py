# SPDX-License-Identifier: GPL-2.0-only
"""What changed from one night to another: what is new, and as loudly what is gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from harness.record import ClaimRecord, Evidence
from reports.causes import PROVED, REFUTED, cause
from reports.summary import evidence_words, in_order, is_contradicted

SLOWER = 1.5
"""How many times as much work a claim may be for z3. Work is counted in z3's resource units: how
many seconds that takes depends on the machine, and on what else it does."""
NOTICED = 10_000_000
"""Units, about a second: of less nobody takes notice."""


class Kind(StrEnum):
    """What happened to a claim, the worst first."""

    CONTRADICTED = "contradicted"  # QEMU does something else than was proved or predicted
    NEW_FINDING = "new finding"
    UNDECIDED = "undecided"  # it was decided before
    OTHER_CAUSE = "another cause"  # refuted as before, by another defect
    SAFE_SET = "safe set"  # it holds for other inputs than before
    FIXED = "fixed"
    GONE = "gone"
    NEW_CLAIM = "new claim"
    VERDICT = "verdict"
    EVIDENCE = "evidence"
    SLOWER = "slower"


class Change(BaseModel):
    """One claim of which something changed; `text` says what, in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    trampoline: str
    claim: str
    text: str

    @property
    def line(self) -> str:
        """For a terminal."""
        return f"{self.kind}: {self.trampoline} {self.claim}: {self.text}"


def changes(before: Iterable[ClaimRecord], after: Iterable[ClaimRecord]) -> list[Change]:
    """All changes, the worst first; of one kind in the order of the table."""
    old = {(record.trampoline, record.claim): record for record in before}
    new = {(record.trampoline, record.claim): record for record in after}
    found = []
    for record in in_order({**old, **new}.values()):
        key = record.trampoline, record.claim
        for kind, text in _of_claim(old.get(key), new.get(key)):
            found.append(
                Change(kind=kind, trampoline=record.trampoline, claim=record.claim, text=text)
            )
    order = list(Kind)
    return sorted(found, key=lambda change: order.index(change.kind))


def _of_claim(before: ClaimRecord | None, after: ClaimRecord | None) -> Iterator[tuple[Kind, str]]:
    if after is None:
        assert before is not None
        yield Kind.GONE, f"was {_verdict(before)}, and is not asked any more"
        return
    if is_contradicted(after) and not (before and is_contradicted(before)):
        yield Kind.CONTRADICTED, f"{_verdict(after)}, but {evidence_words(after)}"
    if before is None:
        kind = Kind.NEW_FINDING if after.verdict == REFUTED else Kind.NEW_CLAIM
        yield kind, f"{_verdict(after)}: not asked before"
        return
    if before.verdict != after.verdict:
        yield _turned(before, after), f"{_verdict(before)} before, now {_verdict(after)}"
        return
    yield from _of_refuted(before, after)
    if _class(before) != _class(after) and not is_contradicted(after):
        yield Kind.EVIDENCE, f"{evidence_words(before)} before, now {evidence_words(after)}"
    was, now = _work(before), _work(after)
    if now >= NOTICED and now >= SLOWER * was:
        million = 1_000_000
        yield (
            Kind.SLOWER,
            f"z3 took {was / million:.1f} million units before, now {now / million:.1f}",
        )


def _work(record: ClaimRecord) -> int:
    return sum(obligation.rlimit for obligation in record.obligations)


def _turned(before: ClaimRecord, after: ClaimRecord) -> Kind:
    if after.verdict == REFUTED:
        return Kind.NEW_FINDING
    if after.verdict != PROVED:
        return Kind.UNDECIDED if before.verdict in (PROVED, REFUTED) else Kind.VERDICT
    return Kind.FIXED if before.verdict == REFUTED else Kind.VERDICT


def _of_refuted(before: ClaimRecord, after: ClaimRecord) -> Iterator[tuple[Kind, str]]:
    old, new = cause(before), cause(after)
    if old is not None and new is not None and old.fingerprint != new.fingerprint:
        yield Kind.OTHER_CAUSE, f'"{old.condition}" before, now "{new.condition}"'
    if before.safe_set is None or after.safe_set is None:
        return
    if before.safe_set.inside != after.safe_set.inside:
        was, now = before.safe_set.sentence, after.safe_set.sentence
        yield Kind.SAFE_SET, f"before: {was} Now: {now}"
    elif before.safe_set.exact and not after.safe_set.exact:
        yield Kind.SAFE_SET, "was exact before, and is not any more"


def _verdict(record: ClaimRecord) -> str:
    return record.verdict + (f" ({record.finding})" if record.finding else "")


def _class(record: ClaimRecord) -> str:
    """The kind of evidence, without how much of it."""
    return next((one for one in Evidence if record.evidence.startswith(one)), "")
