# SPDX-License-Identifier: GPL-2.0-only
"""The protocol's state: how it begins, and what names a CPU."""

from __future__ import annotations

from functools import partial
from types import ModuleType

import pytest
import z3

from models import protocol
from models.process import Edge, Kind, Location
from models.protocol import ANOTHER, CURRENT, NONE, TRACKED, VERDICT, WAITS
from tests.models.protocol_rows import EMPTY, Changes, at, process, state, value
from tests.models.rows import Row


def boots(shared: Changes, cpu: Changes, m: ModuleType) -> object:
    return value(m.initial(*state(shared, cpu)))


NOT_EMPTY = (((1, 0), EMPTY), (EMPTY, (1, 0)), ((0, 1), EMPTY), (EMPTY, (0, 1)))
NOT_AT_BOOT: tuple[tuple[Changes, Changes], ...] = (
    *(({name: number}, {}) for name in ("at", "target", "owner") for number in (1, -1)),
    *(({name: number}, {}) for name in ("status", "named") for number in (1, -1)),
    *(({name: TRACKED}, {}) for name in ("kernel", "boot_params")),
    *(({name: NONE}, {}) for name in ("kernel", "boot_params")),
    *(({name: new}, {}) for name, new in (("phase", CURRENT), ("verdict", 1), ("shows", True))),
    *(({"buffer": full}, {}) for full in NOT_EMPTY),
    *(({}, {"buffer": full}) for full in NOT_EMPTY),
    *(({}, {name: TRACKED}) for name in ("kernel", "boot_params", "kick", "began")),
    *(({}, {"at": place}) for place in (0, WAITS)),
    *(({}, {"id": -1}),),
    *(
        ({}, {name: True})
        for name in ("kicked", "mine", "started", "committed", "turned_away", "jumped",
                     "undisturbed")
    ),
)  # fmt: skip

TREE = process(
    "CPU",
    at(Kind.FENCE, edges=(Edge(1), Edge(2))),
    at(Kind.FENCE, edges=(Edge(3),)),
    Location(Kind.PARK, ()),
    at(Kind.FENCE, edges=(Edge(1),)),
)

ROWS = (
    Row("the state at boot", lambda m: [boots({}, {"id": n}, m) for n in (0, 1, 7)], [True] * 3),
    *(
        Row(f"not at boot: {shared or cpu}", partial(boots, shared, cpu), False)
        for shared, cpu in NOT_AT_BOOT
    ),
    Row(
        "an offer is no constant, and another one for each CPU",
        lambda m: [value(m.offer(z3.IntVal(n))) for n in (0, 1, 5)],
        [-1, -2, -6],
    ),
    Row(
        "a CPU runs for the attempt that it began, else for its latest kick",
        lambda m: [
            value(m.attempt_of(state({}, {"began": began, "kick": kick})[1]))
            for began, kick in ((NONE, TRACKED), (ANOTHER, TRACKED), (TRACKED, ANOTHER))
        ],
        [TRACKED, ANOTHER, TRACKED],
    ),
    Row("one of none", lambda m: value(m.one_of([])), False),
    Row(
        "one of several",
        lambda m: [
            value(m.one_of(map(z3.BoolVal, some)))
            for some in ((True,), (False,), (False, True), (False, False))
        ],
        [True, False, True, False],
    ),
    Row(
        "where a process can come to",
        lambda m: [m.reach(TREE, n) for n in range(4)],
        [{1, 2, 3}, {1, 3}, set(), {1, 3}],
    ),
    Row(
        "verdicts have numbers of their own",
        lambda m: sorted(m.VERDICT.values()),
        list(range(1, 8)),
    ),
    Row(
        "what names something differs from what names something else",
        lambda m: [
            len(set(some))
            for some in (
                (m.OUTSIDE, m.WAITS, m.KERNEL),
                (m.NONE, m.TRACKED, m.ANOTHER),
                (m.BEFORE, m.CURRENT, m.AFTER),
                (0, *m.WORDS.values()),
                (m.NO_VERDICT, *VERDICT.values()),
            )
        ],
        [3, 3, 3, 5, 8],
    ),
    Row(
        "a CPU is nowhere in its process while it is elsewhere",
        lambda m: max(m.OUTSIDE, m.WAITS, m.KERNEL) < 0,
        True,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_protocol(row: Row) -> None:
    assert row.outcome(protocol) == row.expected
