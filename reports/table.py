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
from reports.summary import (
    Tone,
    by_trampoline,
    evidence_tone,
    evidence_words,
    in_order,
    is_contradicted,
    last_line,
    seconds,
    summary_line,
    verdict_tone,
    verdict_words,
)

__all__ = ["last_line", "print_table"]

HEADINGS = ("trampoline", "claim", "verdict", "time", "evidence")
GAP = 2  # columns of a terminal between two of the table
EVIDENCE_WIDTH = 24  # below this the evidence would be folded into a ribbon
STYLES = {Tone.GOOD: "green", Tone.KNOWN: "yellow", Tone.BAD: "bold red", Tone.MUTED: "dim"}


def print_table(records: Iterable[ClaimRecord], console: Console) -> None:
    """Print trampoline x claim, what the findings are, and the summary line.

    A terminal too narrow for the table gets a list. Elsewhere lines may be as long as they must be,
    as nothing there folds them. `last_line` is left to the caller: other output may come between.
    """
    ordered = in_order(records)
    rows = [_cells(record) for record in ordered]
    fixed = sum(
        max(cell_len(cell.plain) for cell in (Text(heading), *column)) + GAP
        for heading, *column in zip(HEADINGS[:-1], *(row[:-1] for row in rows), strict=True)
    )
    longest = max((cell_len(row[-1].plain) for row in rows), default=0)
    longest = max(longest, len(HEADINGS[-1]))
    if console.width >= fixed + min(longest, EVIDENCE_WIDTH):
        console.print(_table(rows))
    elif console.is_terminal:
        _print_list(ordered, console)
    else:
        options = console.options.update(width=fixed + longest)
        for line in console.render_lines(_table(rows), options, pad=False):
            text = Text.assemble(*((part.text, part.style or "") for part in line))
            text.rstrip()
            console.print(text, soft_wrap=True)
    for record in ordered:
        if note := _note(record):
            console.print(note, soft_wrap=not console.is_terminal)
    console.print(_plain(summary_line(ordered), _worst(ordered)), soft_wrap=not console.is_terminal)


def _plain(text: str, style: str = "") -> Text:
    """Text that can neither break the line nor send codes to the terminal."""
    one_line = " ".join(text.split())
    return Text("".join(c if c.isprintable() else "?" for c in one_line), style)


def _cells(record: ClaimRecord) -> tuple[Text, ...]:
    return (
        _plain(record.trampoline),
        _plain(record.claim),
        _plain(verdict_words(record), STYLES[verdict_tone(record)]),
        Text(seconds(record.seconds)),
        _plain(evidence_words(record), STYLES[evidence_tone(record)]),
    )


def _table(rows: Sequence[tuple[Text, ...]]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for heading in HEADINGS[:-1]:
        table.add_column(heading, no_wrap=True, justify="right" if heading == "time" else "left")
    table.add_column(HEADINGS[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _print_list(records: Sequence[ClaimRecord], console: Console) -> None:
    for name, group in by_trampoline(records):
        console.print(_plain(name, "bold"), overflow="fold")
        for record in group:
            _, claim, verdict, time, evidence = _cells(record)
            for indent, line in (2, claim), (4, Text(" ").join((verdict, time))), (4, evidence):
                padded = Padding(line, (0, 0, 0, indent), expand=False)
                console.print(padded, overflow="fold")


def _note(record: ClaimRecord) -> Text | None:
    """What a finding is, or why a verdict is not the expected one."""
    said = record.title if record.as_expected else record.reason or record.title
    if not said:
        return None
    name = record.finding or f"{record.trampoline} {record.claim}"
    return _plain(f"{name}: {said}", STYLES[verdict_tone(record)])


def _worst(records: Sequence[ClaimRecord]) -> str:
    amiss = any(verdict_tone(record) is Tone.BAD or is_contradicted(record) for record in records)
    return STYLES[Tone.BAD] if amiss else "bold"
