# SPDX-License-Identifier: GPL-2.0-only
"""Each step of the host in the protocol's model: what it changes, worked out by hand."""

from __future__ import annotations

import pytest

from models import protocol_steps
from models.process import Edge, Kind, Location
from models.protocol import AFTER, ANOTHER, BEFORE, CURRENT, OUTSIDE, TRACKED, VERDICT, WAITS
from tests.models.protocol_rows import at, steps
from tests.models.protocol_step_rows import (
    BEGIN,
    CLAIM,
    EXCHANGE,
    FENCE,
    GOES_ON,
    INIT,
    MAIL_BOOT_PARAMS,
    MAIL_KERNEL,
    ME,
    OTHER,
    PARK,
    RUNS,
    SIPI,
    STATUS,
    STOPPED,
    STORE,
    STUCK,
    TABLES,
    VISIBLE,
    cpu,
    edges,
    host,
    slots,
)
from tests.models.rows import Row

ATTEMPTS = (
    host(
        "an attempt has any target; it is the tracked one, or that is still to come",
        BEGIN,
        ("begin 0 False", GOES_ON, {"kick": ANOTHER}),
        ("begin 0 True", {"at": 1, "phase": CURRENT}, {"kick": TRACKED, "mine": True}),
        ("begin 1 False", {"at": 1, "target": 1}, {}),
        ("begin 1 True", {"at": 1, "target": 1, "phase": CURRENT}, {}),
    ),
    host(
        "only one attempt is the tracked one, and its target stays its target",
        BEGIN,
        *(("begin 0 " + chosen, {"at": 1, "phase": AFTER}, {"kick": ANOTHER})
          for chosen in ("False", "True")),
        *(("begin 1 " + chosen, {"at": 1, "target": 1, "phase": AFTER}, {})
          for chosen in ("False", "True")),
        shared={"phase": CURRENT},
        cpu={"kick": TRACKED, "mine": True},
    ),
    host(
        "after the tracked attempt all are others",
        BEGIN,
        *(("begin 0 " + chosen, {"at": 1, "target": 0}, {}) for chosen in ("False", "True")),
        *(("begin 1 " + chosen, GOES_ON, {"kick": ANOTHER}) for chosen in ("False", "True")),
        shared={"phase": AFTER, "target": 1},
        cpu={"id": 1},
    ),
    host(
        "what it concludes of the tracked attempt is remembered",
        STUCK,
        ("conclude", {"at": 1, "verdict": VERDICT["stuck"]}, {}),
        shared={"phase": CURRENT},
    ),
    host("of another it is not", STUCK, ("conclude", GOES_ON, {}), shared={"phase": BEFORE}),
    host(
        "the caller goes on, with a new attempt",
        Location(Kind.RETURN, ()),
        ("return", {}, {}),
        shared={"at": 0},
    ),
    Row(
        "host: returns to where it begins",
        lambda m: steps(m, "host", (BEGIN, Location(Kind.RETURN, ())), {"at": 1}),
        [("return", {"at": 0}, {})],
    ),
)  # fmt: skip

MESSAGES = (
    host(
        "INIT comes late or at once; at once it stops the target, which forgets what it had",
        INIT,
        ("INIT", GOES_ON, {}),
        ("INIT", GOES_ON, {**STOPPED, "undisturbed": True}),
        shared={"phase": CURRENT},
        cpu={**RUNS, "mine": True},
    ),
    host(
        "INIT after the start of the attempt disturbs it",
        INIT,
        ("INIT", GOES_ON, {"undisturbed": False}),
        ("INIT", GOES_ON, {"at": WAITS, "undisturbed": False}),
        shared={"phase": CURRENT},
        cpu={"at": 5, "started": True, "undisturbed": True},
    ),
    host(
        "INIT of another attempt disturbs the tracked one",
        INIT,
        ("INIT", GOES_ON, {"undisturbed": False}),
        ("INIT", GOES_ON, {"at": WAITS, "undisturbed": False}),
        shared={"phase": AFTER},
        cpu={"at": 5, "undisturbed": True},
    ),
    host(
        "INIT reaches the target only",
        INIT,
        ("INIT", GOES_ON, {}),
        shared={"phase": CURRENT},
        cpu={"id": 1, "at": 5, "undisturbed": True},
    ),
    host(
        "... and does not undo that somebody was disturbed",
        INIT,
        ("INIT", GOES_ON, {}),
        shared={"phase": CURRENT},
        cpu={"id": 1, "at": 5},
    ),
    host("SIPI is sent to the target", SIPI, ("SIPI", GOES_ON, {"kicked": True})),
    host("SIPI is sent to nobody else", SIPI, ("SIPI", GOES_ON, {}), cpu={"id": 1}),
    host(
        "SIPI, once sent, may come again",
        SIPI,
        ("SIPI", GOES_ON, {}),
        cpu={"id": 1, "kicked": True},
    ),
    host(
        "INIT and SIPI overtake stores",
        SIPI,
        ("SIPI", GOES_ON, {"kicked": True}),
        shared={"buffer": slots((STATUS, 7))},
    ),
    cpu(
        "INIT comes at any time, from anywhere; stores that were made stay on their way",
        PARK,
        (VISIBLE, {}, {"buffer": slots()}),
        ("INIT", {}, {**STOPPED, "undisturbed": False}),
        cpu={**RUNS, "buffer": slots((TABLES, 0)), "kick": TRACKED, "kicked": True,
             "undisturbed": True},
        own=False,
    ),
    cpu(
        "SIPI starts a CPU that waits for it",
        PARK,
        ("INIT", {}, {}),
        ("SIPI", {}, {"at": 0}),
        cpu={"at": WAITS, "kicked": True},
        own=False,
    ),
    cpu(
        "no SIPI comes that was not sent",
        PARK,
        ("INIT", {}, {}),
        cpu={"at": WAITS},
        own=False,
    ),
    *(
        cpu(
            f"SIPI does not start a CPU {where}",
            PARK,
            ("INIT", {}, {"at": WAITS}),
            cpu={"at": place, "kicked": True},
            own=False,
        )
        for where, place in (("that runs something else", OUTSIDE), ("in the area", 0))
    ),
)  # fmt: skip

OWN = at(Kind.LOAD, "owner", edges=edges("offer"))
LOAD = at(Kind.LOAD, "status", edges=edges(5))

HOSTS_MEMORY = (
    host("reads its own owner", OWN, ("load owner", GOES_ON, {}), shared={"owner": ME}),
    host("and sees another", OWN, ("load owner", {"at": 2}, {}), shared={"owner": OTHER}),
    host(
        "writes it",
        at(Kind.STORE, "owner", "offer"),
        ("store owner", {"at": 1, "owner": OTHER}, {}),
        shared={"target": 1},
    ),
    host(
        "a store goes into the buffer: the tracked attempt's address",
        at(Kind.STORE, "kernel", "kernel"),
        ("store kernel", {"at": 1, "buffer": slots((MAIL_KERNEL, TRACKED))}, {}),
        shared={"phase": CURRENT},
    ),
    *(
        host(
            "... or another one, behind what is there",
            at(Kind.STORE, "boot_params", "boot_params"),
            ("store boot_params",
             {"at": 1, "buffer": slots((MAIL_KERNEL, 1), (MAIL_BOOT_PARAMS, ANOTHER))}, {}),
            shared={"phase": phase, "buffer": slots((MAIL_KERNEL, 1))},
        )
        for phase in (BEFORE, AFTER)
    ),
    host("a store waits for room", STORE, shared={"buffer": slots((STATUS, 1), (STATUS, 2))}),
    host(
        "reads its own store before others see it",
        LOAD,
        ("load status", GOES_ON, {}),
        shared={"status": 7, "buffer": slots((STATUS, 5))},
    ),
    host("reads memory", LOAD, ("load status", {"at": 2}, {}), shared={"status": 7}),
    host(
        "may run out of time whatever it reads",
        at(Kind.LOAD, "status", edges=(*edges(5), Edge(3))),
        ("load status", GOES_ON, {}),
        ("load status", {"at": 3}, {}),
        shared={"status": 5},
    ),
    host(
        "a read passes its stores to other words",
        LOAD,
        ("load status", GOES_ON, {}),
        shared={"status": 5, "buffer": slots((MAIL_KERNEL, 1))},
    ),
    host(
        "exchanges at once, and the marker is gone",
        EXCHANGE,
        ("xchg status", {"at": 1, "status": 9, "shows": False}, {}),
        shared={"status": 5, "shows": True},
    ),
    host(
        "offers: which CPU was named last is remembered",
        at(Kind.EXCHANGE, "status", "offer"),
        ("xchg status", {"at": 1, "status": OTHER, "named": OTHER}, {}),
        shared={"status": 5, "named": ME, "target": 1},
    ),
    host(
        "what is not an offer names nobody else",
        EXCHANGE,
        ("xchg status", {"at": 1, "status": 9}, {}),
        shared={"status": ME, "named": ME},
    ),
    host(
        "free names nobody else",
        at(Kind.EXCHANGE, "status", 0),
        ("xchg status", {"at": 1, "status": 0}, {}),
        shared={"status": 5, "named": ME},
    ),
    host(
        "compares and exchanges",
        CLAIM,
        ("lock cmpxchg status", {"at": 1, "status": 9, "shows": False}, {}),
        shared={"status": ME, "shows": True},
    ),
    host(
        "changes nothing if it finds something else",
        CLAIM,
        ("lock cmpxchg status", {"at": 2}, {}),
        shared={"status": OTHER, "shows": True},
    ),
    host("goes on behind a fence", FENCE, ("fence", GOES_ON, {})),
    *(
        host("waits until its stores are visible", one, shared={"status": ME, "buffer": full})
        for one in (FENCE, EXCHANGE, CLAIM)
        for full in (slots((MAIL_KERNEL, 1)),)
    ),
    host(
        "its stores become visible one by one, the oldest first",
        FENCE,
        (VISIBLE, {"buffer": slots((STATUS, 7)), "kernel": TRACKED}, {}),
        shared={"buffer": slots((MAIL_KERNEL, TRACKED), (STATUS, 7)), "shows": True},
        own=False,
    ),
    host(
        "its store to the status word replaces the marker",
        FENCE,
        (VISIBLE, {"buffer": slots(), "status": 7, "shows": False}, {}),
        shared={"buffer": slots((STATUS, 7)), "shows": True},
        own=False,
    ),
    host(
        "its store of an offer names a CPU when it becomes visible",
        FENCE,
        (VISIBLE, {"buffer": slots(), "status": OTHER, "named": OTHER}, {}),
        shared={"buffer": slots((STATUS, OTHER)), "named": ME},
        own=False,
    ),
    host(
        "its store of a mailbox word names nobody",
        FENCE,
        (VISIBLE, {"buffer": slots(), "kernel": TRACKED}, {}),
        shared={"buffer": slots((MAIL_KERNEL, TRACKED)), "named": OTHER, "status": 5},
        own=False,
    ),
    host(
        "its store of boot_params",
        FENCE,
        (VISIBLE, {"buffer": slots(), "boot_params": TRACKED}, {}),
        shared={"buffer": slots((MAIL_BOOT_PARAMS, TRACKED)), "shows": True},
        own=False,
    ),
    host("no store, none becomes visible", FENCE, own=False),
)  # fmt: skip


ROWS = (*ATTEMPTS, *MESSAGES, *HOSTS_MEMORY)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_step(row: Row) -> None:
    assert row.outcome(protocol_steps) == row.expected
