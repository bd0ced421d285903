# SPDX-License-Identifier: GPL-2.0-only
"""Each step of a CPU in the protocol's model: what it changes, worked out by hand."""

from __future__ import annotations

from types import ModuleType

import pytest

from models import protocol_steps
from models.process import Edge, Kind
from models.protocol import ANOTHER, KERNEL, OUTSIDE, TRACKED, WAITS
from tests.models.protocol_rows import Changes, at, steps
from tests.models.protocol_step_rows import (
    CHANGE,
    CLAIM,
    EXCHANGE,
    FENCE,
    GOES_ON,
    JUMP,
    MAIL_KERNEL,
    ME,
    PARK,
    STATUS,
    STORE,
    TABLES,
    VISIBLE,
    Step,
    cpu,
    edges,
    slots,
)
from tests.models.rows import Row

LOAD = at(Kind.LOAD, "status", edges=edges(5))
LOAD_ANY = at(Kind.LOAD, "status")
EITHER_WAY = at(Kind.FENCE, edges=(Edge(2), Edge(3)))
FIRST: Changes = {"at": 1, "began": TRACKED, "started": True}
TARGET: Changes = {"kick": TRACKED, "mine": True}

CPUS_MEMORY = (
    cpu("goes on behind a fence", FENCE, ("fence", {}, GOES_ON)),
    *(
        cpu(
            "waits until its stores are visible",
            (one, PARK, PARK),
            shared={"status": 5},
            cpu={"buffer": slots((TABLES, 0))},
        )
        for one in (FENCE, EXCHANGE, CHANGE)
    ),
    cpu(
        "... even if the status word is not as expected",
        (CHANGE, PARK, PARK),
        shared={"status": 6},
        cpu={"buffer": slots((TABLES, 0))},
    ),
    cpu("a fence is no write", FENCE, ("fence", {}, GOES_ON), cpu={"kick": TRACKED, "mine": True}),
    cpu(
        "what it writes to the mailbox it has not read",
        at(Kind.STORE, "kernel", "kernel"),
        ("store kernel", {}, {"at": 1, "buffer": slots((MAIL_KERNEL, ANOTHER))}),
        cpu={"kernel": TRACKED},
    ),
    cpu("a halt is for good", (PARK, PARK)),
    cpu(
        "keeps what it read of the mailbox: kernel",
        at(Kind.LOAD, "kernel"),
        ("load kernel", {}, {"at": 1, "kernel": TRACKED}),
        shared={"kernel": TRACKED},
    ),
    cpu(
        "keeps what it read of the mailbox: boot_params",
        at(Kind.LOAD, "boot_params"),
        ("load boot_params", {}, {"at": 1, "boot_params": TRACKED}),
        shared={"boot_params": TRACKED},
    ),
    cpu(
        "reads the status word, and is no further than that",
        (LOAD, PARK, PARK),
        ("load status", {}, GOES_ON),
        shared={"status": 5},
        cpu=TARGET,
    ),
    cpu("reads tables, whatever they hold", at(Kind.LOAD, "tables"), ("load tables", {}, GOES_ON)),
    cpu(
        "its first write is the start of its attempt, though nobody sees it yet",
        STORE,
        ("store status", {}, {**FIRST, "buffer": slots((STATUS, 9)), "turned_away": True}),
        cpu=TARGET,
    ),
    cpu(
        "its second write is not",
        STORE,
        ("store status", {}, {"at": 1, "buffer": slots((TABLES, 0), (STATUS, 9))}),
        cpu={**TARGET, "began": ANOTHER, "buffer": slots((TABLES, 0))},
    ),
    cpu(
        "nor is one without an attempt",
        STORE,
        ("store status", {}, {"at": 1, "buffer": slots((STATUS, 9))}),
    ),
    cpu(
        "a store waits for room",
        STORE,
        cpu={"buffer": slots((TABLES, 0), (TABLES, 0))},
    ),
    cpu(
        "to build tables is a write",
        at(Kind.STORE, "tables"),
        ("store tables", {}, {"at": 1, "buffer": slots((TABLES, 0)), "began": ANOTHER}),
        cpu={"kick": ANOTHER},
    ),
    cpu(
        "claims what is offered to it",
        (CLAIM, JUMP, PARK),
        ("lock cmpxchg status", {"status": 9, "shows": True}, {**FIRST, "committed": True}),
        shared={"status": ME},
        cpu=TARGET,
    ),
    cpu(
        "claims nothing that is offered to another CPU",
        (CLAIM, JUMP, PARK),
        ("lock cmpxchg status", {}, {"at": 2}),
        shared={"status": ME, "target": 0},
        cpu={**TARGET, "id": 1},
    ),
    cpu(
        "claims in another attempt",
        (CLAIM, JUMP, PARK),
        ("lock cmpxchg status", {"status": 9}, {"at": 1, "began": ANOTHER}),
        shared={"status": ME},
        cpu={"kick": ANOTHER},
    ),
    cpu(
        "commits: nothing but the jump can follow",
        (CHANGE, JUMP, PARK),
        ("lock cmpxchg status", {"status": 9, "shows": True}, {"at": 1, "committed": True}),
        shared={"status": 5},
        cpu={**TARGET, "began": TRACKED, "started": True},
    ),
    cpu(
        "does not commit: no jump can follow",
        (CHANGE, JUMP, PARK),
        ("lock cmpxchg status", {}, {"at": 2, "turned_away": True}),
        shared={"status": 6, "shows": True},
        cpu={**TARGET, "began": TRACKED, "started": True},
    ),
    cpu(
        "commits in an attempt that is not the tracked one",
        (CHANGE, JUMP, PARK),
        ("lock cmpxchg status", {"status": 9, "shows": True}, GOES_ON),
        shared={"status": 5},
        cpu={**TARGET, "began": ANOTHER, "started": True},
    ),
    cpu(
        "may still go either way",
        (LOAD_ANY, EITHER_WAY, JUMP, PARK),
        ("load status", {}, GOES_ON),
        cpu={"began": TRACKED},
    ),
    cpu(
        "what it was in the tracked attempt stays true: committed",
        (CHANGE, JUMP, PARK),
        ("lock cmpxchg status", {"status": 9}, GOES_ON),
        shared={"status": 5},
        cpu={"began": ANOTHER, "committed": True},
    ),
    cpu(
        "what it was in the tracked attempt stays true: turned away",
        (CHANGE, JUMP, PARK),
        ("lock cmpxchg status", {}, {"at": 2}),
        shared={"status": 6},
        cpu={"began": ANOTHER, "turned_away": True},
    ),
    *(
        cpu(
            f"exchanges: the marker is none of {whom}",
            EXCHANGE,
            ("xchg status", {"status": 9, "shows": False}, GOES_ON),
            shared={"status": 5, "shows": True},
            cpu={"began": ANOTHER, **which},
        )
        for whom, which in (
            ("a target that has not started", {"mine": True}),
            ("who was the target of another attempt", {"started": True}),
        )
    ),
    cpu(
        "exchanges: the marker is its own",
        EXCHANGE,
        ("xchg status", {"status": 9, "shows": True}, {**FIRST, "turned_away": True}),
        shared={"status": 5},
        cpu=TARGET,
    ),
    cpu(
        "exchanges: the marker of a CPU that is not the target is none",
        EXCHANGE,
        ("xchg status", {"status": 9, "shows": False}, {"at": 1, "began": ANOTHER}),
        shared={"status": 5, "shows": True},
        cpu={"kick": ANOTHER},
    ),
    *(
        cpu(
            f"{location.kind.value} of the tables shows no marker",
            location,
            (f"{location.kind.value} tables", {}, {"at": 1, "began": ANOTHER}),
            shared={"status": 5},
            cpu={"kick": ANOTHER, "mine": True, "started": True},
        )
        for location in (
            at(Kind.EXCHANGE, "tables"),
            at(Kind.COMPARE_EXCHANGE, "tables", 3, 0),
        )
    ),
    *(
        cpu(
            f"its store to the status word becomes visible: {said}",
            PARK,
            (VISIBLE, {"status": 7, **shows}, {"buffer": slots((TABLES, 0))}),
            ("INIT", {}, {"at": WAITS}),
            shared={"status": 5, "shows": before, "buffer": slots((STATUS, 8))},
            cpu={"buffer": slots((STATUS, 7), (TABLES, 0)), **whose},
            own=False,
        )
        for said, before, shows, whose in (
            ("the target's marker", False, {"shows": True}, {"mine": True, "started": True}),
            ("not the target's", True, {"shows": False}, {"started": True}),
            ("of the target, before it started", True, {"shows": False}, {"mine": True}),
        )
    ),
    cpu(
        "its store to the tables becomes visible",
        PARK,
        (VISIBLE, {}, {"buffer": slots()}),
        ("INIT", {}, {"at": WAITS}),
        shared={"shows": True},
        cpu={"buffer": slots((TABLES, 9))},
        own=False,
    ),
)  # fmt: skip

RUNNING, FREE = 5, 0
IN_KERNEL: Changes = {"at": KERNEL, "mine": True, "started": True}
STOPS: Step = ("INIT", {}, {"at": WAITS})

KERNELS = (
    *(
        cpu(
            f"a jump {said}",
            (JUMP, PARK),
            ("jump", {}, {"at": KERNEL, **jumped}),
            cpu=which,
        )
        for said, which, jumped in (
            ("in the tracked attempt", {"began": TRACKED, "kick": ANOTHER}, {"jumped": True}),
            ("without any write, for the latest kick", {"kick": TRACKED}, {"jumped": True}),
            ("in another attempt", {"began": ANOTHER, "kick": TRACKED}, {}),
            ("after another one", {"began": ANOTHER, "jumped": True}, {}),
        )
    ),
    cpu(
        "the kernel gets tables of its own and does not say so",
        PARK,
        STOPS,
        ("the kernel leaves", {}, {"at": OUTSIDE}),
        shared={"status": RUNNING},
        cpu={**IN_KERNEL, "buffer": slots()},
        own=False,
    ),
    cpu(
        "the kernel leaves the area",
        PARK,
        STOPS,
        ("the kernel leaves", {"status": FREE, "shows": True}, {"at": OUTSIDE}),
        shared={"status": RUNNING},
        cpu=IN_KERNEL,
        own=False,
        leave=(RUNNING, FREE),
    ),
    cpu(
        "another CPU's kernel leaves the area",
        PARK,
        STOPS,
        ("the kernel leaves", {"status": FREE, "shows": False}, {"at": OUTSIDE}),
        shared={"status": RUNNING, "shows": True},
        cpu={"at": KERNEL, "mine": True},
        own=False,
        leave=(RUNNING, FREE),
    ),
    cpu(
        "a kernel of an earlier attempt of another CPU leaves the area",
        PARK,
        STOPS,
        ("the kernel leaves", {"status": FREE, "shows": False}, {"at": OUTSIDE}),
        shared={"status": RUNNING, "shows": True},
        cpu={"at": KERNEL, "started": True},
        own=False,
        leave=(RUNNING, FREE),
    ),
    cpu(
        "the kernel goes when its stores are visible, though the area is not its own",
        PARK,
        (VISIBLE, {"kernel": TRACKED}, {"buffer": slots()}),
        STOPS,
        shared={"status": 6},
        cpu={**IN_KERNEL, "buffer": slots((MAIL_KERNEL, TRACKED))},
        own=False,
        leave=(RUNNING, FREE),
    ),
    cpu(
        "the kernel goes, but the area was not its own any more",
        PARK,
        STOPS,
        ("the kernel leaves", {}, {"at": OUTSIDE}),
        shared={"status": 6, "shows": True},
        cpu=IN_KERNEL,
        own=False,
        leave=(RUNNING, FREE),
    ),
    cpu(
        "the kernel leaves when its stores are visible",
        PARK,
        (VISIBLE, {"kernel": TRACKED}, {"buffer": slots()}),
        STOPS,
        shared={"status": RUNNING},
        cpu={**IN_KERNEL, "buffer": slots((MAIL_KERNEL, TRACKED))},
        own=False,
        leave=(RUNNING, FREE),
    ),
    *(
        cpu(
            "who is not in a kernel does not leave it",
            PARK,
            STOPS,
            shared={"status": RUNNING},
            cpu={"at": 3},
            own=False,
            leave=leave,
        )
        for leave in (None, (RUNNING, FREE))
    ),
)


def refuses(m: ModuleType, call: str) -> object:
    try:
        if call == "condition":
            return steps(m, "host", at(Kind.INIT, edges=edges(5)))
        return steps(m, "host", at(Kind.STORE, "status", "nonsense"))
    except ValueError as error:
        return str(error)


MISTAKES = (
    Row(
        "a condition needs something that is read",
        lambda m: refuses(m, "condition"),
        "a condition on what INIT reads, but it does not",
    ),
    Row(
        "a value has a name that is known",
        lambda m: refuses(m, "value"),
        "a process's value must be a number or a name, not 'nonsense'",
    ),
)


ROWS = (*CPUS_MEMORY, *KERNELS, *MISTAKES)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_step(row: Row) -> None:
    assert row.outcome(protocol_steps) == row.expected
