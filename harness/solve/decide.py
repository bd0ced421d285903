# SPDX-License-Identifier: GPL-2.0-only
"""Decide one obligation: hypotheses satisfiable, then the goal, then the witness by evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import z3

from harness.solve.obligation import Obligation, Result, Verdict
from harness.solve.witness import Concrete, any_witness, nearest_witness
from harness.x86.solver import check, fresh

RLIMIT = 100_000_000  # z3 resource units for one question; the hardest in use needs a tenth


class Satisfied:
    """Hypotheses that were found to be satisfiable together: obligations have them in common."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, ...], tuple[z3.BoolRef, ...]] = {}

    def __contains__(self, hypotheses: tuple[z3.BoolRef, ...]) -> bool:
        return _key(hypotheses) in self._held

    def add(self, hypotheses: tuple[z3.BoolRef, ...]) -> None:
        """Remember them, and keep them alive: a dead term's number is given away again."""
        self._held[_key(hypotheses)] = hypotheses


def _key(terms: tuple[z3.BoolRef, ...]) -> tuple[int, ...]:
    return tuple(term.get_id() for term in terms)


def decide(
    obligation: Obligation, concrete: Concrete, satisfied: Satisfied | None = None
) -> Result:
    """The verdict on one obligation, from solvers that share nothing with any other obligation.

    `concrete` tells what memory holds at entry for given inputs. `satisfied`: hypotheses that need
    not be tried again.
    """
    clock = _Clock()
    satisfied = Satisfied() if satisfied is None else satisfied
    if obligation.hypotheses not in satisfied:
        answer, _ = clock.check(obligation.hypotheses)
        if answer == z3.unsat:
            return clock.result(obligation, Verdict.VACUOUS, "the hypotheses exclude every input")
        if answer == z3.unknown:
            return clock.result(obligation, Verdict.UNKNOWN, f"hypotheses: {clock.reason}")
        satisfied.add(obligation.hypotheses)
    answer, _ = clock.check((*obligation.hypotheses, z3.Not(obligation.goal)))
    if answer == z3.unsat:
        return clock.result(obligation, Verdict.PROVED)
    if answer == z3.unknown:
        return clock.result(obligation, Verdict.UNKNOWN, clock.reason)
    witness = any_witness(obligation, concrete, clock.check)
    if witness is None:
        reason = "z3 gives a counterexample, but evaluating it does not confirm it"
        return clock.result(obligation, Verdict.UNKNOWN, reason)
    result = clock.result(obligation, Verdict.REFUTED, "; ".join(witness.violated))
    return replace(result, witness=witness)


def smallest(
    results: Sequence[tuple[Obligation, Result]],
    defaults: Mapping[str, int],
    preferred: Sequence[z3.BoolRef],
    concrete: Concrete,
) -> tuple[Obligation, Result] | None:
    """Of refuted obligations the one with the most readable witness, and its result with that.

    `defaults` are the values that a witness keeps where it can, by symbol; `preferred` are
    conditions that it satisfies where it can (inputs that can be replayed).
    """
    refuted = {o.name: (o, r) for o, r in results if r.witness is not None}
    candidates = [obligation for obligation, _ in refuted.values()]
    if not candidates:
        return None
    found = nearest_witness(candidates, defaults, preferred, concrete, _Clock().check)
    if found is None:
        return refuted[candidates[0].name]
    obligation, witness = found
    result = refuted[obligation.name][1]
    return obligation, replace(result, witness=witness, reason="; ".join(witness.violated))


def _resources(solver: z3.Solver) -> int:
    """z3's resource counter, which runs on from solver to solver."""
    return int(solver.statistics().get_key_value("rlimit count"))


class _Clock:
    """Fresh solvers with a deterministic budget, and what they used."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.rlimit = 0
        self.reason = ""

    def check(
        self, conditions: Sequence[z3.BoolRef]
    ) -> tuple[z3.CheckSatResult, z3.ModelRef | None]:
        """Are the conditions satisfiable together? With a model if they are."""
        solver = fresh(conditions, RLIMIT)
        before = _resources(solver)
        answer = check(solver)
        self.rlimit += _resources(solver) - before
        if answer == z3.unknown:
            self.reason = f"z3 gave up ({solver.reason_unknown()}) within rlimit {RLIMIT}"
        return answer, solver.model() if answer == z3.sat else None

    def result(self, obligation: Obligation, verdict: Verdict, reason: str = "") -> Result:
        seconds = time.perf_counter() - self.started
        return Result(obligation.name, verdict, seconds, self.rlimit, reason)
