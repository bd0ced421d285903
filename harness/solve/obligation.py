# SPDX-License-Identifier: GPL-2.0-only
"""What is to be proved, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import z3


class Verdict(StrEnum):
    """The outcome of an obligation or a claim, the gravest first."""

    DISAGREE = "DISAGREE"  # a second solver says something else
    REFUTED = "REFUTED"  # a concrete input violates it, checked without the solver
    UNSUPPORTED = "UNSUPPORTED"  # the machine met something that it does not model
    INCOMPLETE = "INCOMPLETE"  # a path was lost
    UNKNOWN = "UNKNOWN"  # the solver gave up within its budget
    VACUOUS = "VACUOUS"  # the hypotheses exclude every input: nothing was shown
    PROVED = "PROVED"


END = "end"
"""Shown by how the run ends: by a shutdown, a halt, or a load at `probe` that faults."""
IMAGE = "image"
"""Shown by the bytes of the image after the run."""
OUTSIDE = "outside"
"""Shown by the bytes outside the image that the run writes."""

NOTHING = "nothing"
"""Shown by nothing that a replay sees."""


@dataclass(frozen=True)
class Obligation:
    """Hypotheses and a goal. `goals` name the parts of the goal; all of them must hold.

    `chosen` are further quantities that the claim speaks of for all values (a size, an offset),
    with the value that a readable witness would have. `promises` say in words which hypotheses are
    promises of the host. `probe` is a linear address at which a refutation shows.

    `shown_by` says for a goal what must be seen in a replay for its violation to be confirmed: END,
    IMAGE, OUTSIDE, NOTHING, and names of registers at the hand-off, such as "gdtr_limit" ("if" and
    "df" of RFLAGS). For a goal without an entry that is END.

    `because`: conditions that together imply the goal, as a proof in two steps would have it. Both
    steps are proved; where one fails, the goal is asked for as it stands. They can save time, and
    change no verdict.

    `any_registers`: it speaks of a run whose registers and flags hold anything at entry.
    """

    name: str
    hypotheses: tuple[z3.BoolRef, ...]
    goals: dict[str, z3.BoolRef]
    chosen: dict[str, int] = field(default_factory=dict)
    promises: tuple[str, ...] = ()
    probe: z3.BitVecRef | None = None
    shown_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    any_registers: bool = False
    because: tuple[z3.BoolRef, ...] = ()

    def __post_init__(self) -> None:
        if unknown := self.shown_by.keys() - self.goals.keys():
            raise ValueError(f"{self.name}: shown_by names no goal: {sorted(unknown)}")

    @property
    def goal(self) -> z3.BoolRef:
        """All goals at once."""
        return z3.And(*self.goals.values())


@dataclass(frozen=True)
class Witness:
    """An input for which a goal fails. Every symbol of the obligation has a value.

    `entry_bytes` are bytes of memory at entry (physical address to value) that matter; other bytes
    of unknown memory are 0. `violated` names the goals that fail.
    """

    values: dict[str, int]
    entry_bytes: dict[int, int]
    violated: tuple[str, ...]


@dataclass(frozen=True)
class Second:
    """What a second solver says: are the hypotheses satisfiable, and are they with a goal that
    fails? "sat", "unsat", or "none" if it gives no answer."""

    solver: str  # name and version
    hypotheses: str
    violation: str
    seconds: float
    script: str  # file name of the second question in SMT-LIB 2; "" if it could not be asked


@dataclass(frozen=True)
class Result:
    """The verdict on one obligation. `rlimit` counts z3's resource units, not time. `second`: what
    a second solver says, if it was asked."""

    obligation: str
    verdict: Verdict
    seconds: float
    rlimit: int
    reason: str = ""
    witness: Witness | None = None
    second: Second | None = None


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict on a claim from those on its obligations; without any, nothing was shown."""
    order = list(Verdict)
    return min(verdicts, key=order.index, default=Verdict.VACUOUS)
