# SPDX-License-Identifier: GPL-2.0-only
"""Any number of CPUs that are started in one image, each at any time: state, steps, property.

Each CPU runs a `models.process.Process`; memory is ordered as `models.memory_order` says. There are
two shared words: the "lock", a number of 32 bits, and the "image", which is all other memory that
the code reads or writes, operands that it has patched and executes included. What the image holds
is not modelled, only when it is touched: one CPU is looked at, and every step is given as that CPU
takes it.

What can happen at any time, beside the steps of the process:
- the oldest store in a buffer becomes visible;
- a CPU is started, whatever it did before, any number of times. Its store buffer is then empty: the
  INIT before drains it (SDM 3A 12.10);
- a kernel that was entered leaves the image. If there is a lock, it then stores 0 there: whatever
  it has stored in the image comes before that, and is visible before it (SDM 3A 9.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import z3

from models import memory_order
from models.memory_order import Buffer
from models.process import Edge, Kind, Location, Process
from models.protocol import KERNEL, OUTSIDE, one_of, reach

WORDS = {"lock": 1, "image": 2}
"""Numbers of the shared words, for `memory_order`."""
FREE = 0
"""What the kernel stores in the lock."""
NOBODY = -1
ACCESSES = (Kind.LOAD, Kind.STORE, Kind.EXCHANGE, Kind.COMPARE_EXCHANGE)
ASSUMPTIONS = (
    "Memory is ordered as on x86 (TSO).",
    "Nobody but these CPUs and their kernels writes the lock; a kernel stores 0 there, and only "
    "when it has left the image.",
    "A CPU's store buffer is empty when it is started.",
)
"""What is taken for granted, in words for reports."""


@dataclass(frozen=True)
class OneImage:
    """What runs. `starts`: locations at which a CPU may begin; `lock`: what that word holds before
    the first start; None: there is none."""

    cpu: Process
    starts: tuple[int, ...]
    lock: int | None


@dataclass(frozen=True)
class Shared:
    """Memory. `holder` only helps to prove: the id of the CPU that made the lock another value than
    FREE; or NOBODY."""

    lock: z3.ArithRef
    holder: z3.ArithRef


@dataclass(frozen=True)
class Cpu:
    """One CPU. `at`: a location; OUTSIDE: it runs something else, or has halted for good as far as
    the image is concerned; KERNEL: a kernel that has not left the image."""

    id: z3.ArithRef
    at: z3.ArithRef
    buffer: Buffer


@dataclass(frozen=True)
class Step:
    """One step that can be taken if `when`. `location`: whose action it is; None: of none."""

    what: str
    location: int | None
    when: z3.BoolRef
    shared: Shared
    cpu: Cpu


def touches(location: Location) -> bool:
    """It accesses the image, or hands it to a kernel."""
    return location.kind is Kind.JUMP or (location.kind in ACCESSES and location.word == "image")


def within(image: OneImage) -> frozenset[int]:
    """Where a CPU may be in the image: behind an access to it, with another one still to come."""
    locations = image.cpu.locations
    first = {number for number, one in enumerate(locations) if touches(one)}
    behind = set().union(*(reach(image.cpu, number) for number in first))
    return frozenset(n for n in behind if ({n} | reach(image.cpu, n)) & first)


def initial(image: OneImage, shared: Shared, cpu: Cpu) -> z3.BoolRef:
    """Before the first start."""
    lock = FREE if image.lock is None else image.lock
    held = [shared.lock == lock, shared.holder == NOBODY]
    empty = [slot.word == memory_order.EMPTY for slot in cpu.buffer]
    zero = [slot.value == 0 for slot in cpu.buffer]
    return z3.And(*held, cpu.id >= 0, cpu.at == OUTSIDE, *empty, *zero)


def steps(image: OneImage, shared: Shared, cpu: Cpu) -> Iterator[Step]:
    """All steps of `cpu`, and those that happen to it."""
    empty = memory_order.is_empty(cpu.buffer)
    for start in image.starts:
        yield Step("start", None, empty, shared, replace(cpu, at=z3.IntVal(start)))
    if cpu.buffer:
        oldest, lock = cpu.buffer[0], WORDS["lock"]
        stored = _stored(shared, oldest.value, cpu.id)
        after = Shared(
            z3.If(oldest.word == lock, stored.lock, shared.lock),
            z3.If(oldest.word == lock, stored.holder, shared.holder),
        )
        rest = replace(cpu, buffer=memory_order.without_oldest(cpu.buffer))
        yield Step("a store becomes visible", None, z3.Not(empty), after, rest)
    gone = replace(cpu, at=z3.IntVal(OUTSIDE))
    can = cpu.at == KERNEL
    if image.lock is not None:
        can = z3.And(can, z3.Not(memory_order.is_full(cpu.buffer)))
        gone = replace(gone, buffer=_with(cpu.buffer, "lock", FREE))
    yield Step("the kernel leaves", None, can, shared, gone)
    for number, location in enumerate(image.cpu.locations):
        for step in _location(location, shared, cpu):
            yield replace(step, location=number, when=z3.And(cpu.at == number, step.when))


def together(image: OneImage, cpu: Cpu, other: Cpu) -> z3.BoolRef:
    """The bad states: one CPU is in the image, and another one is, too, or is about to access it.

    A CPU is in the image from its first access until its last, or until the kernel that it has
    jumped to has left; and as long as a store of its own to the image is not visible.
    """
    about = one_of(cpu.at == n for n, one in enumerate(image.cpu.locations) if touches(one))
    return z3.And(
        cpu.id != other.id, _is_within(image, other), z3.Or(about, _is_within(image, cpu))
    )


def overflows(image: OneImage, cpu: Cpu) -> z3.BoolRef:
    """A store finds the buffer full: the model has too few slots for what this CPU does."""
    stores = [n for n, one in enumerate(image.cpu.locations) if one.kind is Kind.STORE]
    stores += [KERNEL] if image.lock is not None else []
    return z3.And(memory_order.is_full(cpu.buffer), one_of(cpu.at == n for n in stores))


def _is_within(image: OneImage, cpu: Cpu) -> z3.BoolRef:
    places = one_of(cpu.at == n for n in (KERNEL, *sorted(within(image))))
    return z3.Or(places, memory_order.holds(cpu.buffer, WORDS["image"]))


def _location(location: Location, shared: Shared, cpu: Cpu) -> Iterator[Step]:
    """The ways that the action of a location can go."""
    what = f"{location.kind.value} {location.word}".strip()
    always, empty = z3.BoolVal(True), memory_order.is_empty(cpu.buffer)
    read = shared.lock if location.word == "lock" else None
    if location.kind is Kind.PARK:
        return
    if location.kind is Kind.JUMP:
        yield Step(what, None, always, shared, replace(cpu, at=z3.IntVal(KERNEL)))
        return
    when, after, buffer = always, shared, cpu.buffer
    match location.kind:
        case Kind.LOAD:
            if read is not None:
                read = memory_order.seen(buffer, WORDS["lock"], shared.lock)
        case Kind.STORE:
            when, read = z3.Not(memory_order.is_full(buffer)), None
            buffer = _with(buffer, location.word, location.value)
        case Kind.FENCE:
            when = empty
        case Kind.EXCHANGE:
            when = empty
            if read is not None:
                after = _stored(shared, _number(location.value), cpu.id)
        case Kind.COMPARE_EXCHANGE:
            when = empty
            if read is not None:
                new = _stored(shared, _number(location.value), cpu.id)
                met = read == _number(location.expected)
                after = Shared(
                    z3.If(met, new.lock, shared.lock), z3.If(met, new.holder, shared.holder)
                )
        case _:
            raise ValueError(f"a CPU does no {location.kind.value}")
    for edge in location.edges:
        there = replace(cpu, at=z3.IntVal(edge.target), buffer=buffer)
        yield Step(what, None, z3.And(when, _applies(edge, read)), after, there)


def _stored(shared: Shared, value: z3.ArithRef, cpu_id: z3.ArithRef) -> Shared:
    """After `value` was written to the lock by this CPU."""
    taken = z3.If(shared.lock == FREE, cpu_id, shared.holder)
    return Shared(value, z3.If(value == FREE, z3.IntVal(NOBODY), taken))


def _with(buffer: Buffer, word: str, value: object) -> Buffer:
    number = z3.IntVal(0) if word == "image" else _number(value)
    return memory_order.with_store(buffer, WORDS[word], number)


def _number(value: object) -> z3.ArithRef:
    if not isinstance(value, int):
        raise ValueError(f"what is put into the lock must be a number, not {value!r}")
    return z3.IntVal(value)


def _applies(edge: Edge, read: z3.ArithRef | None) -> z3.BoolRef:
    """The edge may be taken after `read` was read of the lock; None: something else was."""
    if edge.when is None or read is None:
        return z3.BoolVal(True)
    how, values = edge.when
    among = one_of(read == _number(value) for value in values)
    return among if how == "is" else z3.Not(among)
