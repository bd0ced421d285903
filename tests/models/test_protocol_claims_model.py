# SPDX-License-Identifier: GPL-2.0-only
"""Which states are bad, one by one."""

from __future__ import annotations

from types import ModuleType

import pytest

from models import protocol_claims
from models.process import Edge, Kind, Location, Process
from models.protocol import (
    AFTER,
    ANOTHER,
    BEFORE,
    CURRENT,
    KERNEL,
    NONE,
    OUTSIDE,
    TRACKED,
    VERDICT,
    WAITS,
    WORDS,
    Pair,
)
from tests.models.protocol_rows import EMPTY, Changes, at, process, state, value
from tests.models.rows import Row

STATUS, MAIL_KERNEL, _, TABLES = WORDS.values()
ANSWERED, MARKER, HELD = 5, 6, 7


def to(target: int, *values: int | str) -> Edge:
    return Edge(target, ("is", values))


def other(target: int, *values: int | str) -> Edge:
    return Edge(target, ("is not", values))


HOST = process(
    "host",
    at(Kind.BEGIN),
    at(Kind.EXCHANGE, "status", HELD, edges=(Edge(2),)),
    at(Kind.LOAD, "status", edges=(to(3, ANSWERED), other(2, ANSWERED), other(4, ANSWERED))),
    at(Kind.CONCLUDE, value="running", edges=(Edge(6),)),
    at(Kind.COMPARE_EXCHANGE, "status", 0, "offer", (to(5, "offer"), other(2, "offer"))),
    at(Kind.CONCLUDE, value="not responding", edges=(Edge(6),)),
    Location(Kind.RETURN, ()),
)
HOST_HOLDS, HOST_WAITS, HOST_CONCLUDES, HOST_WITHDRAWS = 1, 2, 3, 4
CPU = process(
    "CPU",
    at(Kind.COMPARE_EXCHANGE, "status", MARKER, "offer", (to(1, "offer"), other(6, "offer"))),
    at(Kind.STORE, "tables", edges=(Edge(2),)),
    at(Kind.FENCE, edges=(Edge(3),)),
    at(Kind.LOAD, "kernel", edges=(Edge(4),), paged=True),
    at(Kind.COMPARE_EXCHANGE, "status", 8, MARKER, (to(5, MARKER), other(6, MARKER)), True),
    Location(Kind.JUMP, (), paged=True),
    Location(Kind.PARK, ()),
)
CLAIMS_AREA, BUILDS, FENCES, READS, COMMITS, JUMPS, PARKS = range(7)


def bad(
    claim: str,
    shared: Changes,
    cpu: Changes,
    rival: Changes | None = None,
    host: Process = HOST,
    target: Process = CPU,
) -> object:
    """`rival`: the other CPU, number 1 if nothing else is said."""

    def outcome(m: ModuleType) -> object:
        pair = Pair(host, target)
        here, one = state(shared, cpu)
        _, another = state({}, {"id": 1, **(rival or {})})
        return value(getattr(m, claim)(pair, here, one, another))

    return outcome


def rows(claim: str, *cases: tuple[str, bool, Changes, Changes] | tuple[object, ...]) -> list[Row]:
    """Each: rule, whether that is bad, shared part, CPU, the other CPU, processes."""
    return [
        Row(f"{claim}: {rule}", bad(claim, *parts), expected)  # type: ignore[arg-type]
        for rule, expected, *parts in cases
    ]


def verdict(name: str) -> Changes:
    return {"verdict": VERDICT[name]}


NO_FALSE_START = rows(
    "no_false_start",
    *(
        (f"{name} says that it started", True, verdict(name), {"mine": True})
        for name in ("running", "started", "refused", "stuck")
    ),
    ("it did", False, verdict("started"), {"mine": True, "started": True}),
    ("of another CPU nothing is said", False, verdict("started"), {}),
    *(
        (f"{name} does not say so", False, verdict(name), {"mine": True})
        for name in ("not responding", "busy", "failed")
    ),
    ("nothing is said yet", False, {}, {"mine": True}),
)

SHOWS: Changes = {"phase": CURRENT, "shows": True, "status": MARKER}


def buffer(*stores: tuple[int, int]) -> Changes:
    return {"buffer": (*stores, EMPTY, EMPTY)[:2]}


SWAPS = process("CPU", at(Kind.EXCHANGE, "status", 9, edges=(Edge(1),)), Location(Kind.PARK, ()))
SWAPS_MAIL = process("host", at(Kind.EXCHANGE, "kernel", 9), Location(Kind.RETURN, ()))
NO_LOST_START = rows(
    "no_lost_start",
    ("the host's store replaces the marker", True, {**SHOWS, **buffer((STATUS, 0))}, {}),
    ("... by itself", False, {**SHOWS, **buffer((STATUS, MARKER))}, {}),
    ("another store comes first", False, {**SHOWS, **buffer((MAIL_KERNEL, 1), (STATUS, 0))}, {}),
    ("the host's exchange", True, {**SHOWS, "at": HOST_HOLDS}, {}),
    ("... for the same", False, {**SHOWS, "status": HELD, "at": HOST_HOLDS}, {}),
    ("a locked instruction that looks", False, {**SHOWS, "at": HOST_WITHDRAWS}, {}),
    ("the host does something else", False, {**SHOWS, "at": HOST_WAITS}, {}),
    ("another CPU's store", True, {**SHOWS, "at": HOST_WAITS}, buffer((STATUS, 0))),
    (
        "... of the target itself",
        False,
        {**SHOWS, "at": HOST_WAITS},
        {**buffer((STATUS, 0)), "mine": True},
    ),
    ("another CPU's exchange", True, {**SHOWS, "at": HOST_WAITS}, {"at": 0}, {}, HOST, SWAPS),
    (
        "... of the target itself",
        False,
        {**SHOWS, "at": HOST_WAITS},
        {"at": 0, "mine": True},
        {},
        HOST,
        SWAPS,
    ),
    (
        "nobody has a buffer",
        False,
        {**SHOWS, "at": HOST_WAITS, "buffer": ()},
        {"buffer": ()},
        {"buffer": ()},
    ),
    ("the host exchanges another word", False, {**SHOWS, "at": 0}, {}, {}, SWAPS_MAIL),
    ("no marker is there", False, {**SHOWS, "shows": False, "at": HOST_HOLDS}, {}),
    ("a verdict is there", False, {**SHOWS, **verdict("stuck"), "at": HOST_HOLDS}, {}),
    *(
        ("not this attempt", False, {**SHOWS, "phase": phase, "at": HOST_HOLDS}, {})
        for phase in (BEFORE, AFTER)
    ),
)

OWN: Changes = {"at": JUMPS, "began": TRACKED, "kernel": TRACKED, "boot_params": TRACKED}
OWN_MAIL = rows(
    "own_mail",
    ("its own pair", False, {}, OWN),
    ("another kernel", True, {}, {**OWN, "kernel": ANOTHER}),
    ("another boot_params", True, {}, {**OWN, "boot_params": ANOTHER}),
    ("another pair", True, {}, {**OWN, "kernel": ANOTHER, "boot_params": ANOTHER}),
    ("nothing read", True, {}, {**OWN, "kernel": NONE}),
    ("it has not come to the jump", False, {}, {**OWN, "at": COMMITS, "kernel": ANOTHER}),
    ("another attempt", False, {}, {**OWN, "began": ANOTHER, "kernel": ANOTHER}),
    (
        "one that has written nothing jumps for its latest kick",
        True,
        {},
        {**OWN, "began": NONE, "kick": TRACKED, "kernel": ANOTHER},
    ),
)

ON: Changes = {"at": READS}
TABLE_STORE = buffer((TABLES, 0))
REWRITES = process(
    "host", at(Kind.EXCHANGE, "tables", edges=(Edge(1),)), at(Kind.COMPARE_EXCHANGE, "tables", 0, 0)
)
FLAT = process("CPU", at(Kind.STORE, "tables"), Location(Kind.JUMP, ()))
FLAT_AGAIN = process("CPU", at(Kind.FENCE, paged=True), Location(Kind.JUMP, ()))
BUILDS_TOO = process("host", at(Kind.STORE, "tables"), Location(Kind.RETURN, ()))
LOAD_TO_PAGED = process("CPU", at(Kind.LOAD, "tables"), Location(Kind.PARK, (), paged=True))
STORE_TO_PAGED = process("CPU", at(Kind.STORE, "status", 1), Location(Kind.PARK, (), paged=True))
LOCKED_REWRITE = process(
    "CPU",
    at(Kind.EXCHANGE, "tables", edges=(Edge(1),)),
    at(Kind.LOAD, "kernel", edges=(Edge(2),), paged=True),
    Location(Kind.JUMP, (), paged=True),
)
SOON = process(
    "CPU",
    at(Kind.STORE, "tables"),
    at(Kind.LOAD, "kernel", edges=(Edge(2), Edge(3))),
    at(Kind.STORE, "tables", edges=(Edge(4),), paged=True),
    at(Kind.STORE, "tables", edges=(Edge(4),)),
    at(Kind.FENCE, edges=(Edge(5),), paged=True),
    at(Kind.EXCHANGE, "status", 1, edges=(Edge(2),)),
    Location(Kind.JUMP, (), paged=True),
)
QUIET: Changes = {"at": HOST_WAITS}
OWN_TABLES = rows(
    "own_tables",
    ("nobody writes them", False, QUIET, ON),
    ("the host's store", True, {**QUIET, **TABLE_STORE}, ON),
    ("... while the CPU is not on them", False, {**QUIET, **TABLE_STORE}, {"at": FENCES}),
    ("... while its kernel is on them", True, {**QUIET, **TABLE_STORE}, {"at": KERNEL}),
    ("... while it waits", False, {**QUIET, **TABLE_STORE}, {"at": WAITS}),
    ("... after it has left", False, {**QUIET, **TABLE_STORE}, {"at": OUTSIDE}),
    (
        "a kernel that is entered on no tables",
        False,
        {**QUIET, **TABLE_STORE},
        {"at": KERNEL},
        {},
        HOST,
        FLAT,
    ),
    (
        "... though other code runs on some",
        False,
        {**QUIET, **TABLE_STORE},
        {"at": KERNEL},
        {},
        HOST,
        FLAT_AGAIN,
    ),
    ("the host is about to store", False, {"at": 0}, ON, {}, BUILDS_TOO),
    ("the host's exchange", True, {"at": 0}, ON, {}, REWRITES),
    ("the host's compare-exchange", True, {"at": 1}, ON, {}, REWRITES),
    (
        "... behind a store to another word",
        False,
        {"at": 0, **buffer((STATUS, 1))},
        ON,
        {},
        REWRITES,
    ),
    ("the host exchanges another word", False, {"at": HOST_HOLDS}, ON),
    ("another CPU's store", True, QUIET, ON, {"at": FENCES, **TABLE_STORE}),
    (
        "... behind one to another word",
        False,
        QUIET,
        ON,
        {"at": FENCES, **buffer((STATUS, 1), (TABLES, 0))},
    ),
    ("the CPU's own", False, QUIET, {**ON, **TABLE_STORE}, {"id": 0, **TABLE_STORE}),
    (
        "another CPU's exchange",
        True,
        QUIET,
        {"at": 1},
        {"at": 0},
        HOST,
        LOCKED_REWRITE,
    ),
    ("a load turns paging on too soon", True, QUIET, {"at": 1, **TABLE_STORE}, {}, HOST, SOON),
    ("... when all is visible it may", False, QUIET, {"at": 1}, {}, HOST, SOON),
    (
        "... when another store is on its way it may",
        False,
        QUIET,
        {"at": 1, **buffer((STATUS, 1))},
        {},
        HOST,
        SOON,
    ),
    (
        "a store to the tables turns paging on",
        True,
        QUIET,
        {"at": 3},
        {},
        HOST,
        SOON,
    ),
    *(
        (f"a {kind} turns paging on when all is visible", False, QUIET, {"at": 0}, {}, HOST, soon)
        for kind, soon in (("load", LOAD_TO_PAGED), ("store", STORE_TO_PAGED))
    ),
    (
        "a store to the tables while paging is on",
        False,
        QUIET,
        {"at": 2},
        {},
        HOST,
        SOON,
    ),
    (
        "a locked instruction turns paging on",
        False,
        QUIET,
        {"at": 5, **TABLE_STORE},
        {},
        HOST,
        SOON,
    ),
    (
        "a store that does not turn it on",
        False,
        QUIET,
        {"at": 0, **TABLE_STORE},
        {},
        HOST,
        SOON,
    ),
    ("a fence turns paging on", False, QUIET, {"at": FENCES, **TABLE_STORE}),
)

MINE: Changes = {"mine": True, "started": True}
HONEST_VERDICT = rows(
    "honest_verdict",
    *(
        (f"{name}, and it started", True, verdict(name), MINE)
        for name in ("not responding", "busy")
    ),
    *(
        (f"{name}, and it did not start", False, verdict(name), {"mine": True})
        for name in ("not responding", "busy")
    ),
    ("not responding, said of another CPU", False, verdict("not responding"), {"started": True}),
    ("stuck, and it jumped", True, verdict("stuck"), {**MINE, "jumped": True}),
    ("stuck, and it did not", False, verdict("stuck"), MINE),
    (
        "refused, and it jumped",
        True,
        verdict("refused"),
        {**MINE, "jumped": True, "turned_away": True},
    ),
    ("refused, and it may still jump", True, verdict("refused"), MINE),
    ("refused, and it cannot jump", False, verdict("refused"), {**MINE, "turned_away": True}),
    ("running, and it may still halt", True, verdict("running"), MINE),
    ("running, and it can but jump", False, verdict("running"), {**MINE, "committed": True}),
    ("failed says nothing", False, verdict("failed"), {**MINE, "jumped": True}),
    ("nothing is said yet", False, {}, {**MINE, "jumped": True}),
)

WAITING: Changes = {"at": HOST_WAITS, "phase": CURRENT, "status": MARKER}
DONE: Changes = {"at": PARKS, "undisturbed": True}
PROGRESS = rows(
    "progress",
    ("the CPU halts, and the host waits on", True, WAITING, DONE),
    *(
        (f"the CPU {where}, and the host waits on", True, WAITING, {**DONE, "at": place})
        for where, place in (("runs a kernel", KERNEL), ("runs something else", OUTSIDE))
    ),
    ("it has an answer", False, {**WAITING, "status": ANSWERED}, DONE),
    ("the host is in its loop", True, {**WAITING, "at": HOST_WITHDRAWS}, DONE),
    ("the host does not wait", False, {**WAITING, "at": HOST_CONCLUDES}, DONE),
    ("the CPU is not done", False, WAITING, {**DONE, "at": COMMITS}),
    ("the CPU waits for SIPI", False, WAITING, {**DONE, "at": WAITS}),
    ("the CPU was disturbed", False, WAITING, {"at": PARKS}),
    *(("another attempt", False, {**WAITING, "phase": phase}, DONE) for phase in (BEFORE, AFTER)),
    ("the CPU's stores are on their way", False, WAITING, {**DONE, **buffer((STATUS, ANSWERED))}),
    ("the host's are", False, {**WAITING, **buffer((STATUS, ANSWERED))}, DONE),
)

ROWS = (
    *NO_FALSE_START,
    *NO_LOST_START,
    *OWN_MAIL,
    *OWN_TABLES,
    *HONEST_VERDICT,
    *PROGRESS,
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_claim(row: Row) -> None:
    assert row.outcome(protocol_claims) == row.expected
