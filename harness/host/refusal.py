# SPDX-License-Identifier: GPL-2.0-only
"""What the execution of a host does not understand. Nothing is guessed and nothing is left out."""

from __future__ import annotations

from trampoline.errors import UserError


class Refusal(UserError):
    """Names the place in the host's code and what is not understood there."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what
