# SPDX-License-Identifier: GPL-2.0-only
"""Evaluate terms on concrete inputs without a solver: each term becomes a Python function."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import z3

from harness.x86.terms import ENTRY_MEMORY, OTHER_MEMORY, remembered

Memory = Callable[[int], int]
"""Byte of physical memory at entry, by address."""
Function = Callable[[Mapping[str, int], Memory], int]
"""A term's value (Booleans as 0 or 1) for an assignment of all its symbols."""


@remembered
def compile_term(term: z3.ExprRef) -> Function:
    """The term as a function of its symbols. ValueError for operators that no claim uses."""
    return _Compiler().function(term)


def evaluate(term: z3.ExprRef, values: Mapping[str, int], memory: Memory) -> int:
    """The value of a term, unsigned; 0 or 1 for a Boolean. KeyError if a symbol has no value."""
    return compile_term(term)(values, memory)


class _Compiler:
    """Writes one assignment per distinct sub-term, operands first."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[int, str] = {}

    def function(self, term: z3.ExprRef) -> Function:
        result = self._visit(term)
        body = "\n    ".join([*self.lines, f"return {result}"])
        scope: dict[str, Function] = {}
        code = compile(f"def term(values, memory):\n    {body}", "<term>", "exec")
        # Not the text itself: Ctrl-C inside of that makes Python kill itself at its exit.
        exec(code, {"signed": _signed}, scope)
        return scope["term"]

    def _visit(self, root: z3.ExprRef) -> str:
        stack = [root]
        operands: dict[int, tuple[int, list[z3.ExprRef], list[int]]] = {}
        while stack:
            term = stack[-1]
            key = term.get_id()
            if key in self.names:
                stack.pop()
                continue
            if key not in operands:
                kind = term.decl().kind()
                parts = [term.arg(1)] if kind == z3.Z3_OP_SELECT else term.children()
                operands[key] = kind, parts, [part.get_id() for part in parts]
            kind, parts, keys = operands[key]
            missing = [part for part, of in zip(parts, keys, strict=True) if of not in self.names]
            if missing:
                stack.extend(missing)
                continue
            name = f"v{len(self.names)}"
            expression = _expression(term, kind, parts, [self.names[of] for of in keys])
            self.lines.append(f"{name} = {expression}")
            self.names[key] = name
            stack.pop()
        return self.names[root.get_id()]


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _expression(term: z3.ExprRef, kind: int, parts: list[z3.ExprRef], a: list[str]) -> str:
    """One operation on operands `parts`, whose values are called `a`."""
    if kind == z3.Z3_OP_BNUM:
        return str(term.as_long())
    if kind in (z3.Z3_OP_TRUE, z3.Z3_OP_FALSE):
        return str(int(kind == z3.Z3_OP_TRUE))
    if kind == z3.Z3_OP_UNINTERPRETED and not a:
        return f"values[{term.decl().name()!r}]"
    if kind == z3.Z3_OP_SELECT and any(term.arg(0).eq(memory) for memory in _AT_ENTRY):
        return f"memory({a[0]})"
    if kind in _BOOLEAN:
        return _BOOLEAN[kind](a)
    bits = parts[0].size() if z3.is_bv(parts[0]) else 0
    if kind in _COMPARE:
        return f"int({_COMPARE[kind](a, bits)})"
    if kind == z3.Z3_OP_EXTRACT:
        high, low = term.params()
        return f"{a[0]} >> {low} & {(1 << (high - low + 1)) - 1:#x}"
    if kind == z3.Z3_OP_CONCAT:
        shift, shifted = 0, []
        for part, name in zip(reversed(parts), reversed(a), strict=True):
            shifted.append(f"{name} << {shift}")
            shift += part.size()
        return " | ".join(shifted)
    if kind == z3.Z3_OP_SIGN_EXT:
        return f"signed({a[0]}, {bits}) & {(1 << term.size()) - 1:#x}"
    if kind in _ARITHMETIC:
        return f"({_ARITHMETIC[kind](a, bits)}) & {(1 << term.size()) - 1:#x}"
    raise ValueError(f"no rule to evaluate {term.decl()}")


_AT_ENTRY = (ENTRY_MEMORY, OTHER_MEMORY)
"""Two starts that are compared find the same memory here."""
_BOOLEAN: dict[int, Callable[[list[str]], str]] = {
    z3.Z3_OP_AND: lambda a: " & ".join(a) or "1",  # z3 has conjunctions of nothing
    z3.Z3_OP_OR: lambda a: " | ".join(a) or "0",
    z3.Z3_OP_NOT: lambda a: f"1 - {a[0]}",
    z3.Z3_OP_XOR: lambda a: " ^ ".join(a),
    z3.Z3_OP_IMPLIES: lambda a: f"(1 - {a[0]}) | {a[1]}",
    z3.Z3_OP_ITE: lambda a: f"{a[1]} if {a[0]} else {a[2]}",
    z3.Z3_OP_EQ: lambda a: f"int({a[0]} == {a[1]})",
    z3.Z3_OP_DISTINCT: lambda a: f"int(len({{{', '.join(a)}}}) == {len(a)})",
}
_COMPARE: dict[int, Callable[[list[str], int], str]] = {
    z3.Z3_OP_ULEQ: lambda a, n: f"{a[0]} <= {a[1]}",
    z3.Z3_OP_ULT: lambda a, n: f"{a[0]} < {a[1]}",
    z3.Z3_OP_UGEQ: lambda a, n: f"{a[0]} >= {a[1]}",
    z3.Z3_OP_UGT: lambda a, n: f"{a[0]} > {a[1]}",
    z3.Z3_OP_SLEQ: lambda a, n: f"signed({a[0]}, {n}) <= signed({a[1]}, {n})",
    z3.Z3_OP_SLT: lambda a, n: f"signed({a[0]}, {n}) < signed({a[1]}, {n})",
    z3.Z3_OP_SGEQ: lambda a, n: f"signed({a[0]}, {n}) >= signed({a[1]}, {n})",
    z3.Z3_OP_SGT: lambda a, n: f"signed({a[0]}, {n}) > signed({a[1]}, {n})",
}
_ARITHMETIC: dict[int, Callable[[list[str], int], str]] = {
    z3.Z3_OP_BADD: lambda a, n: " + ".join(a),
    z3.Z3_OP_BSUB: lambda a, n: " - ".join(a),
    z3.Z3_OP_BMUL: lambda a, n: " * ".join(a),
    z3.Z3_OP_BNEG: lambda a, n: f"-{a[0]}",
    z3.Z3_OP_BNOT: lambda a, n: f"~{a[0]}",
    z3.Z3_OP_BAND: lambda a, n: " & ".join(a),
    z3.Z3_OP_BOR: lambda a, n: " | ".join(a),
    z3.Z3_OP_BXOR: lambda a, n: " ^ ".join(a),
    z3.Z3_OP_ZERO_EXT: lambda a, n: a[0],
    # Shifts by the width or more shift everything out; a huge shift must not build a huge number.
    z3.Z3_OP_BSHL: lambda a, n: f"{a[0]} << {a[1]} if {a[1]} < {n} else 0",
    z3.Z3_OP_BLSHR: lambda a, n: f"{a[0]} >> {a[1]} if {a[1]} < {n} else 0",
    z3.Z3_OP_BASHR: lambda a, n: f"signed({a[0]}, {n}) >> min({a[1]}, {n})",
}
