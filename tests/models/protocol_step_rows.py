# SPDX-License-Identifier: GPL-2.0-only
"""Rows of one step of the host or of a CPU, and what they share."""

from __future__ import annotations

from types import ModuleType

from models.process import Edge, Kind, Location
from models.protocol import ANOTHER, NONE, TRACKED, WAITS, WORDS
from tests.models.protocol_rows import EMPTY, Changes, at, steps
from tests.models.rows import Row

Step = tuple[str, Changes, Changes]
STATUS, MAIL_KERNEL, MAIL_BOOT_PARAMS, TABLES = WORDS.values()
ME, OTHER = -1, -2  # the offers to CPU 0 and CPU 1
PARK, JUMP = Location(Kind.PARK, ()), Location(Kind.JUMP, ())
GOES_ON: Changes = {"at": 1}
VISIBLE = "a store becomes visible"


def edges(*values: int | str) -> tuple[Edge, Edge]:
    """To location 1 if one of these is read, else to 2."""
    return Edge(1, ("is", values)), Edge(2, ("is not", values))


def host(
    rule: str,
    location: Location,
    *expected: Step,
    shared: Changes | None = None,
    cpu: Changes | None = None,
    own: bool = True,
) -> Row:
    def outcome(m: ModuleType) -> object:
        return steps(m, "host", location, shared, cpu, own=own)

    return Row(f"host: {rule}", outcome, list(expected))


def cpu(
    rule: str,
    location: Location | tuple[Location, ...],
    *expected: Step,
    shared: Changes | None = None,
    cpu: Changes | None = None,
    own: bool = True,
    leave: tuple[int, int] | None = None,
) -> Row:
    def outcome(m: ModuleType) -> object:
        return steps(m, "CPU", location, shared, cpu, leave, own)

    return Row(f"CPU: {rule}", outcome, list(expected))


def slots(*stores: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """A buffer of two slots."""
    return (*stores, EMPTY, EMPTY)[:2]


BEGIN, INIT, SIPI, FENCE = (at(k) for k in (Kind.BEGIN, Kind.INIT, Kind.SIPI, Kind.FENCE))
CLAIM = at(Kind.COMPARE_EXCHANGE, "status", 9, "offer", edges=edges("offer"))
CHANGE = at(Kind.COMPARE_EXCHANGE, "status", 9, 5, edges(5))
EXCHANGE = at(Kind.EXCHANGE, "status", 9)
STORE = at(Kind.STORE, "status", 9)
STUCK = at(Kind.CONCLUDE, value="stuck")
STOPPED: Changes = {"at": WAITS, "kernel": NONE, "boot_params": NONE, "began": NONE}
RUNS: Changes = {"at": 5, "kernel": TRACKED, "boot_params": ANOTHER, "began": TRACKED}
