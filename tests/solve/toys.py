# SPDX-License-Identifier: GPL-2.0-only
"""Small obligations, and memory at entry without an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import z3

from harness.solve.decide import decide, smallest
from harness.solve.obligation import Obligation, Result
from harness.x86.terms import ENTRY_MEMORY

X, Y, Z = z3.BitVecs("x y z", 32)
FLAG = z3.Bool("flag")


class AsTheModelSays:
    """Memory at entry that holds what the solver chose, else 0."""

    def memory_at_entry(
        self, values: Mapping[str, int], unknown: Mapping[int, int]
    ) -> Callable[[int], int]:
        return lambda address: unknown.get(address, 0)


class AlwaysZero:
    """Memory at entry that is known better than the solver does."""

    def memory_at_entry(
        self, values: Mapping[str, int], unknown: Mapping[int, int]
    ) -> Callable[[int], int]:
        return lambda address: 0


def byte(address: int) -> z3.BitVecRef:
    """What the CPU finds at a physical address."""
    return z3.Select(ENTRY_MEMORY, z3.BitVecVal(address, 64))


def judged(
    goal: z3.BoolRef | dict[str, z3.BoolRef],
    *hypotheses: z3.BoolRef,
    defaults: Mapping[str, int] | None = None,
    preferred: Sequence[z3.BoolRef] = (),
    chosen: dict[str, int] | None = None,
    concrete: AsTheModelSays | AlwaysZero | None = None,
) -> Result:
    """The verdict on a toy obligation, with its smallest witness."""
    goals = goal if isinstance(goal, dict) else {"the goal": goal}
    obligation = Obligation("toy", hypotheses, goals, chosen or {})
    result = decide(obligation, concrete or AsTheModelSays())
    shown = smallest(
        [(obligation, result)], defaults or {}, preferred, concrete or AsTheModelSays()
    )
    return result if shown is None else shown[1]
