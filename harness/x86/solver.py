# SPDX-License-Identifier: GPL-2.0-only
"""The one way in which z3 is asked: a fresh solver, a deterministic budget, Ctrl-C respected."""

from __future__ import annotations

from collections.abc import Iterable

import z3

_QUICK = z3.Then("simplify", "propagate-values", "smt")
_BLAST = z3.Then(
    *("simplify", "propagate-values", "solve-eqs", "simplify"),
    *("ackermannize_bv", "bit-blast", "aig", "sat"),
)


def fresh(conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    """A new solver that holds the conditions. `rlimit` counts z3's resource units, not time."""
    solver = z3.SolverFor("QF_ABV")
    solver.set("rlimit", rlimit)
    solver.add(*conditions)
    return solver


def quick(conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    """The same for easy questions: several times faster on these, much slower on others."""
    return _with_tactic(_QUICK, conditions, rlimit)


def blasting(conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    """The same, but it knows bits only: often twice as fast, or soon without an answer."""
    return _with_tactic(_BLAST, conditions, rlimit)


def _with_tactic(tactic: z3.Tactic, conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    solver = tactic.solver()
    solver.set("rlimit", rlimit)
    solver.add(*conditions)
    return solver


def check(solver: z3.Solver) -> z3.CheckSatResult:
    """sat, unsat or unknown. Raises KeyboardInterrupt, which z3 would turn into unknown."""
    answer = solver.check()
    if answer == z3.unknown and "interrupted" in solver.reason_unknown():
        raise KeyboardInterrupt
    return answer
