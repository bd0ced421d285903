# SPDX-License-Identifier: GPL-2.0-only
"""Writes of the turns of a repeated string instruction, taken as one write."""

from __future__ import annotations

from collections.abc import Sequence

Write = tuple[int, int, int]
"""Address, size in bytes, value."""


def together(writes: Sequence[Write]) -> Write | None:
    """The writes as one, if each is beside the one before it, always in one direction; or the one
    that breaks the row. None if there is no write."""
    if not writes:
        return None
    down = len(writes) > 1 and writes[1][0] < writes[0][0]
    row = list(reversed(writes)) if down else list(writes)
    start, length, content = row[0][0], 0, 0
    for address, size, value in row:
        if address != start + length:
            return address, size, value
        content |= value << 8 * length
        length += size
    return start, length, content
