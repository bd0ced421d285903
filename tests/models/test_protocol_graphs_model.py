# SPDX-License-Identifier: GPL-2.0-only
"""What the graphs of the processes say: where a host waits, what ends that, what no edge fits."""

from __future__ import annotations

import pytest

from models import protocol_claims
from models.process import Edge, Kind, Location, Process
from tests.models.protocol_rows import at, process
from tests.models.rows import Row
from tests.models.test_protocol_claims_model import (
    ANSWERED,
    BUILDS,
    CLAIMS_AREA,
    CPU,
    FENCES,
    HOST,
    MAIL_KERNEL,
    STATUS,
    buffer,
    other,
    rows,
    to,
)

STORES = process("host", at(Kind.STORE, "status", 1), Location(Kind.RETURN, ()))
NARROW = process(
    "host",
    at(Kind.LOAD, "status", edges=(to(1, 5, 6),)),
    at(Kind.LOAD, "owner", edges=(to(0, "offer"),)),
    at(Kind.LOAD, "tables", edges=(to(0, 3),)),
    at(Kind.STORE, "owner", "offer", edges=(Edge(0),)),
    Location(Kind.RETURN, ()),
)
FULL = buffer((STATUS, 1), (STATUS, 2))
MAIL = buffer((MAIL_KERNEL, 1), (MAIL_KERNEL, 2))
NO_LIMIT_MET = rows(
    "no_limit_met",
    ("a store finds room", False, buffer((STATUS, 1)), {}, {}, STORES),
    ("a store finds none", True, FULL, {}, {}, STORES),
    ("a CPU's store finds room", False, {}, {"at": BUILDS}),
    ("a CPU's store finds none", True, {}, {"at": BUILDS, **FULL}),
    ("it is not at a store", False, {}, {"at": FENCES, **FULL}),
    ("a load needs none", False, {**MAIL, "status": 5}, {}, {}, NARROW),
    ("owner is not in memory", False, {"at": 3, **FULL}, {}, {}, NARROW),
    ("an edge fits", False, {"status": 6}, {}, {}, NARROW),
    ("no edge fits", True, {"status": 7}, {}, {}, NARROW),
    ("an own store fits", False, {"status": 7, **buffer((STATUS, 5))}, {}, {}, NARROW),
    ("an own store does not", True, {"status": 5, **buffer((STATUS, 7))}, {}, {}, NARROW),
    ("owner fits", False, {"at": 1, "owner": -1}, {}, {}, NARROW),
    ("owner does not", True, {"at": 1, "owner": -2}, {}, {}, NARROW),
    ("what tables hold is anything", False, {"at": 2}, {}, {}, NARROW),
    ("nothing has to fit at an end", False, {"at": 4}, {}, {}, NARROW),
    ("another CPU's offer fits no edge", False, {"status": -2}, {"at": CLAIMS_AREA}),
)

DEAF = process(
    "host",
    at(Kind.LOAD, "status", edges=(to(1, 5), Edge(0))),
    Location(Kind.RETURN, ()),
)
TWO_ANSWERS = process(
    "host",
    at(Kind.LOAD, "status", edges=(to(2, 5, 6), other(1, 5, 6))),
    at(Kind.LOAD, "status", edges=(to(2, 6, 5), other(0, 6, 5))),
    Location(Kind.RETURN, ()),
)
APART = process(
    "host",
    at(Kind.LOAD, "status", edges=(to(2, 5), other(1, 5))),
    at(Kind.LOAD, "status", edges=(to(2, 6), other(0, 6))),
    Location(Kind.RETURN, ()),
)
OWNERS = process(
    "host",
    at(Kind.LOAD, "owner", edges=(to(2, 5), other(1, 5))),
    at(Kind.LOAD, "status", edges=(to(2, 5), other(0, 5))),
    Location(Kind.RETURN, ()),
)
OWNERS_ONLY = process(
    "host",
    at(Kind.LOAD, "owner", edges=(to(2, 5), other(1, 5))),
    at(Kind.LOAD, "status", edges=(to(0, 5), other(0, 5))),
    Location(Kind.RETURN, ()),
)
BUSY = ((Kind.FENCE, ""), (Kind.STORE, "status"))


def busy(kind: Kind, word: str) -> Process:
    """Waits for 5, and does something else in between."""
    return process(
        "host",
        at(Kind.LOAD, "status", edges=(to(2, 5), to(1, 6), other(1, 5, 6))),
        at(kind, word, 1 if word else None, edges=(Edge(0),)),
        Location(Kind.RETURN, ()),
    )


ENDLESS = process(
    "CPU", at(Kind.FENCE), at(Kind.FENCE, edges=(Edge(0), Edge(2))), Location(Kind.PARK, ())
)
GRAPHS = (
    Row("the host waits where it can come back to", lambda m: m.wait_loop(HOST), {2, 4}),
    Row("who calls again does not wait", lambda m: m.wait_loop(STORES), set()),
    Row("one word ends the wait", lambda m: m.answers(HOST), {ANSWERED}),
    Row("no word ends a wait that may go on all the same", lambda m: m.answers(DEAF), set()),
    Row("each of several words ends it", lambda m: m.answers(TWO_ANSWERS), {5, 6}),
    Row("words that end it only one by one do not count", lambda m: m.answers(APART), set()),
    Row("what owner says does not count", lambda m: m.answers(OWNERS), {5}),
    Row("owner never ends it", lambda m: m.answers(OWNERS_ONLY), set()),
    Row(
        "something else in the loop does not end it",
        lambda m: [m.answers(busy(kind, word)) for kind, word in BUSY],
        [{5}, {5}],
    ),
    Row("every run of the CPU ends", lambda m: m.unending(CPU), set()),
    Row("one that can go round does not", lambda m: m.unending(ENDLESS), {0, 1}),
    Row(
        "the six",
        lambda m: [claim.name for claim in (*m.CLAIMS, m.LIMITS)],
        ["no_false_start", "no_lost_start", "own_mail", "own_tables", "honest_verdict",
         "progress", "no_limit_met"],
    ),
)  # fmt: skip


ROWS = (*NO_LIMIT_MET, *GRAPHS)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_graph(row: Row) -> None:
    assert row.outcome(protocol_claims) == row.expected
