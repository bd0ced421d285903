# SPDX-License-Identifier: GPL-2.0-only
"""Each operation's gates are proved to compute it, by two solvers, at each width that occurs.

The gates that `blast` makes for one operation on symbols are written as a term over the bits of its
operands; z3 and bitwuzla both have to find no operands for which it differs from the operation
itself. With a constant for an operand the same gates are made, on bits that are true or false, but
for multiplication: that has other gates for each constant, and is proved for each.
"""

from __future__ import annotations

import z3

from harness.certify.blast import Bits, apply, constant, width
from harness.certify.circuit import TRUE, Circuit, Gate
from harness.solve.second import SAT, UNSAT, bitwuzla_answers
from harness.solve.smt2 import smt2
from harness.x86.solver import ask

RLIMIT = 5_000_000  # z3 resource units for one operation
LIMIT = 20.0  # seconds for bitwuzla

Key = tuple[object, ...]


class WrongGates(Exception):
    """The gates compute something else than the operation."""


class NotProved(Exception):
    """A solver gives no answer for this operation."""


class Operations:
    """What was proved so far; each operation is proved once at each width."""

    def __init__(self) -> None:
        self.proved: set[Key] = set()
        self._seen: dict[int, z3.ExprRef] = {}  # an id names a term that is kept alive

    def check(self, term: z3.ExprRef) -> None:
        """The gates of this term's operation are right. Raises WrongGates or NotProved."""
        if term.get_id() in self._seen:
            return
        if (key := _key(term)) not in self.proved:
            prove(term)
            self.proved.add(key)
        self._seen[term.get_id()] = term


def prove(term: z3.ExprRef) -> None:
    """No operands are found by either solver for which gates and operation differ.

    Raises WrongGates or NotProved.
    """
    question = difference(term)
    answers = (
        str(ask([question], RLIMIT).status),
        bitwuzla_answers(smt2([question]), LIMIT),
    )
    what = f"gates of {term.decl().name()} for {width(term)} bits: z3 and bitwuzla say {answers}"
    if SAT in answers:
        raise WrongGates(what)
    if answers != (UNSAT, UNSAT):
        raise NotProved(what)


def difference(term: z3.ExprRef) -> z3.BoolRef:
    """The operation and its gates give different bits."""
    circuit = Circuit()
    known: dict[int, z3.BoolRef] = {TRUE: z3.BoolVal(True)}
    parts: list[z3.ExprRef] = []
    operands: list[Bits] = []
    for number, part in enumerate(term.children()):
        if _is_kept(term, part):
            parts.append(part)
            operands.append(constant(part.as_long(), part.size()))
        else:
            parts.append(z3.Const(f"operand_{number}", part.sort()))
            operands.append(tuple(circuit.input() for _ in range(width(part))))
            known |= zip(operands[-1], _bits(parts[-1]), strict=True)
    outputs = apply(circuit, term, operands)
    for gate, (kind, literals) in circuit.gates.items():
        known[gate] = _gate(kind, [_literal(known, literal) for literal in literals])
    pairs = zip(outputs, _bits(_on(term, parts)), strict=True)
    return z3.Or(*(z3.Xor(_literal(known, bit), right) for bit, right in pairs))


def _key(term: z3.ExprRef) -> Key:
    """Terms with the same key are the same operation on operands of the same widths."""
    constants = [part.as_long() if _is_kept(term, part) else None for part in term.children()]
    sorts = [part.sort().sexpr() for part in (term, *term.children())]
    return term.decl().kind(), *term.params(), *sorts, *constants


def _is_kept(term: z3.ExprRef, part: z3.ExprRef) -> bool:
    """The operand is a constant on which the gates depend."""
    return bool(term.decl().kind() == z3.Z3_OP_BMUL and z3.is_bv_value(part))


def _on(term: z3.ExprRef, parts: list[z3.ExprRef]) -> z3.ExprRef:
    """The term's operation on other operands."""
    arguments = (z3.Ast * len(parts))(*(part.as_ast() for part in parts))
    made = z3.Z3_update_term(term.ctx_ref(), term.as_ast(), len(parts), arguments)
    return z3.BoolRef(made, term.ctx) if z3.is_bool(term) else z3.BitVecRef(made, term.ctx)


def _bits(term: z3.ExprRef) -> list[z3.BoolRef]:
    if z3.is_bool(term):
        return [term]
    return [z3.Extract(place, place, term) == 1 for place in range(term.size())]


def _literal(known: dict[int, z3.BoolRef], literal: int) -> z3.BoolRef:
    return known[literal] if literal > 0 else z3.Not(known[-literal])


def _gate(kind: Gate, operands: list[z3.BoolRef]) -> z3.BoolRef:
    if kind is Gate.ITE:
        return z3.If(*operands)
    return z3.And(*operands) if kind is Gate.AND else z3.Xor(*operands)
