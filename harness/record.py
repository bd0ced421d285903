# SPDX-License-Identifier: GPL-2.0-only
"""The verdict file: one JSON document per trampoline and claim, all that a report may read.

Numbers that are addresses or register values are written as hexadecimal strings, so that no
reader rounds them.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

SCHEMA = 2


class Evidence(StrEnum):
    """What the replay in QEMU showed."""

    CONFIRMED = "CONFIRMED"
    NOT_REPLAYABLE = "NOT REPLAYABLE"
    CONTRADICTED = "CONTRADICTED"
    NOT_REPLAYED = "NOT REPLAYED"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ObligationRecord(_Record):
    """One obligation of the claim. `rlimit` counts z3's resource units."""

    name: str
    verdict: str
    seconds: float
    rlimit: int
    reason: str = ""


class StepRecord(_Record):
    """One instruction of the path that the witness takes, `count` times, and what it changes.

    A loop may be one step; the end of the path is one of count 0.
    """

    offset: str  # byte offset in the image
    mode: str
    symbol: str  # the symbol before it
    source: str  # file:line, or ""
    instruction: str
    count: int = 1
    changes: tuple[str, ...] = ()  # registers, mode, memory; at the end what is violated


class ReplayRecord(_Record):
    """A replay of one input: what was predicted, what QEMU showed, and whether they agree."""

    evidence: Evidence
    reason: str  # why not replayed, what differs, or what was done to show it
    predicted: dict[str, str]
    observed: dict[str, str]


class WitnessRecord(_Record):
    """The input that refutes the claim, and the way it takes."""

    inputs: dict[str, str]
    violated: tuple[str, ...]
    end: str  # how the path ends
    path: tuple[StepRecord, ...]
    replay: ReplayRecord


class OutsideRecord(_Record):
    """A part of the inputs in which none is safe, and one input of it."""

    box: str  # in words
    example: dict[str, str]


class SafeSetRecord(_Record):
    """The inputs for which a claim holds. The parts together are all inputs, and do not overlap.

    `sentence` says what is inside. `inside`: proved to hold; `outside`: proved that it holds for no
    input; `unknown`: neither, empty where the set is exact.
    """

    exact: bool
    sentence: str
    inside: tuple[str, ...]  # each part in words
    outside: tuple[OutsideRecord, ...]
    unknown: tuple[str, ...]
    seconds: float


class SamplesRecord(_Record):
    """Inputs replayed beside the proof. `spread` counts them by region of kernel address."""

    count: int
    agreed: int
    contradictions: tuple[ReplayRecord, ...]
    spread: dict[str, int]
    milliseconds: float  # median per replay
    reason: str = ""  # why there are none


class ClaimRecord(_Record):
    """The verdict on one claim of one trampoline."""

    schema_version: int = SCHEMA
    trampoline: str
    summary: str  # of the trampoline
    claim: str
    sentence: str
    verdict: str
    expected: str  # golden verdict, or "" if the contract names none
    finding: str  # id, or ""
    title: str  # of the finding
    as_expected: bool
    reason: str
    seconds: float
    assumptions: tuple[str, ...]
    obligations: tuple[ObligationRecord, ...]
    witness: WitnessRecord | None
    samples: SamplesRecord | None
    bases: tuple[str, str]
    paths: tuple[str, ...]  # how each path of the run ends
    not_reached: tuple[str, ...]  # instructions of the image that no path executes
    safe_set: SafeSetRecord | None = None

    @property
    def evidence(self) -> str:
        """One phrase for tables."""
        if self.witness is not None:
            replay = self.witness.replay
            return replay.evidence + (f" ({replay.reason})" if replay.reason else "")
        if self.samples is None:
            return "-"
        if self.samples.reason:
            return f"not replayed: {self.samples.reason}"
        if self.samples.contradictions:
            return f"{Evidence.CONTRADICTED} ({len(self.samples.contradictions)} inputs)"
        return f"{self.samples.agreed} replays agree"


def file_name(trampoline: str, claim: str) -> str:
    """Name of the verdict file of a claim."""
    return f"{trampoline}.{claim}.json"
