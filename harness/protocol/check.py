# SPDX-License-Identifier: GPL-2.0-only
"""The three plain questions of an invariant: it holds at boot, every step keeps it, it is safe.

Each is asked of z3 and, as SMT-LIB 2, of cvc5, if that is installed. Where the invariant came from
plays no part.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import z3

from harness.protocol.encoding import Clause
from harness.protocol.invariant import Invariant
from harness.x86 import solver as ask
from models.protocol import Cpu, Pair, Shared

RLIMIT = 50_000_000
"""z3's units, for one question."""
CVC5_RLIMIT = 50_000_000
"""cvc5's units, which are others."""


def questions(
    pair: Pair, invariant: Invariant, clauses: Sequence[Clause]
) -> Iterator[tuple[str, list[z3.BoolRef]]]:
    """For each clause its name, and conditions which nothing may meet if the clause holds."""
    before: dict[tuple[Shared, Cpu], z3.BoolRef] = {}
    for clause in clauses:
        for state in clause.states:
            if state not in before:
                before[state] = invariant.holds(pair, *state)
        conditions = [clause.when, *(before[state] for state in clause.states)]
        if clause.then is not None:
            conditions.append(z3.Not(invariant.holds(pair, *clause.then)))
        yield clause.name, conditions


def open_questions(pair: Pair, invariant: Invariant, clauses: Sequence[Clause]) -> list[str]:
    """The clauses that z3 does not prove."""
    tactic = z3.Then("simplify", "propagate-values", "solve-eqs", "simplify", "smt")
    found = []
    for name, conditions in questions(pair, invariant, clauses):
        solver = tactic.solver()
        solver.set("rlimit", RLIMIT)
        solver.add(*conditions)
        if ask.check(solver) != z3.unsat:
            found.append(name)
    return found


def smt2(conditions: Sequence[z3.BoolRef]) -> str:
    """A question in SMT-LIB 2."""
    solver = z3.Solver()
    solver.add(*conditions)
    return f"(set-logic QF_LIA)\n{solver.to_smt2()}"


def cvc5_answers(question: str) -> str:
    """cvc5's answer to SMT-LIB 2: "sat", "unsat" or "unknown". ImportError without cvc5."""
    cvc5: Any = importlib.import_module("cvc5")
    manager = cvc5.TermManager()
    solver = cvc5.Solver(manager)
    solver.setOption("rlimit", str(CVC5_RLIMIT))
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, question, "question")
    answer = ""
    while not (command := parser.nextCommand()).isNull():
        answer += str(command.invoke(solver, parser.getSymbolManager()))
    return answer.strip()
