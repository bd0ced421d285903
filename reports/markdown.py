# SPDX-License-Identifier: GPL-2.0-only
"""A summary in GitHub's Markdown, for a job's page or a mail: changes first, then all verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.record import ClaimRecord
from reports.changes import Change
from reports.summary import (
    by_trampoline,
    counts,
    evidence_words,
    findings,
    holds_for,
    last_line,
    name_of,
    verdict_words,
    what_is_said,
)
from reports.text import markdown


def summary(records: Sequence[ClaimRecord], changed: Iterable[Change] | None = None) -> str:
    """The document. `changed`: since the night before; None if there is none to compare with."""
    return "\n".join(_lines(records, changed)) + "\n"


def _lines(records: Sequence[ClaimRecord], changed: Iterable[Change] | None) -> Iterator[str]:
    yield "# Proofs"
    yield ""
    yield from (
        f"- {markdown(name)}: {markdown(counts(all_))}" for name, all_ in by_trampoline(records)
    )
    if changed is not None:
        yield from _changes(list(changed))
    if found := findings(records):
        yield from ("", "## Findings", "", "| id | claim | what | holds for | evidence |")
        yield "|---|---|---|---|---|"
        yield from (
            _row(name_of(one), one.claim, what_is_said(one), holds_for(one), evidence_words(one))
            for one in found
        )
    yield from (
        "",
        "## Verdicts",
        "",
        "| trampoline | claim | verdict | evidence |",
        "|---|---|---|---|",
    )
    for name, all_ in by_trampoline(records):
        for one in all_:
            yield _row(name, one.claim, verdict_words(one), evidence_words(one))
    if (line := last_line(records)) is not None:
        yield from ("", markdown(line))


def _changes(changed: Sequence[Change]) -> Iterator[str]:
    yield from ("", "## Changes", "")
    if not changed:
        yield "Nothing changed."
        return
    yield from ("| | trampoline | claim | |", "|---|---|---|---|")
    yield from (_row(one.kind, one.trampoline, one.claim, one.text) for one in changed)


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(markdown, cells))} |"
