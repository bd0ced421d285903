# SPDX-License-Identifier: GPL-2.0-only
"""The table is whole on every width, plain where there is no terminal, and sums up honestly."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from harness.record import ClaimRecord, Evidence
from reports.summary import CLAIM_ORDER, headline, second_line, summary_line
from reports.table import last_line, print_table
from tests.reports.factory import (
    AGREES,
    NO_QEMU,
    no_samples,
    not_replayed,
    proved,
    refuted,
    replay,
    safe_set,
    samples,
    witness,
)

LONG = "NOT REPLAYABLE: the machine has no memory at the witness's kernel address 0x8000000000"
ALL: list[ClaimRecord] = [
    *(proved(claim=claim) for claim in CLAIM_ORDER),
    proved("multikernel_rfc", "paths"),
    refuted(),
    refuted(
        claim="boot_params_identity_map",
        finding="MKRFC-3",
        title="boot_params is not mapped",
        witness=witness(replay=replay(Evidence.NOT_REPLAYABLE, reason=LONG)),
    ),
]


def printed(records: list[ClaimRecord], width: int, terminal: bool = False) -> str:
    file = io.StringIO()
    print_table(records, Console(file=file, width=width, force_terminal=terminal, _environ={}))
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 100, 132, 300])
def test_elsewhere_than_on_a_terminal_rows_are_plain_and_whole(width: int) -> None:
    text = printed(ALL, width)
    assert "\x1b" not in text and "\u2026" not in text
    assert printed(ALL, 500) == text  # nothing folds lines there, so nothing is folded
    rows = [line for line in text.splitlines() if line.startswith("  ") and "holds" not in line]
    assert [line.split()[:2] for line in rows] == [[r.claim, r.verdict] for r in ALL]
    assert all("1.25 s" in line for line in rows)
    assert LONG in text


def test_each_trampoline_is_named_once_above_its_claims() -> None:
    lines = printed(ALL, 200).splitlines()
    names = [line for line in lines if not line.startswith(" ")]
    assert names[:3] == [lines[0], "multikernel", "multikernel_rfc"]
    assert lines.index("multikernel_rfc") == 2 + len(CLAIM_ORDER)


def test_fourteen_claims_with_long_words_stay_a_table_on_80_columns() -> None:
    claims = [f"claim_with_a_long_name_{n}" for n in range(10, 24)]
    records = [refuted(claim=claim, finding="MKRFC-12", seconds=12.25) for claim in claims]
    records[3] = proved("multikernel_rfc", claims[3], verdict="UNSUPPORTED", as_expected=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(records, 80, True))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for record in records:
        (row,) = [line for line in lines if line.startswith(f"  {record.claim} ")]
        assert row.split()[1] == record.verdict and f"{record.seconds:.2f} s" in row
    assert "(expected PROVED)" in " ".join(text.split())
    assert lines[0].split() == ["claim", "verdict", "time", "evidence"]


def test_evidence_is_folded_between_words_in_its_own_column() -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(ALL, 90, True))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 90
    start = lines[0].index("evidence")
    rows = lines[lines.index(next(line for line in lines if "NOT REPLAYABLE" in line)) :]
    folded = [line[start:].strip() for line in rows if line.startswith(" ")]
    assert " ".join(folded) == f"NOT REPLAYABLE ({LONG})"


@pytest.mark.parametrize("width", [30, 60])
def test_a_narrow_terminal_gets_a_list_that_fits(width: int) -> None:
    coloured = printed(ALL, width, True)
    assert "\x1b[32mPROVED" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert max(map(len, plain.splitlines())) <= width
    assert "\n  boot_params_identity_map\n    REFUTED (MKRFC-3) 1.25 s\n" in plain
    assert " ".join(plain.split()).count(LONG) == 1


def test_words_carry_what_colours_say() -> None:
    text = printed(
        [
            proved(claim="paths", verdict="UNKNOWN", as_expected=False, reason="rlimit used up"),
            proved(claim="frame", verdict="REFUTED", expected="", as_expected=False),
            proved(claim="hand_off", samples=samples(contradictions=(replay(),))),
            refuted(samples=samples(contradictions=(replay(),))),
        ],
        200,
    )
    assert "UNKNOWN (expected PROVED)" in text
    assert "REFUTED (not expected)" in text
    assert "CONTRADICTED (1 inputs)" in text
    assert "CONFIRMED; samples CONTRADICTED (1)" in text
    assert "REFUTED (MKRFC-2)" in text
    assert "MKRFC-2: The kernel is mapped only to the end of its GiB" in text
    assert "multikernel paths: rlimit used up" in text


@pytest.mark.parametrize(("width", "terminal"), [(200, False), (200, True), (40, True)])
def test_a_finding_says_for_which_inputs_the_claim_holds(width: int, terminal: bool) -> None:
    partial = safe_set(
        exact=False, unknown=("the rest",), sentence="It holds at least for: small kernels."
    )
    records = [refuted(safe_set=safe_set()), refuted(claim="paths", safe_set=partial)]
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(records, width, terminal))
    if width == 200:
        title = "MKRFC-2: The kernel is mapped only to the end of its GiB\n"
        assert f"{title}  {safe_set().sentence}\n" in text
        assert f"{title}  It holds at least for: small kernels.\n" in text
    assert safe_set().sentence in " ".join(text.split())
    assert terminal is False or max(map(len, text.splitlines())) <= width


def test_no_string_of_a_record_is_markup_or_breaks_the_line() -> None:
    record = proved("a[/b]", "[red]x[/red]", samples=no_samples("no\nway \x1b[31m :smile:"))
    text = printed([record], 200)
    assert "a[/b]" in text and "[red]x[/red]" in text
    assert "no way ?[31m :smile:" in text


def test_the_summary_line_counts_and_names_what_is_amiss() -> None:
    count = len([record for record in ALL if record.trampoline == "multikernel"])
    rfc = "multikernel_rfc: 1 of 3 PROVED, 2 expected findings"
    assert summary_line(ALL) == f"multikernel: {count} of {count} PROVED; {rfc}"
    assert summary_line([refuted()]) == "multikernel_rfc: 0 of 1 PROVED, 1 expected finding"
    surprise = proved(expected="REFUTED", as_expected=False)
    assert summary_line([surprise]) == (
        "multikernel: 1 of 1 PROVED, hand_off PROVED (expected REFUTED)"
    )
    contradicted = proved(samples=samples(contradictions=(replay(),)))
    assert summary_line([contradicted]) == "multikernel: 0 of 1 PROVED, hand_off CONTRADICTED"
    assert headline([contradicted]).endswith(
        "0 of 1 claims on 1 trampoline. 1 not as the contracts expect."
    )
    assert headline([surprise]).endswith("1 not as the contracts expect.")
    assert headline(ALL).endswith(" claims on 2 trampolines. All as the contracts expect.")
    assert summary_line([]) == "no verdicts"
    assert headline([]).endswith("nothing.")
    assert printed(ALL, 100).splitlines()[-2] == summary_line(ALL)
    assert printed([], 100).endswith("no verdicts\n")


def test_the_last_line_speaks_only_if_something_was_not_replayed() -> None:
    assert last_line(ALL) is None
    assert last_line([]) is None
    said = f"evidence: not replayed: {NO_QEMU}"
    assert last_line([*ALL, proved("x", samples=no_samples())]) == said
    assert last_line([refuted(witness=witness(replay=not_replayed())), *ALL]) == said
    both = [proved(samples=no_samples()), proved("y", samples=no_samples("no gcc"))]
    assert last_line(both) == f"{said}; no gcc"


def test_the_second_solver_is_named_with_what_it_agrees_on() -> None:
    records = [proved(), refuted()]
    said = "second solver: bitwuzla 0.10.0 agrees on 2 of 2 obligations (0 s)"
    assert second_line(records) == said
    assert printed(records, 100).splitlines()[-1] == said
    (one,) = proved().obligations
    silent = one.model_copy(update={"second": AGREES.model_copy(update={"violation": "none"})})
    other = one.model_copy(update={"verdict": "DISAGREE"})
    without = one.model_copy(update={"second": None})
    mixed = [proved(obligations=(one, silent, other, without))]
    assert second_line(mixed) == "second solver: bitwuzla 0.10.0 agrees on 1 of 3 obligations (1 s)"
    assert second_line([proved(obligations=(without,))]) is None
