# SPDX-License-Identifier: GPL-2.0-only
"""The one way in which z3 is asked: a fresh solver, a deterministic budget, Ctrl-C respected."""

from __future__ import annotations

from collections.abc import Iterable

import z3

QUICK_RLIMIT = 30_000  # z3 resource units, a few milliseconds


def fresh(conditions: Iterable[z3.BoolRef], rlimit: int) -> z3.Solver:
    """A new solver that holds the conditions. `rlimit` counts z3's resource units, not time."""
    solver = z3.SolverFor("QF_ABV")
    solver.set("rlimit", rlimit)
    solver.add(*conditions)
    return solver


def quick(conditions: Iterable[z3.BoolRef]) -> z3.Solver:
    """A solver for easy questions: several times faster on these, soon at its limit on others."""
    solver = z3.Then("simplify", "propagate-values", "smt").solver()
    solver.set("rlimit", QUICK_RLIMIT)
    solver.add(*conditions)
    return solver


def check(solver: z3.Solver) -> z3.CheckSatResult:
    """sat, unsat or unknown. Raises KeyboardInterrupt, which z3 would turn into unknown."""
    answer = solver.check()
    if answer == z3.unknown and "interrupted" in solver.reason_unknown():
        raise KeyboardInterrupt
    return answer
