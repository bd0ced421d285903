# SPDX-License-Identifier: GPL-2.0-only
"""The three plain questions of an invariant: it holds at boot, every step keeps it, it is safe.

Each is asked of z3 and, as SMT-LIB 2, of cvc5. Where the invariant came from plays no part.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from harness.protocol import encoding
from harness.protocol.invariant import Invariant
from harness.x86 import solver as ask
from models.protocol import Pair, one_of
from models.protocol_claims import Claim

RLIMIT = 200_000_000
"""z3's units, for one question; the hardest in use needs a tenth."""
CVC5_RLIMIT = 200_000_000
"""cvc5's units, which are others."""


@dataclass(frozen=True)
class Question:
    """Conditions that nothing may meet all of."""

    name: str
    conditions: tuple[z3.BoolRef, ...]

    def smt2(self) -> str:
        """The same in SMT-LIB 2."""
        solver = z3.Solver()
        solver.add(*self.conditions)
        return f"(set-logic QF_LIA)\n{solver.to_smt2()}"


def questions(pair: Pair, invariant: Invariant, claims: Sequence[Claim]) -> list[Question]:
    """ "initial", "inductive" and "safe": the invariant proves the claims if nothing meets any."""
    here = encoding.variables(pair)
    _, other = encoding.variables(pair, "2")
    after = [z3.Const(f"{term}_next", term.sort()) for term in encoding.flat(here)]
    holds, holds_of_other = (invariant.holds(pair, *state) for state in (here, (here[0], other)))
    initial, bad, steps = [], [], []
    for clause in encoding.clauses(pair, tuple(claims)):
        if not clause.states:
            initial.append(clause.when)
        elif clause.then is None:
            bad.append(clause.when)
        else:
            then = zip(after, encoding.flat(clause.then), strict=True)
            of_other = [holds_of_other] if len(clause.states) > 1 else []
            steps.append(z3.And(clause.when, *of_other, *(a == b for a, b in then)))
    holds_after = z3.substitute(holds, *zip(encoding.flat(here), after, strict=True))
    return [
        Question("initial", (one_of(initial), z3.Not(holds))),
        Question("inductive", (holds, one_of(steps), z3.Not(holds_after))),
        Question("safe", (holds, holds_of_other, one_of(bad))),
    ]


def judge(asked: Iterable[Question]) -> tuple[str, str]:
    """The verdict that the two solvers' answers make, and its reason: PROVED; UNKNOWN, if z3 finds
    something that meets a question or gives up, or cvc5 gives up; DISAGREE, if only cvc5 finds
    something."""
    listed = list(asked)
    for question in listed:
        if (answer := z3_answers(question)) != "unsat":
            return "UNKNOWN", f"{question.name}: z3 says {answer}"
    for question in listed:
        if (answer := cvc5_answers(question)) != "unsat":
            verdict = "DISAGREE" if answer == "sat" else "UNKNOWN"
            return verdict, f"{question.name}: z3 says unsat, cvc5 says {answer}"
    return "PROVED", ""


def z3_answers(question: Question) -> str:
    """ "sat", "unsat" or "unknown"."""
    solver = z3.Then("simplify", "propagate-values", "solve-eqs", "simplify", "smt").solver()
    solver.set("rlimit", RLIMIT)
    solver.add(*question.conditions)
    return str(ask.check(solver))


def cvc5_answers(question: Question) -> str:
    """The same of cvc5, which is given a text."""
    cvc5: Any = importlib.import_module("cvc5")
    manager = cvc5.TermManager()
    solver = cvc5.Solver(manager)
    solver.setOption("rlimit", str(CVC5_RLIMIT))
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, question.smt2(), question.name)
    answer = ""
    while not (command := parser.nextCommand()).isNull():
        answer += str(command.invoke(solver, parser.getSymbolManager()))
    return answer.split()[0]  # "unknown" is followed by its reason
