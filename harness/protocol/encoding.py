# SPDX-License-Identifier: GPL-2.0-only
"""A pair as Horn clauses: an invariant of what is shared and any one CPU, for any number of CPUs.

Inv(shared, c) holds at boot for each c; is kept by the host's steps, by c's own, and by those of
another CPU d, of which Inv(shared, d) holds as well. Then it holds in every reachable state, with
any number of CPUs, and a bad state of c and d is unreachable if Inv(shared, c) and Inv(shared, d)
exclude it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import z3

from models import protocol, protocol_steps
from models.memory_order import Slot
from models.process import Kind, Location, Process
from models.protocol import Cpu, Pair, Shared, Step
from models.protocol_claims import LIMITS, Claim

DRAINS = (Kind.FENCE, Kind.EXCHANGE, Kind.COMPARE_EXCHANGE)
_CPU_BOOLS = ("kicked", "mine", "started", "committed", "turned_away", "jumped", "undisturbed")
_SHARED_BOOLS = ("shows",)


class NoLongestRun(Exception):
    """A process can store without end and never drain its buffer."""


@dataclass(frozen=True)
class Clause:
    """If the invariant holds of each of `states`, and `when` holds, it holds of `then`.

    `then` None: that must not happen.
    """

    name: str
    states: tuple[tuple[Shared, Cpu], ...]
    when: z3.BoolRef
    then: tuple[Shared, Cpu] | None


def capacity(process: Process) -> int:
    """Slots that a CPU's buffer needs: the longest run of stores that nothing in between drains.

    Twice that if the process does not begin by draining: stores of an earlier start may be left.
    NoLongestRun if there is none.
    """
    stores = longest_run(process, lambda one: one.kind is Kind.STORE and one.word in protocol.WORDS)
    first_drains = process.name == "host" or process.locations[0].kind in DRAINS
    return stores if first_drains else 2 * stores


def longest_run(process: Process, stores: Callable[[Location], bool]) -> int:
    """The most locations that store on a way on which nothing drains the buffer. NoLongestRun."""

    def longest(number: int, on_way: tuple[int, ...]) -> int:
        location = process.locations[number]
        if location.kind in DRAINS:
            return 0
        if number in on_way:
            loop = on_way[on_way.index(number) :]
            if any(process.locations[n].kind is Kind.STORE for n in loop):
                raise NoLongestRun(f"the {process.name} stores without end at location {number}")
            return 0
        targets = [edge.target for edge in location.edges]
        if location.kind is Kind.RETURN:
            targets = [0]
        onward = max((longest(n, (*on_way, number)) for n in targets), default=0)
        return int(stores(location)) + onward

    return max(longest(number, ()) for number in range(len(process.locations)))


def variables(pair: Pair, suffix: str = "") -> tuple[Shared, Cpu]:
    """A state whose parts are variables; `suffix` keeps those of several CPUs apart."""
    shared = {
        field.name: (z3.Bool if field.name in _SHARED_BOOLS else z3.Int)(field.name)
        for field in fields(Shared)
    }
    cpu = {
        field.name: (z3.Bool if field.name in _CPU_BOOLS else z3.Int)(f"cpu{suffix}_{field.name}")
        for field in fields(Cpu)
    }
    shared["buffer"] = _slots("host", capacity(pair.host))
    cpu["buffer"] = _slots(f"cpu{suffix}", capacity(pair.cpu))
    return Shared(**shared), Cpu(**cpu)


def _slots(name: str, count: int) -> tuple[Slot, ...]:
    return tuple(
        Slot(z3.Int(f"{name}_store{n}_word"), z3.Int(f"{name}_store{n}_value"))
        for n in range(count)
    )


def flat(state: tuple[Shared, Cpu]) -> list[z3.ExprRef]:
    """All parts of a state, in one order."""
    return [*flat_one(state[0]), *flat_one(state[1])]


def flat_one(record: Shared | Cpu) -> list[z3.ExprRef]:
    """All parts of one half of a state."""
    parts: list[z3.ExprRef] = []
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name == "buffer":
            parts += [part for slot in value for part in (slot.word, slot.value)]
        else:
            parts.append(value)
    return parts


def free_variables(term: z3.ExprRef) -> list[z3.ExprRef]:
    """The variables in a term, by name."""
    found: dict[str, z3.ExprRef] = {}
    seen: set[int] = set()
    todo = [term]
    while todo:
        part = todo.pop()
        if part.get_id() in seen:
            continue
        seen.add(part.get_id())
        if z3.is_const(part) and part.decl().kind() == z3.Z3_OP_UNINTERPRETED:
            found[str(part)] = part
        todo += part.children()
    return [found[name] for name in sorted(found)]


def clauses(pair: Pair, claims: tuple[Claim, ...]) -> Iterator[Clause]:
    """Start, steps, and one clause for the bad states of `claims`."""
    shared, cpu = variables(pair)
    _, other = variables(pair, "2")
    here = (shared, cpu)
    yield Clause("boot", (), protocol.initial(shared, cpu), here)
    for step in protocol_steps.host_steps(pair, shared, cpu):
        yield Clause(_title("host", step), (here,), step.when, (step.shared, step.cpu))
    for step in protocol_steps.cpu_steps(pair, shared, cpu):
        yield Clause(_title("CPU", step), (here,), step.when, (step.shared, step.cpu))
    for step in protocol_steps.cpu_steps(pair, shared, other):
        if all(map(z3.eq, flat_one(step.shared), flat_one(shared))):
            continue  # a step of its own only
        when = z3.And(cpu.id != other.id, step.when)
        yield Clause(_title("another CPU", step), (here, (shared, other)), when, (step.shared, cpu))
    bad = protocol.one_of(claim.bad(pair, shared, cpu, other) for claim in (*claims, LIMITS))
    yield Clause("bad", (here, (shared, other)), bad, None)


def _title(who: str, step: Step) -> str:
    where = "" if step.location is None else f" {step.location},"
    return f"{who}{where} {step.what}"
