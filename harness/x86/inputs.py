# SPDX-License-Identifier: GPL-2.0-only
"""Inputs that z3 has found: one of them may meet other conditions, too, and save a question."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import z3

KEPT = 8  # questions that follow each other are much alike: older inputs seldom help


class Inputs:
    """The inputs found last. They only ever show that conditions *can* be met, by evaluation.

    `most`: how many are kept.
    """

    def __init__(self, most: int = KEPT) -> None:
        self._inputs: deque[_Input] = deque(maxlen=most)

    def add(self, model: z3.ModelRef) -> None:
        """Remember an input."""
        self._inputs.appendleft(_Input(model))

    def that_meets(self, conditions: Sequence[z3.BoolRef]) -> z3.ModelRef | None:
        """The newest of the inputs that meets all of the conditions, if one does."""
        numbered = [(condition.get_id(), condition) for condition in conditions]
        return next((one.model for one in self._inputs if one.meets(numbered)), None)


class _Input:
    """An input, and which conditions it meets: those of a path are asked about again and again."""

    def __init__(self, model: z3.ModelRef) -> None:
        self.model = model
        # By their ids, which are unique while terms live: they are kept beside.
        self._known: dict[int, tuple[bool, z3.BoolRef]] = {}

    def meets(self, numbered: Sequence[tuple[int, z3.BoolRef]]) -> bool:
        known = self._known
        # The last ones are what a question is about: there an input fails first.
        for number, condition in reversed(numbered):
            if number not in known:
                known[number] = meets(self.model, (condition,)), condition
            if not known[number][0]:
                return False
        return True


def meets(model: z3.ModelRef, conditions: Sequence[z3.BoolRef]) -> bool:
    """The input meets all of the conditions. What the model leaves open counts as 0."""
    return all(z3.is_true(model.eval(c, model_completion=True)) for c in conditions)
