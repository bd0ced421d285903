# SPDX-License-Identifier: GPL-2.0-only
"""Host and CPUs that share one trampoline area: the state. `models.protocol_steps`: its steps.

The host and every CPU run a `models.process.Process`; memory is ordered as `models.memory_order`
says. There is any number of CPUs. One of them is looked at, and every step is given as that CPU
sees it: how it changes what is shared, and how the CPU itself.

Attempts are not counted. One attempt, any one, is *the tracked attempt*; all others are "another".
The host chooses at a BEGIN that this attempt is the tracked one, or never does. What is proved of
the tracked attempt then holds for each. Likewise the words of the mailbox hold "the tracked
attempt's address" or "another one". Data independence: addresses are only copied, never computed.

What can happen at any time, beside the steps of the two processes:
- the oldest store in a buffer becomes visible;
- INIT reaches any CPU, whether the host sent it or anyone else, any number of times. The CPU stops
  where it is and waits for SIPI. Stores that it has made still become visible, before a new start
  or after it (SDM 3A 12.10 has interrupts drain the buffer; that case is included);
- an INIT or SIPI that the host sends overtakes its stores: sending it is a WRMSR to the x2APIC,
  which is not serializing (SDM 3A 11.12.3); an INIT may also come later, or never;
- once the host has sent SIPI to a CPU in this area, that SIPI arrives: once, again, late, or never.
  It starts only a CPU that waits for it (SDM 3A 9.4.4, 11.6.1), at location 0;
- a kernel that was entered gets page tables of its own, and then leaves the area (`Pair.leave`).

Other areas are absent: they touch other words, and what they do to a CPU of this area is an INIT.
Limits: the host's code runs on one CPU at a time (its lock); INIT never hits that CPU; "owner" is
the host's own variable, so its memory order does not matter; no fault, NMI or SMI.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import z3

from models import memory_order
from models.memory_order import Buffer
from models.process import VERDICTS, Process

# Where a CPU is, if not at a location of its process.
OUTSIDE, WAITS, KERNEL = -1, -2, -3
"""Runs something else (before; or a kernel on tables of its own); waits for SIPI; runs a kernel on
the area's tables."""

# An attempt. NONE: none yet.
NONE, TRACKED, ANOTHER = 0, 1, 2
# `Shared.phase`: the host has not begun the tracked attempt; it is the current one; is over.
BEFORE, CURRENT, AFTER = 0, 1, 2

WORDS = {"status": 1, "kernel": 2, "boot_params": 3, "tables": 4}
"""Numbers of the shared words, for `memory_order`."""
ASSUMPTIONS = (
    "Memory is ordered as on x86 (TSO); the code of host and CPU is as compiled and assembled.",
    "The host's code runs on one CPU at a time (its lock), and that CPU meets no INIT.",
    "No fault, NMI or SMI comes to the host or to a target CPU.",
    "A kernel that was started says that it has left the area only when it has.",
)
"""What is taken for granted, in words for reports."""
NO_VERDICT = 0
VERDICT = {name: number for number, name in enumerate(VERDICTS, 1)}


@dataclass(frozen=True)
class Pair:
    """What runs. `leave`: how a kernel says that it runs on its own tables, as a locked
    compare-exchange of the status word (expected, new); None: it does not say."""

    host: Process
    cpu: Process
    leave: tuple[int, int] | None = None


@dataclass(frozen=True)
class Shared:
    """Memory, the host, and what is remembered of the tracked attempt."""

    at: z3.ArithRef
    """The host's location."""
    buffer: Buffer
    target: z3.ArithRef
    """CPU of the attempt at hand; ids are 0, 1, 2 ..."""
    owner: z3.ArithRef
    status: z3.ArithRef
    """A constant, as a number of 32 bits; or `offer(id)`."""
    named: z3.ArithRef
    """The last offer that the status word held; 0: none yet. It only helps to prove."""
    kernel: z3.ArithRef
    """TRACKED or ANOTHER: whose address."""
    boot_params: z3.ArithRef
    phase: z3.ArithRef
    verdict: z3.ArithRef
    """Of the tracked attempt."""
    shows: z3.BoolRef
    """The status word holds what the target of the tracked attempt has put there in it."""


@dataclass(frozen=True)
class Cpu:
    """One CPU, and what is remembered of it."""

    id: z3.ArithRef
    at: z3.ArithRef
    buffer: Buffer
    kernel: z3.ArithRef
    """What it loaded from the mailbox since its start; NONE: nothing."""
    boot_params: z3.ArithRef
    kicked: z3.BoolRef
    """The host has sent it a SIPI."""
    kick: z3.ArithRef
    """The latest attempt that has it as target."""
    began: z3.ArithRef
    """The attempt that it has started since it last came from SIPI: `kick` at its first write."""
    mine: z3.BoolRef
    """It is the target of the tracked attempt."""
    started: z3.BoolRef
    """It has once started the tracked attempt."""
    committed: z3.BoolRef
    """... and then come to where nothing but the jump can follow."""
    turned_away: z3.BoolRef
    """... and then come to where no jump can follow."""
    jumped: z3.BoolRef
    """... and then jumped."""
    undisturbed: z3.BoolRef
    """The INIT of the tracked attempt reached it, before it had started, and no INIT since."""


@dataclass(frozen=True)
class Step:
    """One step that can be taken if `when`. `free`: variables that may have any value.

    `location`: whose action it is; None: it happens to whoever takes the step, wherever that is.
    """

    what: str
    location: int | None
    when: z3.BoolRef
    shared: Shared
    cpu: Cpu
    free: tuple[z3.ExprRef, ...] = ()


def one_of(conditions: Iterable[z3.BoolRef]) -> z3.BoolRef:
    """At least one of them holds; false if there are none."""
    listed = list(conditions)
    return z3.Or(*listed) if listed else z3.BoolVal(False)


def offer(cpu_id: z3.ArithRef) -> z3.ArithRef:
    """The word that names a CPU; equal to no constant."""
    return -1 - cpu_id


def initial(shared: Shared, cpu: Cpu) -> z3.BoolRef:
    """At boot: the area is as the image was assembled, no CPU is in it."""
    empty = [memory_order.is_empty(b) for b in (shared.buffer, cpu.buffer) if b]
    zero = [slot.value == 0 for b in (shared.buffer, cpu.buffer) for slot in b]
    empty += [slot.word == memory_order.EMPTY for b in (shared.buffer, cpu.buffer) for slot in b]
    return z3.And(
        *(
            shared.at == 0,
            shared.target == 0,
            shared.owner == 0,
            shared.status == 0,
            shared.named == 0,
        ),
        *(shared.kernel == ANOTHER, shared.boot_params == ANOTHER),
        *(shared.phase == BEFORE, shared.verdict == NO_VERDICT, z3.Not(shared.shows)),
        *(cpu.id >= 0, cpu.at == OUTSIDE, cpu.kernel == NONE, cpu.boot_params == NONE),
        *(z3.Not(cpu.kicked), cpu.kick == NONE, cpu.began == NONE, z3.Not(cpu.mine)),
        *(z3.Not(cpu.started), z3.Not(cpu.committed), z3.Not(cpu.turned_away)),
        *(z3.Not(cpu.jumped), z3.Not(cpu.undisturbed)),
        *empty,
        *zero,
    )


def attempt_of(cpu: Cpu) -> z3.ArithRef:
    """The attempt that the CPU runs for. One that has written nothing runs for its latest kick."""
    return z3.If(cpu.began == NONE, cpu.kick, cpu.began)


def reach(process: Process, start: int) -> set[int]:
    """The locations that one or more edges lead to from `start`, whatever is read."""
    found: set[int] = set()
    todo = [start]
    while todo:
        for edge in process.locations[todo.pop()].edges:
            if edge.target not in found:
                found.add(edge.target)
                todo.append(edge.target)
    return found
