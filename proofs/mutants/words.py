# SPDX-License-Identifier: GPL-2.0-only
"""Do the claims ask the same of two trampolines, word for word?

What is asked of both holds of both or of none, so no claim tells them apart by it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from functools import cached_property
from typing import TypeAlias

from harness.solve.obligation import Obligation

Key: TypeAlias = tuple[tuple[int, ...], ...]


def key(obligation: Obligation) -> Key:
    """The same for two with the same hypotheses and goals, while one of them lives."""
    sides = (obligation.hypotheses, tuple(obligation.goals.values()))
    return tuple(tuple(term.get_id() for term in terms) for terms in sides)


class Words(Container[Obligation]):
    """All that the claims ask of one trampoline; `ask` tells, when somebody wants to know."""

    def __init__(self, ask: Callable[[], Iterable[Obligation]]) -> None:
        self._ask = ask

    @cached_property
    def _asked(self) -> dict[Key, Obligation]:
        return {key(obligation): obligation for obligation in self._ask()}

    def __contains__(self, obligation: object) -> bool:
        """The same is asked of this one."""
        return isinstance(obligation, Obligation) and key(obligation) in self._asked
