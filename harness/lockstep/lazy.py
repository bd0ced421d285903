# SPDX-License-Identifier: GPL-2.0-only
"""Registers by name, worked out when somebody looks at one: of most steps nobody does."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping


class LazyRegisters(Mapping[str, int]):
    """Worked out once."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, int] | None = None

    def __getitem__(self, name: str) -> int:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, int]:
        if self._values is None:
            self._values = self._work_out()
        return self._values

    @abstractmethod
    def _work_out(self) -> dict[str, int]:
        """All of them."""
