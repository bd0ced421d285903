# SPDX-License-Identifier: GPL-2.0-only
"""Each rule of the hand-off protocol's model is needed: without it, or with it wrong, a row fails.

As in test_every_rule_matters.py; here a change may also leave out a step, a change that a step
makes, or one of two ways, since the model's rules are written as Python as much as z3 terms.
"""

from __future__ import annotations

import ast
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from models import memory_order, protocol, protocol_claims, protocol_steps
from tests.models import (
    test_every_rule_matters,
    test_memory_order_model,
    test_protocol_claims_model,
    test_protocol_cpu_model,
    test_protocol_graphs_model,
    test_protocol_host_model,
    test_protocol_model,
)
from tests.models.rows import Row
from tests.models.test_every_rule_matters import fails_a_row, mutants

PATIENCE = 5
"""Seconds for all rows of one changed model; they take a tenth of one."""
ROWS = {
    memory_order: test_memory_order_model.ROWS,
    protocol: test_protocol_model.ROWS,
    protocol_steps: (*test_protocol_host_model.ROWS, *test_protocol_cpu_model.ROWS),
    protocol_claims: (*test_protocol_claims_model.ROWS, *test_protocol_graphs_model.ROWS),
}

# Changes that leave the meaning as it is: module, change -> why.
ANY_NUMBER = "a number that only has to differ from the others"
EQUIVALENT: dict[ModuleType, dict[str, str]] = {
    protocol: dict.fromkeys(("BEFORE,: 2 -> 3", "OUTSIDE,: 3 -> 4", "WORDS: 4 -> 5"), ANY_NUMBER),
}

SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
}  # fmt: skip


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of `node` in a changed model."""
    yield from test_every_rule_matters.variants(node)
    match node:
        case ast.Call(func=ast.Name("replace"), args=args, keywords=keywords):
            for n in range(len(keywords)):
                rest = keywords[:n] + keywords[n + 1 :]
                yield ast.Call(ast.Name("replace", ast.Load()), args, rest)
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            yield ast.Pass()
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Compare(left, [operator], right) if type(operator) in SWAPPED:
            yield ast.Compare(left, [SWAPPED[type(operator)]()], right)
        case ast.BoolOp(operator, values):
            for n in range(len(values)):
                others = values[:n] + values[n + 1 :]
                yield others[0] if len(others) == 1 else ast.BoolOp(operator, others)


@contextmanager
def patience() -> Iterator[None]:
    """A changed model that never answers raises, and so fails its row."""

    def give_up(*arguments: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_noticed(module: ModuleType, tree: ast.Module, rows: list[Row]) -> bool:
    with patience():
        return fails_a_row(module, tree, rows)


@pytest.mark.parametrize("module", ROWS, ids=lambda module: module.__name__)
def test_no_change_to_the_model_goes_unnoticed(module: ModuleType) -> None:
    """Every single change fails a row, but for those listed as equivalent."""
    assert all(row.outcome(module) == row.expected for row in ROWS[module])
    rows = list(ROWS[module])
    unnoticed = {
        change for change, tree in mutants(module, variants) if not is_noticed(module, tree, rows)
    }
    assert unnoticed == set(EQUIVALENT.get(module, {}))
