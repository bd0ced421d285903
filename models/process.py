# SPDX-License-Identifier: GPL-2.0-only
"""A process: what one CPU does to memory that it shares with others, in program order.

A process is a graph of locations. Each holds one action; the edges say where the process goes on,
and may depend on what the action read. Where several edges apply, any of them may be taken: what
decides (an input, a feature of the CPU, a time-out) is not part of the protocol.

In the hand-off protocol the words are "status", "kernel", "boot_params" (the mailbox) and "tables"
(all page tables and every other part of the image that a start rewrites, as one word). "owner" is a
variable of the host alone, one for each area: 0, or the "offer" of the CPU that was kicked last.
Of CPUs that are started in one image at once (`models.at_once`) they are "lock" and "image".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

Value = int | str
"""A constant of 32 bits; or by name: "kernel" and "boot_params" (the addresses of the attempt at
hand), "offer" (the word that names this attempt's target CPU; to that CPU: that names itself)."""


class Kind(Enum):
    """What a location does. SDM 3A 8.2 "Memory Ordering" says when it is seen by others."""

    LOAD = "load"  # a plain load; may pass older stores to other words
    STORE = "store"  # goes to the store buffer
    EXCHANGE = "xchg"  # locked: drains the store buffer, reads, writes
    COMPARE_EXCHANGE = "lock cmpxchg"  # locked: writes `value` if it reads `expected`
    FENCE = "fence"  # MFENCE, a locked instruction on other memory, or a serializing instruction
    INIT = "INIT"  # the host sends INIT to the target of the attempt
    SIPI = "SIPI"  # the host sends SIPI, with this area's vector, to the target of the attempt
    BEGIN = "begin"  # the host begins an attempt: with any target, and a fresh pair of addresses
    CONCLUDE = "conclude"  # the host concludes `value` of the attempt (one of `VERDICTS`)
    JUMP = "jump"  # the CPU leaves for the kernel, with the pair that it loaded last
    PARK = "park"  # the CPU halts for good
    RETURN = "return"  # the host's caller goes on: the process starts anew at location 0


VERDICTS = ("running", "started", "refused", "stuck", "not responding", "busy", "failed")


@dataclass(frozen=True)
class Edge:
    """The process goes on at location `target`, if what the action read is as `when` says.

    `when`: None: always possible. ("is", v): the value read is v. ("is not", (v, ...)): none of
    these.
    """

    target: int
    when: tuple[str, tuple[Value, ...]] | None = None


@dataclass(frozen=True)
class Location:
    """One action and what follows it. `place`: where that is in the code, for people.

    `addresses`: of the instructions that do it, bytes from the start of the image, or of the host
    object's .text; several, if they do the same and go on alike; empty, if it is none (begin,
    conclude, return). Of INIT and SIPI: of the call that sends it.
    `paged`: of a CPU: it runs on the tables of its area while it is here.
    `fault`: of PARK: no halt, but a fault that nothing handles, or whatever else cannot go on.
    """

    kind: Kind
    edges: tuple[Edge, ...]
    word: str = ""
    value: Value | None = None
    expected: Value | None = None
    paged: bool = False
    place: str = ""
    fault: bool = False
    addresses: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Process:
    """Starts at location 0. `name`: "host" or "CPU"."""

    name: str
    locations: tuple[Location, ...]
