# SPDX-License-Identifier: GPL-2.0-only
"""What terminal and page say alike of verdicts: order, words, tone, and the lines that sum up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import groupby

from harness.record import ClaimRecord, Evidence, ObligationRecord, WitnessRecord

CLAIM_ORDER = (
    "paths",
    "hand_off",
    "kernel_identity_map",
    "boot_params_identity_map",
    "image_identity_map",
    "no_stale_translation",
    "no_fault",
    "footprint",
    "untouched",
    "stack",
    "code",
    "determined",
    "descriptor_tables",
    "status_word",
    *("table_switch", "entries_agree", "skip_is_safe", "once", "one_at_a_time"),
    *("no_false_start", "no_lost_start", "own_mail", "own_tables", "honest_verdict", "progress"),
    *("load", "kick"),
)


class Tone(StrEnum):
    """How a verdict or evidence is to be taken; colours follow from it."""

    GOOD = "good"
    KNOWN = "known"  # an expected finding
    BAD = "bad"
    MUTED = "muted"  # nothing was shown


def in_order(records: Iterable[ClaimRecord]) -> list[ClaimRecord]:
    """By trampoline, then by claim as CLAIM_ORDER has them; other claims follow by name."""

    return sorted(records, key=lambda record: (record.trampoline, rank(record.claim)))


def rank(claim: str) -> tuple[int, str]:
    """To sort claims by."""
    known = claim in CLAIM_ORDER
    return CLAIM_ORDER.index(claim) if known else len(CLAIM_ORDER), claim


def by_trampoline(records: Iterable[ClaimRecord]) -> list[tuple[str, list[ClaimRecord]]]:
    """(trampoline, its records), all in order."""
    grouped = groupby(in_order(records), key=lambda record: record.trampoline)
    return [(name, list(group)) for name, group in grouped]


def verdict_words(record: ClaimRecord) -> str:
    """The verdict, with the finding's id or what was expected instead."""
    if not record.as_expected:
        return f"{record.verdict} ({_unexpected(record)})"
    return f"{record.verdict} ({record.finding})" if record.finding else record.verdict


def in_a_word(record: ClaimRecord) -> str:
    """The verdict for a cell of a matrix."""
    if not record.as_expected or is_contradicted(record):
        return f"{record.verdict}!"
    return record.finding or {"PROVED": "\N{CHECK MARK}"}.get(record.verdict, record.verdict)


def verdict_tone(record: ClaimRecord) -> Tone:
    """GOOD: proved as expected; KNOWN: refuted as expected; BAD: anything else."""
    if not record.as_expected:
        return Tone.BAD
    return {"PROVED": Tone.GOOD, "REFUTED": Tone.KNOWN}.get(record.verdict, Tone.BAD)


def is_contradicted(record: ClaimRecord) -> bool:
    """Whether QEMU showed anything else than was predicted, for the witness or for a sample."""
    replay, samples = record.replay, record.samples
    return (replay is not None and replay.evidence is Evidence.CONTRADICTED) or (
        samples is not None and bool(samples.contradictions)
    )


def evidence_words(record: ClaimRecord) -> str:
    """What the replays showed; contradicted samples are named even beside a witness."""
    samples = record.samples
    if record.replay is None or samples is None or not samples.contradictions:
        return record.evidence
    return f"{record.evidence}; samples {Evidence.CONTRADICTED} ({len(samples.contradictions)})"


def evidence_tone(record: ClaimRecord) -> Tone:
    """GOOD if something was replayed and nothing contradicts."""
    if is_contradicted(record):
        return Tone.BAD
    if record.replay is not None:
        confirmed = record.replay.evidence is Evidence.CONFIRMED
        return Tone.GOOD if confirmed else Tone.MUTED
    agreed = record.samples is not None and record.samples.agreed > 0
    return Tone.GOOD if agreed else Tone.MUTED


def findings(records: Iterable[ClaimRecord]) -> list[ClaimRecord]:
    """The refuted claims, expected or not, in order."""
    return [record for record in in_order(records) if record.verdict == "REFUTED"]


def name_of(record: ClaimRecord) -> str:
    """The finding's id, or trampoline and claim where it is not the known one."""
    known = record.finding if record.as_expected else ""
    return known or f"{record.trampoline} {record.claim}"


def commands(record: ClaimRecord) -> tuple[str, ...]:
    """What to type to look into a refutation: replay it, stop it in gdb, as far as it can be."""
    named = f"{record.trampoline}.{record.claim}"
    if record.witness is None:
        return (f"tramp replay {named}",) if record.replay is not None else ()
    if record.witness.replay.job is None:
        return ()
    return f"tramp replay {named}", f"tramp replay {named} --gdb"


def what_is_said(record: ClaimRecord) -> str:
    """What a finding is, or why a verdict is not the expected one; "" if nothing is to be said."""
    return record.title if record.as_expected else record.reason or record.title


def smallest_input(witness: WitnessRecord) -> str:
    """The input that refutes a claim, in one line; of two starts that are compared both."""
    said = ", ".join(f"{name} = {value}" for name, value in witness.inputs.items())
    if witness.second is None:
        return said
    second = ", ".join(f"{name} = {value}" for name, value in witness.second.inputs.items())
    return f"{said}; the second start: {second or 'the same'}"


def holds_for(record: ClaimRecord) -> str:
    """The inputs for which a claim holds, in one line; "" if they were not looked for."""
    return "" if record.safe_set is None else record.safe_set.sentence


def seconds(value: float) -> str:
    """A time in seconds as the reports show it."""
    return "<0.01 s" if 0 < value < 0.01 else f"{value:.2f} s"


def summary_line(records: Iterable[ClaimRecord]) -> str:
    """One line: per trampoline how many claims are proved, the findings, and what is amiss."""
    parts = [f"{name}: {counts(group)}" for name, group in by_trampoline(records)]
    return "; ".join(parts) or "no verdicts"


def headline(records: Iterable[ClaimRecord]) -> str:
    """What is proved, of what, for which inputs; and whether all is as the contracts expect."""
    known = list(records)
    count = len({record.trampoline for record in known})
    said = f"{_proved(known)} of {len(known)} claims on {count} trampoline{'s' * (count > 1)}"
    amiss = sum(not one.as_expected or is_contradicted(one) for one in known)
    rest = f"{amiss} not as the contracts expect." if amiss else "All as the contracts expect."
    return (
        "Proved of the assembled machine code, for every load address and all inputs that the "
        f"assumptions below allow: {f'{said}. {rest}' if known else 'nothing.'}"
    )


def second_line(records: Iterable[ClaimRecord]) -> str | None:
    """On how many obligations a second solver agrees; None if none was asked."""
    asked = [o for r in records for o in r.obligations if o.second is not None]
    if not asked:
        return None
    said = [one.second for one in asked if one.second is not None]
    names = ", ".join(dict.fromkeys(second.solver for second in said))
    agreed = sum(map(second_agrees, asked))
    spent = sum(second.seconds for second in said)
    return (
        f"second solver: {names} agrees on {agreed:,} of {len(asked):,} obligations ({spent:.0f} s)"
    )


def stale_line(records: Iterable[ClaimRecord], mark: str) -> str | None:
    """How many verdicts are of other files than those with this fingerprint; None if none is."""
    counts = [(name, sum(one.of != mark for one in all_)) for name, all_ in by_trampoline(records)]
    stale = ", ".join(f"{count} on {name}" for name, count in counts if count)
    if not stale:
        return None
    return f"verdicts of other files than the project has now, so make prove again: {stale}"


def second_agrees(one: ObligationRecord) -> bool:
    """A second solver was asked, gave answers, and says the same."""
    answers = (one.second.hypotheses, one.second.violation) if one.second else ("none",)
    return one.verdict != "DISAGREE" and "none" not in answers


def last_line(records: Iterable[ClaimRecord]) -> str | None:
    """Why inputs were not replayed (QEMU is missing, say), or None if all that could be were.

    It belongs at the very end of all output, where it cannot be missed.
    """
    reasons = dict.fromkeys(
        reason for record in in_order(records) for reason in _not_replayed(record)
    )
    return f"evidence: not replayed: {'; '.join(reasons)}" if reasons else None


def _not_replayed(record: ClaimRecord) -> list[str]:
    reasons = []
    if record.replay is not None and record.replay.evidence is Evidence.NOT_REPLAYED:
        reasons.append(record.replay.reason or "no reason given")
    if record.samples is not None and record.samples.reason:
        reasons.append(record.samples.reason)
    return reasons


def _proved(records: Sequence[ClaimRecord]) -> int:
    """How many are proved; a proof that a replay contradicts does not count."""
    return sum(record.verdict == "PROVED" and not is_contradicted(record) for record in records)


def counts(records: Sequence[ClaimRecord]) -> str:
    """How many claims on one trampoline are proved, how many are findings, and what is amiss."""
    parts = [f"{_proved(records)} of {len(records)} PROVED"]
    expected = sum(
        verdict_tone(record) is Tone.KNOWN and not is_contradicted(record) for record in records
    )
    if expected:
        parts.append(f"{expected} expected finding{'s' if expected > 1 else ''}")
    parts += [
        f"{record.claim} {record.verdict} ({_unexpected(record)})"
        for record in records
        if not record.as_expected
    ]
    parts += [f"{record.claim} CONTRADICTED" for record in records if is_contradicted(record)]
    return ", ".join(parts)


def _unexpected(record: ClaimRecord) -> str:
    if record.expected in ("", record.verdict):  # right verdict, but not as the contract has it
        return f"not as {record.finding}" if record.finding else "not expected"
    return f"expected {record.expected}"
