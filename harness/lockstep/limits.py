# SPDX-License-Identifier: GPL-2.0-only
"""Where unicorn's CPU, which is QEMU's, is known to differ from the manual, which decides then.

Each limit is one that a comparison with the machine has shown, or that QEMU's own checks lack; none
hides more than what it names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """What the CPU beside does otherwise, and what the manual says."""

    what: str
    manual: str


ACCESSED = Limit(
    "a far transfer does not set the accessed flag of the code segment, neither in the descriptor "
    "nor in the hidden part of CS",
    "SDM 3A 3.4.5.1: the processor sets the bit whenever it loads the segment's selector into a "
    "segment register, if it is 0",
)
