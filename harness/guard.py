# SPDX-License-Identifier: GPL-2.0-only
"""The guard file: what one of the checks on the suite itself has found, for the trust page."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA = 1


class GuardRecord(BaseModel):
    """A check that could have found a PROVED to be wrong, and what it found.

    `complete`: at full depth, all shipped trampolines. `figures`: what was done, in the order in
    which it is to be read. `problems`: what must be looked into; while there is one, no verdict is
    to be trusted. `open`: what was found and is explained, or left out and why, with its source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    name: str
    shows: str  # a sentence: what holds if there are no problems
    command: str  # that made it
    fingerprint: str  # of the project's files
    complete: bool
    figures: dict[str, str]
    problems: tuple[str, ...]
    open: tuple[str, ...] = ()
    seconds: float
