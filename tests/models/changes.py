# SPDX-License-Identifier: GPL-2.0-only
"""Every change of one place of a model: a condition left out, a comparison or a branch turned
round, a number one too high; of models written as Python as much as z3 terms also a step left out,
a change that a step makes, or one of two ways.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType

Variants = Callable[[ast.AST], Iterator[ast.AST]]

SWAPPED_CALLS = {"UGT": "UGE", "UGE": "UGT", "ULT": "ULE", "ULE": "ULT", "Or": "And", "And": "Or"}
SWAPPED_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SWAPPED_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}
SWAPPED_IN_PYTHON: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
}  # fmt: skip


def of_terms(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of `node` in a model that is written as z3 terms."""
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


def of_python(node: ast.AST) -> Iterator[ast.AST]:
    """The same for a model that is written as Python, too."""
    yield from of_terms(node)
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
        case ast.Compare(left, [operator], right) if type(operator) in SWAPPED_IN_PYTHON:
            yield ast.Compare(left, [SWAPPED_IN_PYTHON[type(operator)]()], right)
        case ast.BoolOp(operator, values):
            for n in range(len(values)):
                others = values[:n] + values[n + 1 :]
                yield others[0] if len(others) == 1 else ast.BoolOp(operator, others)


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


def changed(module: ModuleType, variants: Variants) -> Iterator[tuple[str, ast.Module]]:
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
