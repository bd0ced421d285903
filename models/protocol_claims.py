# SPDX-License-Identifier: GPL-2.0-only
"""What a hand-off protocol must never reach: the six properties as sets of bad states.

Each is a condition on what is shared and one CPU (`cpu`), or two different ones (`cpu`, `other`).
A property holds if no reachable state is bad, for no CPU or pair of CPUs. The sentences are those
of "What sound means here", the host's side of the multikernel RFC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import z3

from models import memory_order
from models.process import Edge, Kind, Location, Process
from models.protocol import (
    CURRENT,
    KERNEL,
    NO_VERDICT,
    OUTSIDE,
    TRACKED,
    VERDICT,
    WORDS,
    Cpu,
    Pair,
    Shared,
    attempt_of,
    one_of,
    reach,
)
from models.protocol_steps import applies, value_of


def no_false_start(pair: Pair, shared: Shared, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """The host concludes "started" for an attempt only if its target CPU ran the trampoline's entry
    after this kick. Running, refused and stuck say that it started, too. The CPU has run the entry
    when it has made its first write: before that it has changed nothing that anyone can see."""
    says_so = one_of(
        shared.verdict == VERDICT[name] for name in ("running", "started", "refused", "stuck")
    )
    return z3.And(cpu.mine, says_so, z3.Not(cpu.started))


def no_lost_start(pair: Pair, shared: Shared, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """If the target CPU of this attempt wrote its marker and nobody overwrote the attempt, the host
    can still see that it did. Bad: the host has no verdict yet, the marker is in memory, and a
    write that does not look (a store, an exchange) is about to replace it with another value: by
    the host, or by a CPU that is not the target."""
    kept = z3.And(shared.phase == CURRENT, shared.verdict == NO_VERDICT, shared.shows)

    def replaces(buffer: memory_order.Buffer) -> z3.BoolRef:
        if not buffer:
            return z3.BoolVal(False)
        oldest = buffer[0]
        return z3.And(oldest.word == WORDS["status"], oldest.value != shared.status)

    by_host = z3.Or(
        replaces(shared.buffer), _exchanges(pair.host, "status", shared.at, shared, shared.target)
    )
    by_cpu = z3.Or(replaces(cpu.buffer), _exchanges(pair.cpu, "status", cpu.at, shared, cpu.id))
    return z3.And(kept, z3.Or(by_host, z3.And(z3.Not(cpu.mine), by_cpu)))


def own_mail(pair: Pair, shared: Shared, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """A CPU that jumps uses exactly the (kernel, boot_params) pair written for its own attempt:
    never another attempt's, never one word of each."""
    own = z3.And(cpu.kernel == TRACKED, cpu.boot_params == TRACKED)
    return z3.And(_at(pair.cpu, cpu, Kind.JUMP), attempt_of(cpu) == TRACKED, z3.Not(own))


def own_tables(pair: Pair, shared: Shared, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """From paging on until the started kernel has its own page tables, nobody rewrites the tables
    that the CPU runs on. Bad: the host or another CPU is about to. Bad, too: the CPU turns paging
    on while a store of its own to them is on its way: a page walk does not look into buffers."""
    paged = _on_tables(pair, cpu)
    host = _writes_tables(pair.host, shared.at, shared.buffer)
    rival = z3.And(cpu.id != other.id, _writes_tables(pair.cpu, other.at, other.buffer))
    return z3.Or(z3.And(paged, z3.Or(host, rival)), _turns_paging_on_too_soon(pair, cpu))


def honest_verdict(pair: Pair, shared: Shared, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """ "Not responding", "stuck", "refused" and "running" are each concluded only if true, and they
    stay true for that attempt. Not responding, busy: the target has not started this attempt, ever.
    Stuck: it never jumps in it. Refused: it has come to where no jump follows, and never jumps.
    Running: it has come to where nothing but the jump follows."""

    def verdict(*names: str) -> z3.BoolRef:
        return one_of(shared.verdict == VERDICT[name] for name in names)

    lies = z3.Or(
        z3.And(verdict("not responding", "busy"), cpu.started),
        z3.And(verdict("stuck", "refused"), cpu.jumped),
        z3.And(verdict("refused"), z3.Not(cpu.turned_away)),
        z3.And(verdict("running"), z3.Not(cpu.committed)),
    )
    return z3.And(cpu.mine, lies)


def progress(pair: Pair, shared: Shared, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """A host that waits is answered: if the target CPU keeps running, the wait ends, and not by its
    time-out. Bad: the host waits, its INIT and SIPI have reached the target, no other INIT has
    disturbed that, the target has done all that it will do, everything is visible, and the status
    word has a value with which the wait can go on. That no such state is reachable is progress,
    since every run of the CPU's process ends (`unending` says where not)."""
    waits = one_of(shared.at == number for number in wait_loop(pair.host))
    done = z3.Or(cpu.at == OUTSIDE, cpu.at == KERNEL, _at(pair.cpu, cpu, Kind.PARK))
    visible = z3.And(memory_order.is_empty(cpu.buffer), memory_order.is_empty(shared.buffer))
    answered = one_of(shared.status == value for value in answers(pair.host))
    here = z3.And(shared.phase == CURRENT, cpu.undisturbed)
    return z3.And(here, waits, done, visible, z3.Not(answered))


def no_limit_met(pair: Pair, shared: Shared, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """Not one of the six: that the model lets everything happen that can. Bad: a store finds the
    buffer full, or no edge fits what was read."""
    bad = [
        *_limits(pair.host, shared.at, shared.buffer, shared, shared.target),
        *_limits(pair.cpu, cpu.at, cpu.buffer, shared, cpu.id),
    ]
    return one_of(bad)


@dataclass(frozen=True)
class Claim:
    """`bad(pair, shared, cpu, other)`: see above."""

    name: str
    bad: Callable[[Pair, Shared, Cpu, Cpu], z3.BoolRef]


CLAIMS = tuple(
    Claim(bad.__name__, bad)
    for bad in (
        *(no_false_start, no_lost_start, own_mail, own_tables, honest_verdict, progress),
    )
)  # fmt: skip
LIMITS = Claim("no_limit_met", no_limit_met)


# --- What the graphs of the processes say.


def wait_loop(host: Process) -> set[int]:
    """The locations that lie on a cycle which is not a new call: where the host waits."""
    return {start for start in range(len(host.locations)) if start in reach(host, start)}


def answers(host: Process) -> set[int]:
    """The constants with which the wait ends by itself: with any of them in the status word no
    cycle is left, whatever else decides. Empty if that holds only one by one."""
    values = {
        value
        for location in host.locations
        for edge in location.edges
        for value in (edge.when or ("", ()))[1]
        if isinstance(value, int)
    }
    loop = wait_loop(host)
    found = {value for value in values if not _cycle(host, loop, {value})}
    return set() if _cycle(host, loop, found) else found


def unending(cpu: Process) -> set[int]:
    """The locations of a CPU's process that it can come back to without a new start."""
    return {start for start in range(len(cpu.locations)) if start in reach(cpu, start)}


def _cycle(host: Process, loop: set[int], values: set[int]) -> bool:
    """With one of `values` read each time, the host can stay in `loop`."""
    left = {
        number: {edge.target for edge in _open(host.locations[number], values)} & loop
        for number in loop
    }
    while ends := {number for number, targets in left.items() if not targets}:
        left = {n: targets - ends for n, targets in left.items() if n not in ends}
    return bool(left)


def _open(location: Location, values: set[int]) -> Iterator[Edge]:
    """The edges that may be taken with one of `values` in the status word."""
    for edge in location.edges:
        how, listed = edge.when or ("is not", ())
        if location.word != "status" or any((v in listed) == (how == "is") for v in values):
            yield edge


# --- Small parts.


def _at(process: Process, cpu: Cpu, kind: Kind) -> z3.BoolRef:
    places = [n for n, location in enumerate(process.locations) if location.kind is kind]
    return one_of(cpu.at == number for number in places)


def _on_tables(pair: Pair, cpu: Cpu) -> z3.BoolRef:
    locations = pair.cpu.locations
    places = [number for number, location in enumerate(locations) if location.paged]
    if any(location.paged for location in locations if location.kind is Kind.JUMP):
        places.append(KERNEL)
    return one_of(cpu.at == number for number in places)


def _turns_paging_on_too_soon(pair: Pair, cpu: Cpu) -> z3.BoolRef:
    """The next step turns paging on and does not wait for the buffer, which then holds a store to
    the tables: an older one, or the one that this step makes."""
    locations = pair.cpu.locations
    soon = [
        number
        for number, location in enumerate(locations)
        if not location.paged
        and location.kind in (Kind.LOAD, Kind.STORE)
        and any(locations[edge.target].paged for edge in location.edges)
    ]
    older = memory_order.holds(cpu.buffer, WORDS["tables"])
    stores = [n for n in soon if locations[n].kind is Kind.STORE and locations[n].word == "tables"]
    return z3.Or(
        z3.And(older, one_of(cpu.at == number for number in soon)),
        one_of(cpu.at == number for number in stores),
    )


def _writes_tables(process: Process, at: z3.ArithRef, buffer: memory_order.Buffer) -> z3.BoolRef:
    """Its next write to become visible goes to the tables."""
    locked = [
        at == number
        for number, location in enumerate(process.locations)
        if location.word == "tables" and location.kind in (Kind.EXCHANGE, Kind.COMPARE_EXCHANGE)
    ]
    oldest = [buffer[0].word == WORDS["tables"]] if buffer else []
    return one_of([*oldest, z3.And(memory_order.is_empty(buffer), one_of(locked))])


def _exchanges(
    process: Process, word: str, at: z3.ArithRef, shared: Shared, cpu_id: z3.ArithRef
) -> z3.BoolRef:
    """It is about to exchange `word` for another value, whatever it is."""
    return one_of(
        z3.And(at == number, value_of(location.value, shared, cpu_id) != getattr(shared, word))
        for number, location in enumerate(process.locations)
        if location.kind is Kind.EXCHANGE and location.word == word
    )


def _limits(
    process: Process,
    at: z3.ArithRef,
    buffer: memory_order.Buffer,
    shared: Shared,
    cpu_id: z3.ArithRef,
) -> Iterator[z3.BoolRef]:
    for number, location in enumerate(process.locations):
        here = at == number
        if location.kind is Kind.STORE and location.word in WORDS:
            yield z3.And(here, memory_order.is_full(buffer))
        if any(edge.when is None for edge in location.edges) or not location.edges:
            continue
        if location.word == "owner":
            read = shared.owner
        elif location.word == "tables":
            continue
        else:
            word, memory = WORDS[location.word], getattr(shared, location.word)
            read = memory_order.seen(buffer, word, memory)
        fits = one_of(applies(edge, read, shared, cpu_id) for edge in location.edges)
        yield z3.And(here, z3.Not(fits))
