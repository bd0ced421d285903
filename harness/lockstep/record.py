# SPDX-License-Identifier: GPL-2.0-only
"""What a lock step campaign has compared: one JSON document per trampoline, and per mode."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MismatchRecord(_Record):
    """The first difference. Numbers of an input or a state are hexadecimal strings, by name.

    `by`: what says otherwise than the CPU: "run" (of a whole image), "machine" or "table" (single
    instructions). `where`: entry and step of a whole image; `source`: file:line there.
    `memory`: of a single instruction's smallest state, the bytes that are not 0, by address.
    """

    by: str
    where: str
    source: str
    instruction: str
    what: str
    predicted: str
    observed: str
    values: dict[str, str]
    memory: dict[str, str] = {}


class WholeRecord(_Record):
    """A trampoline, stepped through beside a CPU. `inputs`: by entry; `ends`: of how many what is
    there at the end was compared, too. `of`: what of the project it was compared with.
    `not_compared`: why this CPU cannot be given what it needs."""

    schema_version: int = SCHEMA
    trampoline: str
    beside: str
    of: str
    asked: int
    inputs: dict[str, int]
    ends: int
    steps: int
    registers: int
    writes: int
    seconds: float
    mismatch: MismatchRecord | None = None
    not_compared: str = ""


class FormRecord(_Record):
    """One form of instruction. `states` are those that were `compared` (of which `faults` are the
    same faults), those that the machine refuses, and those in which the CPU is known to differ from
    the manual, the last two by reason. `by_table`: of so many the table of operations was compared,
    too."""

    form: str
    shipped: bool
    states: int
    compared: int
    faults: int
    by_table: int
    registers: int
    writes: int
    refused: dict[str, int]
    limits: dict[str, int]


class SingleRecord(_Record):
    """Single instructions in one mode. `limits`: what the manual says where the CPU differs."""

    schema_version: int = SCHEMA
    mode: str
    beside: str
    of: str
    asked: int
    forms: tuple[FormRecord, ...]
    limits: dict[str, str]
    seconds: float
    mismatch: MismatchRecord | None = None
