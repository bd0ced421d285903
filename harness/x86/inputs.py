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
        self._models: deque[z3.ModelRef] = deque(maxlen=most)

    def add(self, model: z3.ModelRef) -> None:
        """Remember an input."""
        self._models.appendleft(model)

    def that_meets(self, conditions: Sequence[z3.BoolRef]) -> z3.ModelRef | None:
        """The newest of the inputs that meets all of the conditions, if one does."""
        return next((model for model in self._models if meets(model, conditions)), None)


def meets(model: z3.ModelRef, conditions: Sequence[z3.BoolRef]) -> bool:
    """The input meets all of the conditions. What the model leaves open counts as 0."""
    # The last ones are what a question is about: there an input fails first.
    return all(z3.is_true(model.eval(c, model_completion=True)) for c in reversed(conditions))
