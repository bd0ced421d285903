# SPDX-License-Identifier: GPL-2.0-only
"""Decide one obligation: hypotheses satisfiable, then the goal, then the witness by evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import z3

from harness.solve.obligation import Obligation, Result, Verdict
from harness.solve.witness import Concrete, any_witness, nearest_witness
from harness.x86.inputs import Inputs
from harness.x86.solver import Answer, ask

RLIMIT = 400_000_000
"""z3's resource units for one question; of 20 seeds the worst makes the hardest take a tenth."""


def decide(
    obligation: Obligation,
    concrete: Concrete,
    satisfied: Inputs | None = None,
    rlimit: int | None = None,
) -> Result:
    """The verdict on one obligation, from solvers that share nothing with any other obligation.

    `concrete` tells what memory holds at entry for given inputs. `satisfied`: inputs that may show
    that the hypotheses exclude not every input. `rlimit`: z3's resource units for one question, if
    not RLIMIT.
    """
    clock = _Clock(RLIMIT if rlimit is None else rlimit)
    answer = clock.check(obligation.hypotheses, satisfied)
    if answer.status == z3.unsat:
        return clock.result(obligation, Verdict.VACUOUS, "the hypotheses exclude every input")
    if answer.model is None:
        return clock.result(obligation, Verdict.UNKNOWN, f"hypotheses: {answer.reason}")
    if clock.proves_in_two_steps(obligation):
        return clock.result(obligation, Verdict.PROVED)
    answer = clock.check((*obligation.hypotheses, z3.Not(obligation.goal)))
    if answer.status == z3.unsat:
        return clock.result(obligation, Verdict.PROVED)
    if answer.model is None:
        return clock.result(obligation, Verdict.UNKNOWN, answer.reason)
    witness = any_witness(obligation, concrete, clock.check, answer.model)
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
    check = partial(_Clock(RLIMIT).check, known=Inputs())
    found = nearest_witness(candidates, defaults, preferred, concrete, check)
    if found is None:
        return refuted[candidates[0].name]
    obligation, witness = found
    result = refuted[obligation.name][1]
    return obligation, replace(result, witness=witness, reason="; ".join(witness.violated))


class _Clock:
    """Fresh solvers with a deterministic budget, and what they used."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.started = time.perf_counter()
        self.rlimit = 0

    def check(self, conditions: Sequence[z3.BoolRef], known: Inputs | None = None) -> Answer:
        """Are the conditions satisfiable together? With a model if they are: see `ask`."""
        answer = ask(conditions, self._limit, known=known)
        self.rlimit += answer.resources
        return answer

    def proves_in_two_steps(self, obligation: Obligation) -> bool:
        """The hypotheses imply the conditions of `because`, and these the goal."""
        if not obligation.because:
            return False
        between = z3.And(*obligation.because)
        steps = ((*obligation.hypotheses, z3.Not(between)), (between, z3.Not(obligation.goal)))
        return all(self.check(step).status == z3.unsat for step in steps)

    def result(self, obligation: Obligation, verdict: Verdict, reason: str = "") -> Result:
        seconds = time.perf_counter() - self.started
        return Result(obligation.name, verdict, seconds, self.rlimit, reason)
