# SPDX-License-Identifier: GPL-2.0-only
"""One obligation after the other: its questions, their clauses, their proofs, a verdict."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import z3

from harness.certify import lrat, reads
from harness.certify.blast import NoRule
from harness.certify.elaborate import NotAProof, Step, elaborate
from harness.certify.formula import Formula, NotTheConditions
from harness.certify.inputs import Input, NotMet, compare, drawn, that_meets
from harness.certify.operations import NotProved, Operations, WrongGates
from harness.certify.reads import NotReduced, Reduced, without_arrays
from harness.certify.sat import Cadical, GaveUp, Satisfiable
from harness.solve.obligation import Obligation

OTHERS = 2  # inputs, drawn, on which clauses and conditions are compared


class Verdict(StrEnum):
    """What comes of an obligation, the gravest first."""

    FAILED = "FAILED"  # it does not hold, a proof was rejected, or clauses say something else
    NOT_CERTIFIED = "NOT CERTIFIED"  # there is no proof, for the reason given
    CERTIFIED = "CERTIFIED"


@dataclass(frozen=True)
class Proof:
    """One set of clauses, and a proof that they contradict each other: DIMACS and LRAT, as text."""

    question: str
    name: str  # made from the clauses
    dimacs: str
    lrat: str
    variables: int
    clauses: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Certificate:
    """What is said of one obligation. `proofs`: all of them are needed."""

    obligation: str
    verdict: Verdict
    reason: str
    proofs: tuple[Proof, ...]
    seconds: float


class Certifier:
    """Certifies obligations.

    `known`: a proof in LRAT that an earlier run has found, by the name that its clauses give it; it
    is checked like a new one.
    """

    def __init__(
        self,
        solver: Cadical,
        known: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self._solver = solver
        self._known = known
        self._operations = Operations()
        self._proved: dict[str, tuple[str, int]] = {}

    def certify(self, obligation: Obligation) -> Certificate:
        """A proof for each of the obligation's questions, checked; or why there is none."""
        began = time.perf_counter()
        verdict, reason, proofs = Verdict.CERTIFIED, "", tuple[Proof, ...]()
        try:
            proofs = self._proofs(obligation)
        except (NoRule, NotReduced, NotProved, GaveUp, NotMet) as error:
            verdict, reason = Verdict.NOT_CERTIFIED, str(error)
        except Satisfiable:
            verdict, reason = Verdict.FAILED, "some input meets the hypotheses and breaks the goal"
        except (NotTheConditions, WrongGates, NotAProof, lrat.Rejected) as error:
            verdict, reason = Verdict.FAILED, str(error)
        seconds = time.perf_counter() - began
        return Certificate(obligation.name, verdict, reason, proofs, seconds)

    def _proofs(self, obligation: Obligation) -> tuple[Proof, ...]:
        met = that_meets(obligation.hypotheses)
        *in_steps, at_once = ways(obligation)
        for questions in in_steps:
            with suppress(Satisfiable):  # then the goal may follow all the same
                return tuple(self._proof(*question, met) for question in questions)
        return tuple(self._proof(*question, met) for question in at_once)

    def _proof(self, question: str, conditions: Sequence[z3.BoolRef], met: Input) -> Proof:
        """That the conditions contradict each other. Raises Satisfiable if they do not."""
        reduced = without_arrays(conditions)
        try:
            return self._without_arrays(question, conditions, reduced, (), met)
        except Satisfiable:
            if not reduced.demands:
                raise
        return self._without_arrays(question, conditions, reduced, reduced.demands, met)

    def _without_arrays(
        self,
        question: str,
        conditions: Sequence[z3.BoolRef],
        reduced: Reduced,
        demands: Sequence[z3.BoolRef],
        met: Input,
    ) -> Proof:
        began = time.perf_counter()
        reads.check(conditions, reduced, demands)
        made = Formula((*reduced.conditions, *demands))
        for term in made.operations:
            self._operations.check(term)
        inputs = (met, *drawn(OTHERS))
        compare(made.text, (*conditions, *demands), reduced.reads, inputs)
        name = hashlib.sha256(made.text.encode()).hexdigest()
        if name not in self._proved:
            text = self._known(name) or self._found(made.text)
            self._proved[name] = text, lrat.check(made.text, text)
        text, steps = self._proved[name]
        seconds = time.perf_counter() - began
        return Proof(question, name, made.text, text, made.variables, made.clauses, steps, seconds)

    def _found(self, dimacs: str) -> str:
        """A proof in LRAT from the solver's. Raises Satisfiable, GaveUp or NotAProof."""
        given = list(lrat.read_dimacs(dimacs).values())
        return written(elaborate(given, self._solver.proof(dimacs)))


Question = tuple[str, tuple[z3.BoolRef, ...]]
"""In words, and conditions of which is to be proved that they contradict each other."""


def ways(obligation: Obligation) -> list[list[Question]]:
    """The questions that together decide the obligation; the last way is the goal as it stands."""
    hypotheses, goal = obligation.hypotheses, obligation.goal
    at_once = [("hypotheses and a broken goal", (*hypotheses, z3.Not(goal)))]
    if not obligation.because:
        return [at_once]
    between = z3.And(*obligation.because)
    first = ("hypotheses and a broken reason", (*hypotheses, z3.Not(between)))
    return [[first, ("the reasons and a broken goal", (between, z3.Not(goal)))], at_once]


def written(steps: Sequence[Step]) -> str:
    """Steps in LRAT."""
    return "".join(
        f"{' '.join(map(str, (step.number, *step.clause, 0, *step.hints, 0)))}\n" for step in steps
    )
