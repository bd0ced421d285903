# SPDX-License-Identifier: GPL-2.0-only
"""The page: all verdicts, findings and evidence in one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.guard import GuardRecord
from harness.record import (
    ClaimRecord,
    Evidence,
    PictureRecord,
    ReplayRecord,
    StepRecord,
    TransitionRecord,
    file_name,
)
from reports import summary
from reports.diagram import state_diagram
from reports.files import write_atomically
from reports.fingerprint import fingerprint
from reports.guards import read_guards
from reports.hints import HINTS
from reports.memory_map import memory_map
from reports.nights import Entry, Since, history, since_last
from reports.page_tables import page_tables
from reports.safe_set import safe_set
from reports.sequence import sequence
from reports.trend import trend
from reports.trust import gather

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Fact:
    """Something that a trampoline's records state; `claims` are those that do, () for all."""

    text: str
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """What the page says of one trampoline."""

    name: str
    counts: str
    records: tuple[ClaimRecord, ...]
    summaries: tuple[Fact, ...]
    bases: tuple[Fact, ...]
    assumptions: tuple[Fact, ...]
    paths: tuple[Fact, ...]
    not_reached: tuple[Fact, ...]
    one_way: tuple[Fact, ...]
    pair_assumptions: tuple[Fact, ...]
    """Of the claims on trampoline and host together; the others speak of the trampoline alone."""
    transitions: tuple[TransitionRecord, ...]
    diagram: Markup | None
    picture: PictureRecord | None
    sampled: dict[str, str]
    """For each claim with samples that all went well the first one that has the same: these are
    told of once."""


@dataclass(frozen=True)
class Row:
    """One value of a replay. `mark` is "" where prediction and observation are the same."""

    name: str
    predicted: str
    observed: str
    mark: str


def write_page(records: Iterable[ClaimRecord], path: Path) -> None:
    """Write the page to `path`, whole or not at all, with the guards below the same folder, and
    what changed since the last night that is kept there.

    Raises ReportError.
    """
    known = list(records)
    since = since_last(known, path.parent)
    guards, nights = read_guards(path.parent), history(path.parent)
    write_atomically({path: render_page(known, guards, since, nights).encode()})


def render_page(
    records: Iterable[ClaimRecord],
    guards: Iterable[GuardRecord] = (),
    since: Since | None = None,
    nights: Sequence[Entry] = (),
) -> str:
    """The page as text. Every string of a record is escaped."""
    ordered = summary.in_order(records)
    return (
        _environment()
        .get_template("page.html")
        .render(
            headline=summary.headline(ordered),
            summary_line=summary.summary_line(ordered),
            second_line=summary.second_line(ordered),
            stale_line=summary.stale_line(ordered, fingerprint()),
            last_line=summary.last_line(ordered),
            findings=summary.findings(ordered),
            since=since,
            changed=_changed(since),
            trend=trend(nights),
            trust=gather(ordered, guards),
            matrix=_matrix(ordered),
            hints=HINTS,
            sections=[_section(name, group) for name, group in summary.by_trampoline(ordered)],
        )
    )


def _matrix(records: Sequence[ClaimRecord]) -> list[tuple[str, list[ClaimRecord | None]]]:
    """For each claim its record of each trampoline, in the order of the sections."""
    trampolines = [name for name, _ in summary.by_trampoline(records)]
    found = {(one.claim, one.trampoline): one for one in records}
    claims = sorted({one.claim for one in records}, key=summary.rank)
    return [(claim, [found.get((claim, name)) for name in trampolines]) for claim in claims]


def _changed(since: Since | None) -> dict[tuple[str, str], str]:
    """What changed of a claim, in a word or two, by trampoline and claim."""
    words: dict[tuple[str, str], list[str]] = {}
    for change in since.changes if since else ():
        words.setdefault((change.trampoline, change.claim), []).append(change.kind)
    return {key: ", ".join(kinds) for key, kinds in words.items()}


def compare(replay: ReplayRecord) -> list[Row]:
    """Prediction and observation side by side, in the prediction's order.

    A prediction may allow several outcomes: then a confirmed one is written otherwise, no more.
    """
    rows = []
    confirmed = replay.evidence is Evidence.CONFIRMED
    differs = "allowed by the prediction" if confirmed else "differs"
    for name in dict.fromkeys((*replay.predicted, *replay.observed)):
        predicted, observed = replay.predicted.get(name), replay.observed.get(name)
        if observed is None:
            mark = "not observed" if replay.observed else ""
        elif predicted is None:
            mark = "not predicted"
        else:
            mark = "" if predicted == observed else differs
        rows.append(Row(name, predicted or "", observed or "", mark))
    return rows


def by_mode(path: Sequence[StepRecord]) -> list[tuple[str, list[StepRecord]]]:
    """Stretches of a path in one mode of the processor: (mode, its steps)."""
    return [(mode, list(steps)) for mode, steps in groupby(path, key=lambda step: step.mode)]


def _anchor(record: ClaimRecord, claim: str) -> str:
    """Where the page tells of a claim on the record's trampoline."""
    return re.sub(r"[^\w.-]", "_", f"{record.trampoline}.{claim}")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "anchor": lambda record: _anchor(record, record.claim),
        "anchor_of": _anchor,
        "by_mode": by_mode,
        "commands": summary.commands,
        "compare": compare,
        "evidence_tone": summary.evidence_tone,
        "evidence_words": summary.evidence_words,
        "holds_for": summary.holds_for,
        "file_name": lambda record: file_name(record.trampoline, record.claim),
        "in_a_word": summary.in_a_word,
        "memory_map": memory_map,
        "name_of": summary.name_of,
        "page_tables": page_tables,
        "safe_set": safe_set,
        "seconds": summary.seconds,
        "sequence": sequence,
        "verdict_tone": summary.verdict_tone,
        "verdict_words": summary.verdict_words,
        "what_is_said": summary.what_is_said,
    }
    return environment


def _section(name: str, records: Sequence[ClaimRecord]) -> Section:
    alone = [record for record in records if record.bases]
    together = [record for record in records if not record.bases]
    transitions = next((one.transitions for one in together if one.transitions), ())
    return Section(
        name=name,
        counts=summary.counts(records),
        records=tuple(records),
        summaries=_facts(records, lambda record: (record.summary,)),
        bases=_facts(alone, lambda record: (" to ".join(record.bases),)),
        assumptions=_facts(alone, lambda record: record.assumptions),
        paths=_facts(alone, lambda record: _counted(record.paths)),
        not_reached=_facts(alone, lambda record: record.not_reached),
        one_way=_facts(alone, lambda record: record.one_way),
        pair_assumptions=_facts(together, lambda record: record.assumptions),
        transitions=transitions,
        diagram=state_diagram(transitions) if transitions else None,
        picture=next((one.picture for one in alone if one.picture is not None), None),
        sampled=_sampled(records),
    )


def _sampled(records: Sequence[ClaimRecord]) -> dict[str, str]:
    having = [
        one
        for one in records
        if (made := one.samples) is not None and not made.reason and not made.contradictions
    ]
    return {
        record.claim: next(one.claim for one in having if one.samples == record.samples)
        for record in having
    }


def _facts(
    records: Sequence[ClaimRecord], texts: Callable[[ClaimRecord], tuple[str, ...]]
) -> tuple[Fact, ...]:
    """Each text once. Verdict files may stem from different runs, so not all need to state it."""
    stated: dict[str, list[str]] = {}
    for record in records:
        for text in dict.fromkeys(texts(record)):
            stated.setdefault(text, []).append(record.claim)
    return tuple(
        Fact(text, () if len(claims) == len(records) else tuple(claims))
        for text, claims in stated.items()
    )


def _counted(ends: Sequence[str]) -> tuple[str, ...]:
    """Equal ends of several paths as one line with their number."""
    counts = {end: ends.count(end) for end in ends}
    return tuple(end if count == 1 else f"{end} ({count} paths)" for end, count in counts.items())
