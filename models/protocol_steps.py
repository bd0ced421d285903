# SPDX-License-Identifier: GPL-2.0-only
"""Every step that a host and CPUs on one trampoline area can take: see `models.protocol`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import z3

from models import memory_order
from models.memory_order import Buffer
from models.process import Edge, Kind, Location, Process, Value
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
    Cpu,
    Pair,
    Shared,
    Step,
    attempt_of,
    offer,
    one_of,
    reach,
)

ALWAYS = z3.BoolVal(True)


def host_steps(pair: Pair, shared: Shared, cpu: Cpu) -> Iterator[Step]:
    """All steps of the host, as `cpu` sees them. `cpu` may be the target of the attempt or not."""
    for number, location in enumerate(pair.host.locations):
        here = shared.at == number
        for step in _host_location(location, shared, cpu):
            yield replace(step, when=z3.And(here, step.when), what=_name(location), location=number)
    if shared.buffer:
        some = z3.Not(memory_order.is_empty(shared.buffer))
        after = _drained(shared, shared.buffer, z3.BoolVal(False))
        yield Step("a store becomes visible", None, some, after, cpu)


def cpu_steps(pair: Pair, shared: Shared, cpu: Cpu) -> Iterator[Step]:
    """All steps of `cpu`, and those that happen to it."""
    for number, location in enumerate(pair.cpu.locations):
        here = cpu.at == number
        for step in _cpu_location(pair.cpu, location, shared, cpu):
            yield replace(step, when=z3.And(here, step.when), what=_name(location), location=number)
    if cpu.buffer:
        some = z3.Not(memory_order.is_empty(cpu.buffer))
        # A store left from before an INIT counts as one of the tracked attempt, too.
        after = _drained(shared, cpu.buffer, z3.And(cpu.mine, cpu.started))
        rest = replace(cpu, buffer=after.buffer)
        yield Step(
            "a store becomes visible", None, some, replace(after, buffer=shared.buffer), rest
        )
    yield Step("INIT", None, ALWAYS, shared, _initialised(cpu, z3.BoolVal(False)))
    started = replace(cpu, at=z3.IntVal(0))
    yield Step("SIPI", None, z3.And(cpu.at == WAITS, cpu.kicked), shared, started)
    yield from _kernel_leaves(pair, shared, cpu)


def _kernel_leaves(pair: Pair, shared: Shared, cpu: Cpu) -> Iterator[Step]:
    what, left = "the kernel leaves", replace(cpu, at=z3.IntVal(OUTSIDE))
    if pair.leave is None:
        yield Step(what, None, cpu.at == KERNEL, shared, left)
        return
    expected, new = pair.leave
    can = z3.And(cpu.at == KERNEL, memory_order.is_empty(cpu.buffer))
    is_expected = shared.status == expected
    changed = replace(shared, status=z3.IntVal(new), shows=z3.And(cpu.mine, cpu.started))
    yield Step(what, None, z3.And(can, is_expected), changed, left)
    yield Step(what, None, z3.And(can, z3.Not(is_expected)), shared, left)


def _name(location: Location) -> str:
    return f"{location.kind.value} {location.word}".strip()


def _host_location(location: Location, shared: Shared, cpu: Cpu) -> Iterator[Step]:
    is_target = shared.target == cpu.id
    match location.kind:
        case Kind.BEGIN:
            yield from _follow(_begin(shared, cpu), location)
        case Kind.CONCLUDE:
            number = VERDICT[str(location.value)]
            verdict = z3.If(shared.phase == CURRENT, z3.IntVal(number), shared.verdict)
            yield from _follow(_host(replace(shared, verdict=verdict), cpu), location)
        case Kind.RETURN:
            yield _host(replace(shared, at=z3.IntVal(0)), cpu)
        case Kind.INIT:
            late = replace(cpu, undisturbed=z3.And(cpu.undisturbed, z3.Not(is_target)))
            yield from _follow(_host(shared, late), location)
            in_time = z3.And(shared.phase == CURRENT, z3.Not(cpu.started))
            at_once = replace(_host(shared, _initialised(cpu, in_time)), when=is_target)
            yield from _follow(at_once, location)
        case Kind.SIPI:
            kicked = replace(cpu, kicked=z3.Or(cpu.kicked, is_target))
            yield from _follow(_host(shared, kicked), location)
        case Kind.LOAD if location.word == "owner":
            yield from _follow(_host(shared, cpu), location, shared.owner)
        case Kind.STORE if location.word == "owner":
            owner = value_of(location.value, shared, shared.target)
            yield from _follow(_host(replace(shared, owner=owner), cpu), location)
        case _:
            for way in _access(location, shared, shared.buffer, shared.target):
                after = replace(way.shared, buffer=way.buffer)
                yield from _follow(Step("", None, way.when, after, cpu), location, way.read)


def _host(shared: Shared, cpu: Cpu) -> Step:
    return Step("", None, ALWAYS, shared, cpu)


def _begin(shared: Shared, cpu: Cpu) -> Step:
    """With any target, and as the tracked attempt or not."""
    target, tracked = z3.Int("chosen_target"), z3.Bool("chosen_tracked")
    first = z3.If(tracked, z3.IntVal(CURRENT), z3.IntVal(BEFORE))
    phase = z3.If(shared.phase == BEFORE, first, z3.IntVal(AFTER))
    chosen, current = target == cpu.id, phase == CURRENT
    which = z3.If(current, z3.IntVal(TRACKED), z3.IntVal(ANOTHER))
    kicked = replace(
        cpu,
        kick=z3.If(chosen, which, cpu.kick),
        mine=z3.Or(cpu.mine, z3.And(chosen, current)),
    )
    begun = replace(shared, target=target, phase=phase)
    return Step("", None, target >= 0, begun, kicked, (target, tracked))


def _cpu_location(process: Process, location: Location, shared: Shared, cpu: Cpu) -> Iterator[Step]:
    if location.kind is Kind.PARK:
        return
    if location.kind is Kind.JUMP:
        jumped = z3.Or(cpu.jumped, attempt_of(cpu) == TRACKED)
        after = replace(cpu, at=z3.IntVal(KERNEL), jumped=jumped)
        yield Step("", None, ALWAYS, shared, after)
        return
    for way in _access(location, shared, cpu.buffer, cpu.id):
        after = replace(cpu, buffer=way.buffer)
        if location.kind is Kind.LOAD and location.word in ("kernel", "boot_params"):
            after = replace(after, **{location.word: way.read})
        changed = way.shared
        if way.writes:
            after = _wrote(after)
            if location.word == "status" and location.kind is not Kind.STORE:
                changed = replace(changed, shows=z3.And(after.mine, after.started))
        for edge in location.edges:
            arrived = _arrived(process, after, edge.target)
            when = z3.And(way.when, applies(edge, way.read, shared, cpu.id))
            yield Step("", None, when, changed, arrived)


def _follow(step: Step, location: Location, read: z3.ArithRef | None = None) -> Iterator[Step]:
    """The host's step, once for each edge that it can be followed by."""
    for edge in location.edges:
        when = step.when
        if edge.when is not None:
            if read is None:
                raise ValueError(
                    f"a condition on what {location.kind.value} reads, but it does not"
                )
            when = z3.And(when, applies(edge, read, step.shared, step.shared.target))
        yield replace(step, when=when, shared=replace(step.shared, at=z3.IntVal(edge.target)))


@dataclass(frozen=True)
class _Way:
    """One way that an access or a fence can go."""

    when: z3.BoolRef
    shared: Shared
    buffer: Buffer
    """Of whoever makes the access."""
    read: z3.ArithRef
    writes: bool


def _access(
    location: Location, shared: Shared, buffer: Buffer, cpu_id: z3.ArithRef
) -> Iterator[_Way]:
    """By whom `buffer` belongs to. `cpu_id`: what "offer" names."""
    empty, nothing = memory_order.is_empty(buffer), z3.IntVal(0)
    if location.kind is Kind.FENCE:
        yield _Way(empty, shared, buffer, nothing, writes=False)
        return
    word = WORDS[location.word]
    memory = nothing if location.word == "tables" else getattr(shared, location.word)
    if location.kind is Kind.LOAD:
        read = memory_order.seen(buffer, word, memory)
        yield _Way(ALWAYS, shared, buffer, read, writes=False)
        return
    value = value_of(location.value, shared, cpu_id)
    if location.kind is Kind.STORE:
        room = z3.Not(memory_order.is_full(buffer))
        yield _Way(room, shared, memory_order.with_store(buffer, word, value), nothing, writes=True)
        return
    written = shared
    if location.word != "tables":
        written = replace(shared, **{location.word: value})
    if location.word == "status":
        written = replace(written, shows=z3.BoolVal(False), named=_named(shared, value))
    if location.kind is Kind.EXCHANGE:
        yield _Way(empty, written, buffer, memory, writes=True)
        return
    expected = memory == value_of(location.expected, shared, cpu_id)
    yield _Way(z3.And(empty, expected), written, buffer, memory, writes=True)
    yield _Way(z3.And(empty, z3.Not(expected)), shared, buffer, memory, writes=False)


def applies(edge: Edge, read: z3.ArithRef, shared: Shared, cpu_id: z3.ArithRef) -> z3.BoolRef:
    """The edge may be taken after `read` was read."""
    if edge.when is None:
        return z3.BoolVal(True)
    how, values = edge.when
    among = one_of(read == value_of(value, shared, cpu_id) for value in values)
    return among if how == "is" else z3.Not(among)


def value_of(value: Value | None, shared: Shared, cpu_id: z3.ArithRef) -> z3.ArithRef:
    """What a process's constant is now. `cpu_id`: what "offer" names."""
    match value:
        case "kernel" | "boot_params":
            tracked = shared.phase == CURRENT
            return z3.If(tracked, z3.IntVal(TRACKED), z3.IntVal(ANOTHER))
        case "offer":
            return offer(cpu_id)
        case int():
            return z3.IntVal(value)
        case None:
            return z3.IntVal(0)  # to the tables: what is stored does not matter
    raise ValueError(f"a process's value must be a number or a name, not {value!r}")


def _drained(shared: Shared, buffer: Buffer, shows: z3.BoolRef) -> Shared:
    """After the oldest store of `buffer` has reached memory; the rest is left in the result.

    `shows`: what is said of the status word, if it is that one.
    """
    oldest = buffer[0]

    def word(name: str) -> z3.ArithRef:
        return z3.If(oldest.word == WORDS[name], oldest.value, getattr(shared, name))

    return replace(
        shared,
        buffer=memory_order.without_oldest(buffer),
        status=word("status"),
        named=_named(shared, word("status")),
        kernel=word("kernel"),
        boot_params=word("boot_params"),
        shows=z3.If(oldest.word == WORDS["status"], shows, shared.shows),
    )


def _named(shared: Shared, status: z3.ArithRef) -> z3.ArithRef:
    """The last offer, once the status word is `status`."""
    return z3.If(status < 0, status, shared.named)


def _initialised(cpu: Cpu, undisturbed: z3.BoolRef) -> Cpu:
    """After INIT. Its buffer stays: it may drain before or after."""
    return replace(
        cpu,
        at=z3.IntVal(WAITS),
        kernel=z3.IntVal(NONE),
        boot_params=z3.IntVal(NONE),
        began=z3.IntVal(NONE),
        undisturbed=undisturbed,
    )


def _wrote(cpu: Cpu) -> Cpu:
    """After a write, executed but maybe not visible yet: the first one is its start."""
    began = z3.If(cpu.began == NONE, cpu.kick, cpu.began)
    return replace(cpu, began=began, started=z3.Or(cpu.started, began == TRACKED))


def _arrived(process: Process, cpu: Cpu, at: int) -> Cpu:
    """At location `at`. Remembers what can follow from there."""
    kinds = {process.locations[number].kind for number in reach(process, at) | {at}}
    ours, there = cpu.began == TRACKED, replace(cpu, at=z3.IntVal(at))
    if Kind.PARK not in kinds:
        return replace(there, committed=z3.Or(cpu.committed, ours))
    if Kind.JUMP not in kinds:
        return replace(there, turned_away=z3.Or(cpu.turned_away, ours))
    return there
