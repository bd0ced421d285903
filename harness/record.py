# SPDX-License-Identifier: GPL-2.0-only
"""The verdict file: one JSON document per trampoline and claim, all that a report may read.

Numbers that are addresses or register values are written as hexadecimal strings, so that no
reader rounds them.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from harness.job_record import JobRecord

SCHEMA = 5


class Evidence(StrEnum):
    """What the replay in QEMU showed, the best first."""

    CONFIRMED = "CONFIRMED"
    NOT_REPLAYABLE = "NOT REPLAYABLE"
    NOT_REPLAYED = "NOT REPLAYED"
    CONTRADICTED = "CONTRADICTED"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SecondRecord(_Record):
    """What a second solver says of an obligation: of the hypotheses, and of an input that meets
    them and violates the goal. "sat", "unsat", or "none" if it gives no answer."""

    solver: str  # name and version
    hypotheses: str
    violation: str
    seconds: float
    script: str  # file name of the second question in SMT-LIB 2; "" if it could not be asked


class ObligationRecord(_Record):
    """One obligation of the claim. `rlimit` counts z3's resource units. `second`: None if no second
    solver was asked."""

    name: str
    verdict: str
    seconds: float
    rlimit: int
    reason: str = ""
    second: SecondRecord | None = None


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
    """A replay of one input: what was predicted, what QEMU showed, and whether they agree. `job`:
    what QEMU was given, if it was one start of one CPU."""

    evidence: Evidence
    reason: str  # why not replayed, what differs, or what was done to show it
    predicted: dict[str, str]
    observed: dict[str, str]
    job: JobRecord | None = None


class SecondStartRecord(_Record):
    """The second of two starts that a claim compares: those of its inputs that the first one has
    otherwise, the way it takes, and its replay, where the first one's was CONFIRMED."""

    inputs: dict[str, str]
    end: str  # how the path ends
    path: tuple[StepRecord, ...]
    replay: ReplayRecord | None = None


class AnotherRecord(_Record):
    """A second input that refutes the claim, replayed in place of the smallest one. `why`: why QEMU
    cannot show that. `second`: as for a witness."""

    why: str
    inputs: dict[str, str]
    violated: tuple[str, ...]
    second: SecondStartRecord | None = None


class WitnessRecord(_Record):
    """The smallest input that refutes the claim, the way it takes, and its replay; or that of
    `another` one. Where the claim compares two starts this is the first, and `second` the other,
    which was not replayed where `another` was."""

    inputs: dict[str, str]
    violated: tuple[str, ...]
    end: str  # how the path ends
    path: tuple[StepRecord, ...]
    replay: ReplayRecord
    another: AnotherRecord | None = None
    second: SecondStartRecord | None = None

    @property
    def second_replayed(self) -> SecondStartRecord | None:
        """The second of two starts that were replayed."""
        second = self.second if self.another is None else self.another.second
        return second if second is not None and second.replay is not None else None

    @property
    def of_both(self) -> ReplayRecord:
        """The replay that decides what the evidence is: the second start's if that is amiss."""
        second = self.second_replayed
        return self.replay if second is None else deciding(self.replay, second.replay)


def deciding(first: ReplayRecord, second: ReplayRecord | None) -> ReplayRecord:
    """Of the replays of two starts that are compared the one that decides what both come to."""
    if second is None or second.evidence is Evidence.CONFIRMED:
        return first
    return second.model_copy(update={"reason": f"the second start: {second.reason}"})


class EventRecord(_Record):
    """One step of a schedule: who, what, and where in whose code ("" if anywhere)."""

    who: str
    what: str
    where: str


class ScheduleRecord(_Record):
    """A shortest order of steps of host and CPUs that refutes a claim. `shows`: what in particular,
    where it is not simply the shortest of all."""

    shows: str
    events: tuple[EventRecord, ...]
    replay: ReplayRecord


class GoalRecord(_Record):
    """A part of a claim that does not hold, with the smallest input that breaks it."""

    goal: str
    inputs: dict[str, str]
    replay: ReplayRecord


class TransitionRecord(_Record):
    """A change of the status word that some run makes: both values by name, by whom, how, and
    where in whose code."""

    before: str
    after: str
    who: str
    what: str
    where: str


class ModeRecord(_Record):
    """A stretch of a path in one mode of the processor."""

    mode: str
    instructions: int


class StretchRecord(_Record):
    """Bytes that a start touches, from `start` up to `end`, which is outside: what is done with
    them, by code of which mode, and the image's symbol before them ("" outside the image)."""

    start: str
    end: str
    what: str  # "fetched", "read" or "written"
    mode: str
    where: str


class MappingRecord(_Record):
    """Linear addresses from `start` up to `end`, which is outside, that the page tables map from
    `physical` on. `page`: bytes of each page; `rights`: "r", then "w" and "x" where allowed;
    `entries`: of the tables, from the top."""

    start: str
    end: str
    physical: str
    page: int
    rights: str
    entries: str


class PageRecord(_Record):
    """A page of memory: its address, and where it is in the image, by symbol ("" outside)."""

    start: str
    where: str


class PictureRecord(_Record):
    """What one everyday start does: the modes it goes through, the memory it touches, what is
    mapped when it ends. `base`, `size`: of the image, in bytes. `inputs`: what else the host has
    chosen. `pages`: all that are touched. `own_tables`: the tables are the image's, not its host's.
    `cut_off`: there are more tables than were looked into, and `mappings` may lack some."""

    base: str
    size: int
    inputs: dict[str, str]
    modes: tuple[ModeRecord, ...]
    stretches: tuple[StretchRecord, ...]
    pages: tuple[PageRecord, ...]
    own_tables: bool
    mappings: tuple[MappingRecord, ...]
    cut_off: bool = False


class RangeRecord(_Record):
    """The values that a box of a safe set leaves to one quantity, both ends included. `alone`: the
    box says nothing of any other quantity."""

    quantity: str
    part: str  # "inside", "outside" or "unknown"
    low: str
    high: str
    alone: bool


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
    ranges: tuple[RangeRecord, ...] = ()  # of addresses that its boxes restrict, to be drawn


class SamplesRecord(_Record):
    """What was replayed beside the proof. `of`: "inputs", and `spread` counts them by region of
    kernel address; or "random schedules", and it counts the host's verdicts in them."""

    of: str = "inputs"
    count: int
    agreed: int
    contradictions: tuple[ReplayRecord, ...]
    spread: dict[str, int]
    milliseconds: float  # median per replay
    reason: str = ""  # why there are none


class ClaimRecord(_Record):
    """The verdict on one claim of one trampoline. `of`: the fingerprint of the project's files with
    which it was found."""

    schema_version: int = SCHEMA
    of: str = ""
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
    bases: tuple[str, ...]  # lowest and highest; none of a claim on trampoline and host together
    paths: tuple[str, ...]  # how each path of the run ends
    not_reached: tuple[str, ...]  # instructions of the image that no path executes
    one_way: tuple[str, ...] = ()  # conditional branches that every path takes, or none
    machine_rlimit: int = 0  # of the hardest question of the symbolic execution
    safe_set: SafeSetRecord | None = None
    schedules: tuple[ScheduleRecord, ...] = ()  # the shortest first
    goals: tuple[GoalRecord, ...] = ()  # those refuted, of a claim on the host's code alone
    transitions: tuple[TransitionRecord, ...] = ()  # of the status word, for the state diagram
    picture: PictureRecord | None = None  # of the trampoline, with one of its claims

    @property
    def replay(self) -> ReplayRecord | None:
        """Of a refuted claim, the replay of what refutes it; the one with least to show for it."""
        if self.witness is not None:
            return self.witness.of_both
        order = list(Evidence)
        replays = [one.replay for one in self.schedules] + [one.replay for one in self.goals]
        return max(replays, key=lambda one: order.index(one.evidence), default=None)

    @property
    def evidence(self) -> str:
        """One phrase for tables."""
        if (replay := self.replay) is not None:
            return replay.evidence + (f" ({replay.reason})" if replay.reason else "")
        if self.samples is None:
            return "-"
        if self.samples.reason:
            return f"not replayed: {self.samples.reason}"
        if self.samples.contradictions:
            wrong = len(self.samples.contradictions)
            return f"{Evidence.CONTRADICTED} ({wrong} {self.samples.of})"
        what = "replays" if self.samples.of == "inputs" else self.samples.of
        return f"{self.samples.agreed} {what} agree"


def file_name(trampoline: str, claim: str) -> str:
    """Name of the verdict file of a claim."""
    return f"{trampoline}.{claim}.json"
