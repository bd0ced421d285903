# SPDX-License-Identifier: GPL-2.0-only
"""The table at the end of a run, on a terminal, in a pipe or in a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.record import ClaimRecord
from reports.fingerprint import fingerprint
from reports.summary import (
    Tone,
    by_trampoline,
    evidence_tone,
    evidence_words,
    holds_for,
    in_order,
    is_contradicted,
    last_line,
    name_of,
    second_line,
    seconds,
    stale_line,
    summary_line,
    verdict_tone,
    verdict_words,
    what_is_said,
)

__all__ = ["last_line", "print_cautions", "print_table"]

HEADINGS = ("claim", "verdict", "time", "evidence")
GAP = 2  # columns of a terminal between two of the table
INDENT = 2  # of a claim below its trampoline
VERDICT_WIDTH = 20  # "REFUTED (MKRFC-12)" fits; what is longer is folded where room is short
EVIDENCE_WIDTH = 16  # below this the evidence would be folded into a ribbon
STYLES = {Tone.GOOD: "green", Tone.KNOWN: "yellow", Tone.BAD: "bold red", Tone.MUTED: "dim"}

Row = tuple[Text, Text, Text, Text]


def print_table(records: Iterable[ClaimRecord], console: Console) -> None:
    """Print the claims on each trampoline, what the findings are, and the summary line.

    A terminal too narrow for the table gets a list. Elsewhere lines may be as long as they must be,
    as nothing there folds them. `last_line` is left to the caller: other output may come between.
    """
    ordered = in_order(records)
    rows = _rows(ordered)
    widths = [
        max(cell_len(cell.plain) for cell in (Text(heading), *column))
        for heading, *column in zip(HEADINGS, *rows, strict=True)
    ]
    claim, verdict, time, evidence = widths
    least = claim + min(verdict, VERDICT_WIDTH) + time + min(evidence, EVIDENCE_WIDTH)
    if not console.is_terminal:
        _print_unfolded(_table(rows), sum(widths) + GAP * len(widths), console)
    elif console.width >= least + GAP * (len(widths) - 1):
        console.print(_table(rows))
    else:
        _print_list(ordered, console)
    for record in ordered:
        _print_note(record, console)
    console.print(_plain(summary_line(ordered), _worst(ordered)), soft_wrap=not console.is_terminal)
    if (line := second_line(ordered)) is not None:
        console.print(_plain(line), soft_wrap=not console.is_terminal)


def print_cautions(records: Sequence[ClaimRecord], console: Console) -> None:
    """Behind all else: verdicts of other files than there are now, and what was not replayed."""
    if (line := stale_line(records, fingerprint())) is not None:
        console.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)
    if (line := last_line(records)) is not None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _plain(text: str, style: str = "") -> Text:
    """Text that can neither break the line nor send codes to the terminal."""
    one_line = " ".join(text.split())
    return Text("".join(c if c.isprintable() else "?" for c in one_line), style)


def _rows(records: Sequence[ClaimRecord]) -> list[Row]:
    """For each trampoline one row with its name, then one for each claim."""
    rows = []
    for name, group in by_trampoline(records):
        rows.append((_plain(name, "bold"), Text(""), Text(""), Text("")))
        for claim, verdict, time, evidence in map(_cells, group):
            rows.append((Text(" " * INDENT) + claim, verdict, time, evidence))
    return rows


def _cells(record: ClaimRecord) -> Row:
    return (
        _plain(record.claim),
        _plain(verdict_words(record), STYLES[verdict_tone(record)]),
        Text(seconds(record.seconds)),
        _plain(evidence_words(record), STYLES[evidence_tone(record)]),
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    claim, verdict, time, evidence = HEADINGS
    table.add_column(claim, no_wrap=True)
    longest = max((cell_len(row[1].plain) for row in rows), default=0)
    table.add_column(verdict, min_width=min(longest, VERDICT_WIDTH))
    table.add_column(time, no_wrap=True, justify="right")
    table.add_column(evidence, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _print_unfolded(table: Table, width: int, console: Console) -> None:
    options = console.options.update(width=width)
    for line in console.render_lines(table, options, pad=False):
        text = Text.assemble(*((part.text, part.style or "") for part in line))
        text.rstrip()
        console.print(text, soft_wrap=True)


def _print_list(records: Sequence[ClaimRecord], console: Console) -> None:
    for name, group in by_trampoline(records):
        console.print(_plain(name, "bold"), overflow="fold")
        for record in group:
            claim, verdict, time, evidence = _cells(record)
            for indent, line in (2, claim), (4, Text(" ").join((verdict, time))), (4, evidence):
                _print_indented(line, indent, console)


def _print_note(record: ClaimRecord, console: Console) -> None:
    """What a finding is, or why a verdict is not the expected one; for which inputs it holds."""
    style = STYLES[verdict_tone(record)]
    said, holds = what_is_said(record), holds_for(record)
    if said or holds:
        note = _plain(f"{name_of(record)}: {said or record.verdict}", style)
        console.print(note, soft_wrap=not console.is_terminal)
    if holds:
        _print_indented(_plain(holds), INDENT, console)


def _print_indented(line: Text, indent: int, console: Console) -> None:
    if console.is_terminal:
        console.print(Padding(line, (0, 0, 0, indent), expand=False), overflow="fold")
    else:
        console.print(Text(" " * indent) + line, soft_wrap=True)


def _worst(records: Sequence[ClaimRecord]) -> str:
    amiss = any(verdict_tone(record) is Tone.BAD or is_contradicted(record) for record in records)
    return STYLES[Tone.BAD] if amiss else "bold"
