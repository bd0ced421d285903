# SPDX-License-Identifier: GPL-2.0-only
"""What the page is told of the models' rules: a change that nobody notices is a problem."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from models import bits
from tests.models.__main__ import campaign
from tests.models.rows import Row, holds, word
from tests.models.rules import BIT_ROWS, Model

SILENT = Console(quiet=True)
BITS = Model(bits, BIT_ROWS)


def test_all_changes_are_noticed_or_counted() -> None:
    guard = campaign([BITS], SILENT)
    assert guard.problems == ()
    assert guard.figures["noticed"] == guard.figures["changes"] != "0"
    assert not guard.complete


def test_a_rule_that_no_row_speaks_of_is_a_problem() -> None:
    guard = campaign([replace(BITS, rows=BIT_ROWS[:1])], SILENT)
    assert any(one.startswith("models.bits: unnoticed: any_of:") for one in guard.problems)


def test_a_model_that_is_wrong_as_it_is_is_a_problem() -> None:
    row = Row("bit 0 of 2 is set", lambda m: holds(m.bit(word(2, 4), 0)), True)
    guard = campaign([replace(BITS, rows=(*BIT_ROWS, row))], SILENT)
    assert "models.bits: wrong as it is: bit 0 of 2 is set" in guard.problems


def test_a_reason_for_what_is_noticed_is_a_problem() -> None:
    guard = campaign([replace(BITS, equivalent={"bit: a -> b": "because"})], SILENT)
    assert guard.problems == ("models.bits: explained, but not left: bit: a -> b",)
