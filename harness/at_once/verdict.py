# SPDX-License-Identifier: GPL-2.0-only
"""No two CPUs are in one image: proved for any number of them, or refuted by two.

The proof is an invariant of memory and any one CPU: what was seen of that in all states of two
CPUs. It is only checked, by the steps of `models.at_once`: it holds before the first start, each
step of that CPU and of any other one keeps it, and no two CPUs of which it holds are in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import z3

from harness.at_once import explore
from harness.at_once.explore import Explorer, Found
from harness.protocol import check
from harness.protocol.check import Question
from harness.protocol.encoding import NoLongestRun, longest_run
from harness.protocol.history import VISIBLE, Event, Schedule
from harness.protocol.invariant import Lemma, placed
from harness.x86 import solver as ask
from models import at_once, memory_order
from models.at_once import FREE, NOBODY, Cpu, OneImage, Shared, Step
from models.memory_order import Slot
from models.process import Kind
from models.protocol import KERNEL, one_of

OTHER_START = "it begins with a start in 64-bit mode; here QEMU starts CPUs by SIPI only"
NOT_PLAIN = (
    "it breaks only while a store waits in a store buffer, amid an instruction, or by a fault: in "
    "QEMU each store is visible at once, an instruction is one step, and its CPUs lack nothing"
)
RLIMIT = 20_000_000
MINE, OTHER = 1, 2
"""Who holds the lock, as a feature of a CPU: it does, another one does; or NOBODY."""


@dataclass(frozen=True)
class Verdict:
    """PROVED, REFUTED (with `schedule`), VACUOUS, UNKNOWN or DISAGREE (with `reason`)."""

    verdict: str
    schedule: Schedule | None = None
    reason: str = ""


def decide(image: OneImage, shown: tuple[int, ...]) -> Verdict:
    """The verdict. `shown`: those of the image's starts that QEMU can show."""
    for explorer, hidden in (
        (Explorer(image, plain=True, starts=shown), ""),
        (Explorer(image, plain=True), OTHER_START),
        (Explorer(image), NOT_PLAIN),
    ):
        found = explorer.run()
        if found.schedule is not None:
            return _broken(image, Schedule(found.schedule, hidden))
    if kept_out := without_kernel(image) or locked_out(image):
        return Verdict("VACUOUS", reason=kept_out)
    if not found.complete:
        return Verdict("UNKNOWN", reason=f"more than {len(found.states)} states of two CPUs")
    try:
        judged, reason = check.judge(questions(image, found))
    except NoLongestRun as error:
        return Verdict("UNKNOWN", reason=str(error))
    return Verdict(judged, reason=reason)


def without_kernel(image: OneImage) -> str:
    """Why the property says nothing: alone, and with the lock as it is before the first start or as
    a kernel leaves it, a CPU does not come to its kernel. Empty if it does from each start."""
    for start in image.starts:
        explorer = Explorer(image, starts=(start,))
        for lock in {explorer.first().lock, FREE}:
            alone = explorer.first()._replace(lock=lock, cpus=(explore.Cpu(),))
            states = explorer.run(alone).states
            if not any(cpu.at == KERNEL for one in states for cpu in one.cpus):
                place = image.cpu.locations[start].place
                return f"started at {place}, with {lock:#x} in the lock, no CPU enters a kernel"
    return ""


def locked_out(image: OneImage) -> str:
    """Where a CPU that has found the lock free parks and keeps it: all others wait for ever. Empty
    if none does."""
    for start in image.starts:
        explorer = Explorer(image, starts=(start,))
        alone = explorer.first()._replace(lock=FREE, cpus=(explore.Cpu(),))
        for one in explorer.run(alone).states:
            at = one.cpus[0].at
            parked = at >= 0 and image.cpu.locations[at].kind is Kind.PARK
            if parked and not one.cpus[0].buffer and one.lock != FREE:
                return f"a CPU that parks at {image.cpu.locations[at].place} keeps the lock"
    return ""


def _broken(image: OneImage, schedule: Schedule) -> Verdict:
    if breaks(image, schedule.with_buffers(image.cpu, image.cpu)):
        return Verdict("REFUTED", schedule)
    return Verdict("DISAGREE", schedule, "the search breaks it, the model does not on that way")


def slots(image: OneImage) -> int:
    """Slots that a store buffer needs; a kernel that leaves stores, too. NoLongestRun."""
    kinds = (Kind.STORE, Kind.JUMP) if image.lock is not None else (Kind.STORE,)
    return longest_run(image.cpu, lambda location: location.kind in kinds)


def state(count: int, suffix: str = "") -> tuple[Shared, Cpu]:
    """Memory and a CPU whose parts are variables, with so many slots in its store buffer; `suffix`
    keeps several apart."""
    buffer = tuple(
        Slot(z3.Int(f"cpu{suffix}_store{n}_word"), z3.Int(f"cpu{suffix}_store{n}_value"))
        for n in range(count)
    )
    shared = Shared(z3.Int("lock"), z3.Int("holder"))
    return shared, Cpu(z3.Int(f"cpu{suffix}_id"), z3.Int(f"cpu{suffix}_at"), buffer)


def flat(shared: Shared, cpu: Cpu) -> list[z3.ArithRef]:
    """All parts of a state, in one order."""
    parts = [part for slot in cpu.buffer for part in (slot.word, slot.value)]
    return [shared.lock, shared.holder, cpu.id, cpu.at, *parts]


def features(shared: Shared, cpu: Cpu) -> dict[str, z3.ExprRef]:
    """What an invariant may speak of: not of which CPU it is, but whether it is the holder."""
    mine = z3.If(shared.holder == cpu.id, z3.IntVal(MINE), z3.IntVal(OTHER))
    names = ["lock", "holder", "id", "at"]
    names += [f"slot {n} {part}" for n in range(len(cpu.buffer)) for part in ("word", "value")]
    found: dict[str, z3.ExprRef] = dict(zip(names, flat(shared, cpu), strict=True))
    del found["id"]
    return {**found, "holder": z3.If(shared.holder == NOBODY, z3.IntVal(NOBODY), mine)}


def invariant(image: OneImage, found: Found) -> Lemma:
    """All that was seen of memory and one CPU."""
    count, rows = slots(image), set()
    for one in found.states:
        for number, cpu in enumerate(one.cpus):
            holder = {NOBODY: NOBODY, number: MINE}.get(one.holder, OTHER)
            pending = [(at_once.WORDS[word], value) for word, value in cpu.buffer]
            pending += [(memory_order.EMPTY, 0)] * (count - len(pending))
            rows.add((one.lock, holder, cpu.at, *(part for slot in pending for part in slot)))
    return Lemma(tuple(features(*state(count))), tuple(sorted(rows)))


def questions(image: OneImage, found: Found) -> list[Question]:
    """The property is proved for any number of CPUs if nothing meets any of these."""
    lemma, count = invariant(image, found), slots(image)
    shared, cpu = state(count)
    _, other = state(count, "2")

    def holds(memory: Shared, one: Cpu) -> z3.BoolRef:
        return z3.And(one.id >= 0, placed(lemma.formula, features(memory, one)))

    after = [z3.Int(f"{part}_next") for part in flat(shared, cpu)]
    then = z3.substitute(holds(shared, cpu), *zip(flat(shared, cpu), after, strict=True))
    kept = [
        z3.And(step.when, *_equal(after, flat(step.shared, step.cpu)))
        for step in at_once.steps(image, shared, cpu)
    ]
    kept += [
        z3.And(
            cpu.id != other.id,
            holds(shared, other),
            step.when,
            *_equal(after, flat(step.shared, cpu)),
        )
        for step in at_once.steps(image, shared, other)
    ]
    bad = z3.Or(at_once.together(image, cpu, other), at_once.overflows(image, cpu))
    return [
        Question("initial", (at_once.initial(image, shared, cpu), z3.Not(holds(shared, cpu)))),
        Question("inductive", (holds(shared, cpu), one_of(kept), z3.Not(then))),
        Question("safe", (holds(shared, cpu), holds(shared, other), bad)),
    ]


def breaks(image: OneImage, schedule: Sequence[Event]) -> bool:
    """Whether the model's own steps lead along a schedule of two CPUs to a bad state. The last
    event is the access that breaks the property: the state before it is bad."""
    count = 1 + sum(event.what.startswith(Kind.STORE.value) for event in schedule)
    shared, _ = state(count)
    cpus = [state(count, str(n))[1] for n in range(2)]
    solver = z3.SimpleSolver()
    solver.set("rlimit", RLIMIT)
    solver.add(*(at_once.initial(image, shared, one) for one in cpus), cpus[0].id != cpus[1].id)
    for number, event in enumerate(schedule[: _last_access(schedule)]):
        who = int(event.who.removeprefix("CPU "))
        ways = [
            step
            for step in at_once.steps(image, shared, cpus[who])
            if (step.location, step.what) == (event.location, event.what)
        ]
        next_shared, next_cpu = _renamed(shared, cpus[who], f"_{number}")
        solver.add(one_of(_leads(step, next_shared, next_cpu) for step in ways))
        shared, cpus[who] = next_shared, next_cpu
    last = int(schedule[-1].who.removeprefix("CPU "))
    solver.add(at_once.together(image, cpus[last], cpus[1 - last]))
    return bool(ask.check(solver) == z3.sat)


def _last_access(schedule: Sequence[Event]) -> int:
    return max(n for n, event in enumerate(schedule) if event.what != VISIBLE)


def _renamed(shared: Shared, cpu: Cpu, suffix: str) -> tuple[Shared, Cpu]:
    def new(term: z3.ArithRef) -> z3.ArithRef:
        return z3.Int(f"{term}{suffix}")

    buffer = tuple(Slot(new(slot.word), new(slot.value)) for slot in cpu.buffer)
    return Shared(new(shared.lock), new(shared.holder)), Cpu(new(cpu.id), new(cpu.at), buffer)


def _leads(step: Step, shared: Shared, cpu: Cpu) -> z3.BoolRef:
    return z3.And(step.when, *_equal(flat(shared, cpu), flat(step.shared, step.cpu)))


def _equal(one: Sequence[z3.ArithRef], other: Sequence[z3.ArithRef]) -> list[z3.BoolRef]:
    return [a == b for a, b in zip(one, other, strict=True)]
