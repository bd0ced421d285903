# SPDX-License-Identifier: GPL-2.0-only
"""What the symbolic machine refuses. A refusal ends a path by name; it is never guessed around."""

from __future__ import annotations


class Unsupported(Exception):
    """The machine does not model this instruction, operand, selector or state.

    `offset` is the instruction's byte offset in the image, `what` names what is not covered.
    """

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"at image offset {offset:#x}: {what}")
        self.offset = offset
        self.what = what
