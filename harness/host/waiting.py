# SPDX-License-Identifier: GPL-2.0-only
"""Claims on what a host's wait leaves behind: the lock, the warm-reset vector, the CPU's mark.

The compiled `multikernel_wait` is entered in each state in which the kick has returned 0. The
status word is anything at each look, and relax says anything.

The loop of a wait is followed, not unrolled: of states that go on alike only the first is followed.
That is sound, because all that the goals speak of is part of what makes states alike: the lock and
the result are the host's own memory and register, and the rest is noted in memory beside them.
Before it is followed a state is made as general as any that is alike (`generalise`), and what
others change is read anew each time. So each run through the loop, with any number of rounds, ends
as one of the ends that are found, with the same values for the goals.
"""

from __future__ import annotations

from collections.abc import Hashable

import claripy
import z3
from claripy.ast.bv import BV

from harness.host.attempt import HOST, Event
from harness.host.kicking import Kick
from harness.host.machine import State, to_z3
from harness.host.memory import member
from harness.host.objects import writes_only
from harness.host.same import generalise
from harness.solve.obligation import Obligation

FREE = "a wait leaves the lock free"
UNDONE = "the warm-reset vector is undone when a wait ends"
MARKED = "a CPU is marked as taken if and only if the wait finds that its kernel runs"
LOCKED = "a wait changes the vector and the marks under the lock only"

OWN = "a wait, too, writes nothing but the lock, the host's notes, status word and mailbox"

_STATES_MAX = 1_000

# What the goals speak of and the host's memory does not tell: one byte each.
_NOTES = 0x1_4000_0000
_VECTOR, _MARK, _UNLOCKED = range(_NOTES, _NOTES + 3)


def wait_obligations(kick: Kick) -> list[Obligation]:
    """Claims on `multikernel_wait` after a kick that returned 0, one for each end and goal.

    What the kick has already freed or undone need not be freed or undone again. All of `taken` that
    is not to be set is as before; of the target's element the kick has found that it was not set
    (`kicking.TAKEN`). Raises Refusal.
    """
    wait = _Wait(kick)
    return [
        Obligation(f"wait, end {number} ({wait.story(end)}): {name}", hypotheses, {name: goal})
        for number, end in enumerate(wait.ends())
        for hypotheses in [tuple(to_z3(c) for c in end.solver.constraints)]
        for name, goal in wait.goals(end).items()
    ]


class _Wait:
    def __init__(self, kick: Kick) -> None:
        self._kick = kick
        self._attempt, self._machine = kick.attempt, kick.attempt.machine
        self._host = kick.attempt.host
        offset, size = self._host.structs["host"].members["lock"]
        self._lock_bytes = range(HOST + offset, HOST + offset + size)
        # Any one element of `taken` stands for all.
        self._element = claripy.BVS("element", 64, explicit_name=True)
        self._before = claripy.BVS("element_before", 8, explicit_name=True)

    def ends(self) -> list[State]:
        """The states in which the wait returns: one of those that are alike."""
        machine, attempt = self._machine, self._attempt
        ended, waiting = [], self._entries()
        seen: set[Hashable] = set()
        while waiting:
            for state in (stop.state for stop in machine.run(waiting.pop())):
                alike = generalise(machine, state, machine.watched)
                if alike in seen:
                    continue
                seen.add(alike)
                if len(seen) > _STATES_MAX:
                    raise machine.refuse(state, f"a wait of more than {_STATES_MAX} states")
                stop = machine.stop(state)
                assert stop is not None  # it has stopped there
                if stop.why == "return":
                    ended.append(state)
                    continue
                event, outcomes = attempt.meaning(stop)
                for _, after in outcomes:
                    self._note(after, event)
                    waiting.append(after)
        return ended

    def goals(self, end: State) -> dict[str, z3.BoolRef]:
        """What must hold when the wait returns."""
        runs = self._returned(end) == self._host.constants["VERDICT_RUNNING"]
        its_own = self._element == self._attempt.apic_id.zero_extend(32)
        mark = self._machine.read(end, _MARK, 1)
        marked = claripy.If(claripy.And(runs, its_own), mark != 0, mark == self._before)
        goals = {
            FREE: self._lock(end) == 0,
            UNDONE: self._machine.read(end, _VECTOR, 1) == 0,
            MARKED: marked,
            LOCKED: self._machine.read(end, _UNLOCKED, 1) == 0,
        }
        notes = (_NOTES, _UNLOCKED + 1 - _NOTES)
        own = writes_only(self._kick.start, end, notes, *self._kick.own())
        return {name: to_z3(goal) for name, goal in goals.items()} | {OWN: z3.BoolVal(own)}

    def story(self, end: State) -> str:
        """The verdict, in words."""
        verdict = self._machine.only_value(end, self._returned(end))
        for name, value in self._host.constants.items():
            if name.startswith("VERDICT_") and value == verdict:
                return name.removeprefix("VERDICT_").lower().replace("_", " ")
        return "no single verdict"

    def _entries(self) -> list[State]:
        """At the entry of the wait, after each path of the kick that may return 0."""
        found = []
        for path in self._kick.paths:
            worked = path.state.regs.rax[31:0] == 0
            if not self._machine.feasible(path.state, worked):
                continue
            state = path.state.copy()
            state.solver.add(worked, claripy.ULT(self._element, self._host.constants["APIC_IDS"]))
            self._machine.enter(state, "multikernel_wait", HOST)
            state.globals["function"] = "multikernel_wait"
            state.globals["written"] |= {_VECTOR, _MARK, _UNLOCKED, *self._lock_bytes}
            self._machine.write(state, _MARK, 1, self._before)
            for note in (_VECTOR, _UNLOCKED):
                self._machine.write(state, note, 1, 0)
            for event in path.events:
                self._note_vector(state, event)
            found.append(state)
        return found

    def _note(self, state: State, event: Event) -> None:
        """What an event of the wait changes of what the goals speak of."""
        if event.call == "lock":
            raise self._machine.refuse(state, "a wait that takes a lock")
        if event.call == "take":
            (index,), stored = event.arguments, event.result
            assert isinstance(stored, BV)  # a byte
            old = self._machine.read(state, _MARK, 1)
            mark = claripy.If(index == self._element, stored, old)
            self._machine.write(state, _MARK, 1, mark)
        self._note_vector(state, event)
        if event.call in ("take", "warm_reset_set", "warm_reset_undo"):
            old = self._machine.read(state, _UNLOCKED, 1)
            now = claripy.If(self._lock(state) == 0, claripy.BVV(1, 8), old)
            self._machine.write(state, _UNLOCKED, 1, now)

    def _note_vector(self, state: State, event: Event) -> None:
        if event.call in ("warm_reset_set", "warm_reset_undo"):
            self._machine.write(state, _VECTOR, 1, int(event.call == "warm_reset_set"))

    def _lock(self, state: State) -> BV:
        return member(self._machine, state, self._host.structs["host"], HOST, "lock")

    def _returned(self, state: State) -> BV:
        value = state.regs.rax[31:0]
        assert isinstance(value, BV)
        return value
