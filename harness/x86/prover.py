# SPDX-License-Identifier: GPL-2.0-only
"""Questions of the machine to z3 while it runs: is this possible here, does that always hold?

The budget is a resource limit, not a time, so that answers do not depend on the machine's load. "No
answer" counts as possible and as not proved: the run may then carry a path too many, never too few.
"""

from __future__ import annotations

from collections.abc import Sequence

import z3

from harness.x86.solver import check, fresh

RLIMIT = 20_000_000  # z3 resource units, about ten seconds


class Prover:
    """Answers under a set of assumptions that hold on every path."""

    def __init__(self, assumptions: Sequence[z3.BoolRef]) -> None:
        self.assumptions = tuple(assumptions)
        self.calls = 0
        self._answers: dict[tuple[int, ...], bool] = {}
        self._keep: list[z3.BoolRef] = []  # ids are unique only while their terms live

    def possible(self, path: Sequence[z3.BoolRef], condition: z3.BoolRef) -> bool:
        """False only when z3 proves that the condition cannot hold on the path."""
        condition = z3.simplify(condition)
        if z3.is_false(condition):
            return False
        key = (*(c.get_id() for c in path), condition.get_id())
        if key not in self._answers:
            self._keep.append(condition)
            self._keep.extend(path)
            self._answers[key] = self._check([*path, condition])
        return self._answers[key]

    def holds(self, path: Sequence[z3.BoolRef], condition: z3.BoolRef) -> bool:
        """True only when z3 proves the condition for every input of the path."""
        return not self.possible(path, z3.Not(condition))

    def values(
        self,
        path: Sequence[z3.BoolRef],
        term: z3.BitVecRef,
        limit: int,
        families: Sequence[frozenset[int]] = (),
    ) -> frozenset[int] | None:
        """Values that include all those of a term on the path; None if more than `limit`.

        A value that belongs to one of the `families` brings in the largest such family unasked.
        """
        found: frozenset[int] = frozenset()
        while len(found) <= limit:
            self.calls += 1
            # A new solver each time: z3's incremental mode is far slower on these questions.
            solver = self._solver([*path, *(term != value for value in sorted(found))])
            answer = check(solver)
            if answer == z3.unsat:
                return found
            if answer == z3.unknown:
                return None
            value = solver.model().eval(term, model_completion=True).as_long()
            none: frozenset[int] = frozenset()
            found |= {value} | max((f for f in families if value in f), key=len, default=none)
        return None

    def _solver(self, conditions: Sequence[z3.BoolRef]) -> z3.Solver:
        return fresh((*self.assumptions, *conditions), RLIMIT)

    def _check(self, conditions: Sequence[z3.BoolRef]) -> bool:
        self.calls += 1
        return bool(check(self._solver(conditions)) != z3.unsat)
