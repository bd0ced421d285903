# SPDX-License-Identifier: GPL-2.0-only
"""The one way in which z3 is asked: a fresh solver, a deterministic budget, Ctrl-C respected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import z3

from harness.x86.inputs import Inputs

QUICK = 100_000  # z3 resource units for the solver that is tried first
_QUICK = z3.Then("simplify", "propagate-values", "smt")
_BLAST = z3.Then(
    *("simplify", "propagate-values", "solve-eqs", "simplify"),
    *("ackermannize_bv", "bit-blast", "aig", "sat"),
)


def fresh(conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    """A new solver that holds the conditions. `rlimit` counts z3's resource units, not time."""
    return _filled(z3.SolverFor("QF_ABV"), conditions, rlimit)


def quick(conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    """The same for easy questions: several times faster on these, much slower on others."""
    return _filled(_QUICK.solver(), conditions, rlimit)


def blasting(conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    """The same, but it knows bits only: often twice as fast, or soon without an answer."""
    return _filled(_BLAST.solver(), conditions, rlimit)


def _filled(solver: z3.Solver, conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    solver.set("rlimit", rlimit)
    for condition in conditions:  # what `solver.add` does, without its costly checks of types
        z3.Z3_solver_assert(solver.ctx.ref(), solver.solver, condition.as_ast())
    return solver


def check(solver: z3.Solver) -> z3.CheckSatResult:
    """sat, unsat or unknown. Raises KeyboardInterrupt, which z3 would turn into unknown."""
    answer = solver.check()
    if answer == z3.unknown and "interrupted" in solver.reason_unknown():
        raise KeyboardInterrupt
    return answer


class Answer(NamedTuple):
    """What z3 says of some conditions: sat, unsat or unknown; with a model if sat.

    `resources`: z3's resource units that it took. `reason`: why there is no answer.
    """

    status: z3.CheckSatResult
    model: z3.ModelRef | None
    resources: int
    reason: str


def ask(
    conditions: Sequence[z3.BoolRef],
    rlimit: int,
    at_first: int = QUICK,
    known: Inputs | None = None,
) -> Answer:
    """Are the conditions satisfiable together? Solvers of several kinds, until one can say.

    `rlimit`: resource units of each, `at_first`: of the one for easy questions. `known`: inputs
    that are tried before, and that what is found is added to.
    The solvers are new each time: z3's incremental mode is far slower on these questions.
    """
    if known is not None and (model := known.that_meets(conditions)) is not None:
        return Answer(z3.sat, model, 0, "")
    before = _resources()
    for make, limit in ((quick, min(at_first, rlimit)), (blasting, rlimit), (fresh, rlimit)):
        solver = make(conditions, limit)
        status = check(solver)
        if status != z3.unknown:
            model = solver.model() if status == z3.sat else None
            if known is not None and model is not None:
                known.add(model)
            return Answer(status, model, _resources() - before, "")
    reason = f"z3 gave up ({solver.reason_unknown()}) within rlimit {rlimit}"
    return Answer(z3.unknown, None, _resources() - before, reason)


_COUNTER = z3.SimpleSolver()


def _resources() -> int:
    """z3's resource counter, which runs on from solver to solver."""
    return int(_COUNTER.statistics().get_key_value("rlimit count"))
