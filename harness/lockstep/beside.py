# SPDX-License-Identifier: GPL-2.0-only
"""What a CPU must offer, for the machine to be compared with it instruction by instruction."""

from __future__ import annotations

from typing import Protocol

from harness.lockstep.state import After, State
from harness.x86.lift import Instruction
from models.cpuid import Features


class Beside(Protocol):
    """A CPU that can be put into a state."""

    @property
    def features(self) -> Features:
        """What CPUID tells of it."""

    def prepared(self, state: State, instruction: Instruction) -> State:
        """The state as this CPU can start from it: its memory may hold more."""

    def run(self, state: State, instruction: Instruction, ours: After) -> After:
        """What one instruction does from such a state. `ours`: what the machine says of it.

        Raises ElsewhereError if this CPU cannot be asked.
        """
