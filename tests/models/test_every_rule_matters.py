# SPDX-License-Identifier: GPL-2.0-only
"""Each part of each rule in models/ is needed: a model without it, or with it wrong, fails a row.

Every model is changed in one place at a time (a condition left out, a comparison or a branch turned
round, a number one too high), and the rows of its tests run against the changed model until one
fails. Changes that no row can notice are listed with the reason.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import z3

from models import bits, cpuid, descriptors, hand_over, linux_entry, mode_switches, modes, paging
from tests.models import (
    test_cpuid_model,
    test_descriptor_model,
    test_hand_over_model,
    test_init_model,
    test_linux_entry_model,
    test_mode_model,
    test_mode_switch_model,
    test_paging_model,
)
from tests.models.rows import Row, holds, number, word

BIT_ROWS = (
    Row("bit", lambda m: [holds(m.bit(word(0b10, 4), n)) for n in (0, 1, 2)], [False, True, False]),
    Row("field", lambda m: number(m.field(word(0x1234, 16), 11, 4)), 0x23),
    Row(
        "any_of",
        lambda m: [holds(m.any_of(word(6, 4), mask)) for mask in (1, 3, 8, 12)],
        [False, True, False, True],
    ),
)

ROWS = {
    bits: BIT_ROWS,
    paging: test_paging_model.ROWS,
    descriptors: test_descriptor_model.ROWS,
    modes: (*test_mode_model.ROWS, *test_init_model.ROWS),
    cpuid: test_cpuid_model.ROWS,
    linux_entry: test_linux_entry_model.ROWS,
    mode_switches: test_mode_switch_model.ROWS,
    hand_over: test_hand_over_model.ROWS,
}

# Changes that leave the meaning as it is: module, change -> why.
EQUIVALENT: dict[ModuleType, dict[str, str]] = {
    paging: {
        "_denies: z3.And(paging.no_execute, bit(value, EXECUTE_DISABLE))"
        " -> z3.And(bit(value, EXECUTE_DISABLE))": "with NXE = 0, XD = 1 is a reserved bit already",
    }
}

SWAPPED_CALLS = {"UGT": "UGE", "UGE": "UGT", "ULT": "ULE", "ULE": "ULT", "Or": "And", "And": "Or"}
SWAPPED_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SWAPPED_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of `node` in a changed model."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name("z3"), attr=name), args=args):
            if name in ("Or", "And") and len(args) > 1:
                yield from (_z3(name, *args[:i], *args[i + 1 :]) for i in range(len(args)))
            if name in SWAPPED_CALLS:
                yield _z3(SWAPPED_CALLS[name], *args)
            if name == "Not":
                yield args[0]
            if name == "If":
                yield _z3(name, args[0], args[2], args[1])
        case ast.Compare(left, [operator], right) if type(operator) in SWAPPED_COMPARISONS:
            yield ast.Compare(left, [SWAPPED_COMPARISONS[type(operator)]()], right)
        case ast.BinOp(left, operator, right) if type(operator) in SWAPPED_OPERATORS:
            yield ast.BinOp(left, SWAPPED_OPERATORS[type(operator)](), right)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)


def _z3(name: str, *args: ast.expr) -> ast.Call:
    """A call of a function of z3."""
    function = ast.Attribute(ast.Name("z3", ast.Load()), name, ast.Load())
    return ast.Call(function, list(args), [])


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and all below it, without annotations and decorators."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from executed(child)


class Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        """`old` is found by identity."""
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        """The tree with the replacement."""
        return self.new if node is self.old else self.generic_visit(node)


def mutants(
    module: ModuleType, variants: Callable[[ast.AST], Iterator[ast.AST]] = variants
) -> Iterator[tuple[str, ast.Module]]:
    """Every changed model: the change in words, and its code."""
    tree = ast.parse(inspect.getsource(module))
    changes = [(node, new) for node in executed(tree) for new in variants(node)]
    for node, new in changes:
        place = _enclosing(tree, node)
        Replace(node, new).visit(tree)
        ast.fix_missing_locations(tree)
        yield f"{place}: {ast.unparse(node)} -> {ast.unparse(new)}", tree
        Replace(new, node).visit(tree)


def _enclosing(tree: ast.Module, node: ast.AST) -> str:
    """Name of the function, class or constant at top level that holds `node`."""
    for statement in tree.body:
        if any(each is node for each in ast.walk(statement)):
            return getattr(statement, "name", None) or ast.unparse(statement).split(" ")[0]
    raise AssertionError("node is not in the tree")


def fails_a_row(module: ModuleType, tree: ast.Module, rows: list[Row]) -> bool:
    """The changed model gives a wrong outcome for some row, or raises; that row moves to the front.

    Neighbouring changes often fail the same row, so this saves most of the time.
    """
    changed = ModuleType(f"changed_{module.__name__.rpartition('.')[2]}")
    # dataclass() looks its module up by name.
    sys.modules[changed.__name__] = changed
    try:
        exec(compile(tree, changed.__name__, "exec"), changed.__dict__)
        for row in rows:
            if not passes(row, changed):
                rows.remove(row)
                rows.insert(0, row)
                return True
        return False
    except (AssertionError, AttributeError, NameError, TypeError, ValueError, z3.Z3Exception):
        return True  # the module itself does not load
    finally:
        del sys.modules[changed.__name__]


def passes(row: Row, changed: ModuleType) -> bool:
    """The row's outcome is as expected; a model that raises is wrong as well."""
    try:
        return row.outcome(changed) == row.expected
    except Exception:
        return False


@pytest.mark.parametrize("module", ROWS, ids=lambda module: module.__name__)
def test_no_change_to_the_model_goes_unnoticed(module: ModuleType) -> None:
    """Every single change fails a row, but for those listed as equivalent."""
    assert all(row.outcome(module) == row.expected for row in ROWS[module])
    rows = list(ROWS[module])
    unnoticed = {change for change, tree in mutants(module) if not fails_a_row(module, tree, rows)}
    assert unnoticed == set(EQUIVALENT.get(module, {}))
