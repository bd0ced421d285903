# SPDX-License-Identifier: GPL-2.0-only
"""Where QEMU's CPU, which is unicorn's too, is known to differ from the manual, which decides then.

Each limit is one that a comparison with the machine has shown, or that QEMU's own checks lack; none
hides more than what it names. Faults that QEMU does not raise have a table of their own
(harness/replay/cpu.py, NOT_RAISED): such an input is not compared, for the reason there.
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
CODE_AFTER_INIT = Limit(
    "CS is an execute/read code segment after INIT, until a descriptor is loaded into it (QEMU "
    "7.2, target/i386/cpu.c, x86_cpu_reset)",
    "SDM 3A 9.1.1, table 9-1: present, R/W, accessed, as the other segment registers",
)
