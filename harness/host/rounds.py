# SPDX-License-Identifier: GPL-2.0-only
"""Loops over segments, proved for any number of them by induction on the rounds done.

A loop's round calls a function of its own (a check, a load). The run is cut at these calls, and
what the function does is known by a proof of its own. When a call is first reached, the first two
rounds tell how registers grow from round to round; the run then goes on from a state in which any
number of rounds are done, and the obligations say that the next call finds that state again, with
one round more. A wrong guess is a goal that fails, never a path that is lost. No bound on the
number of rounds is known here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import claripy
import z3
from claripy.ast.bv import BV

from harness.host.machine import (
    CALLEE_SAVED,
    STACK_BYTES,
    UNKNOWN,
    Machine,
    State,
    Stop,
    to_z3,
)
from harness.host.objects import conditions, symbol
from harness.solve.obligation import Obligation
from harness.x86 import solver
from trampoline.host_object import HostObject

STEADY = "each round begins as the one before did, one segment further"
SHOWN = "what the rounds before have shown still holds"
_RLIMIT = 10_000_000  # z3 resource units for one question

Goals = dict[str, z3.BoolRef]


@dataclass(frozen=True)
class Call:
    """A call of `name` in round `index` (64 bits, from 0), and its result: 32 bits, or 8 for bool.

    Of a loop that is done, this is the last call.
    """

    name: str
    index: z3.BitVecRef
    result: z3.BitVecRef


@dataclass(frozen=True)
class Loop:
    """How the state at one call differs from that at the call before; `first` is at the first.

    `steps`: by how much a register grows in a round; the ABI's other registers hold anything.
    `changed`: addresses of the stack's bytes that hold anything. All other memory is the same.
    """

    name: str
    first: State
    steps: dict[str, int]
    changed: frozenset[int]


@dataclass(frozen=True)
class Path:
    """A path. `calls`: the last call of each function, in order. `facts`: what they have shown.

    `loop`: the loop in which the path is. `notes`: whatever else a claim has to remember.
    """

    state: State
    calls: tuple[Call, ...] = ()
    facts: tuple[z3.BoolRef, ...] = ()
    loop: Loop | None = None
    notes: frozenset[str] = frozenset()

    def call(self, name: str) -> Call | None:
        """The last call of a function; None if there was none."""
        return next((call for call in self.calls if call.name == name), None)


class Rounds(ABC):
    """Claims on one function whose loops call the functions in `cuts`."""

    function: str
    cuts: tuple[str, ...]
    booleans: frozenset[str] = frozenset()  # those of them that return bool; others 0 or an error

    def __init__(self, host: HostObject) -> None:
        self.host = host
        self.machine = Machine(host, cuts=[name for name in self.cuts if name in host.functions])
        self._found: list[Obligation] = []
        self._names: set[str] = set()

    # What is claimed and known of a function; by name and number of rounds.

    @abstractmethod
    def begin(self) -> State:
        """The state at the function's entry."""

    @abstractmethod
    def before(self, path: Path, stop: Stop, index: z3.BitVecRef) -> Goals:
        """What must hold when the call of round `index` is reached."""

    @abstractmethod
    def shown(self, call: Call) -> z3.BoolRef:
        """What is known of the result, by the proof of the called function."""

    @abstractmethod
    def passed(self, name: str, count: z3.BitVecRef) -> z3.BoolRef:
        """What is known when `count` rounds are done and another one begins."""

    @abstractmethod
    def end(self, path: Path) -> Goals:
        """What must hold at the function's end."""

    def event(self, stop: Stop, path: Path) -> list[Path]:
        """Where the path goes on behind another stop."""
        raise self.machine.refuse(stop.state, f"{stop.why} {stop.name} in {self.function}")

    # The run.

    def obligations(self) -> list[Obligation]:
        """One for each path and goal. Raises Refusal."""
        waiting = [Path(self.begin())]
        while waiting:
            path = waiting.pop()
            for stop in self.machine.run(path.state):
                here = replace(path, state=stop.state)
                if not self._possible(here):
                    continue
                if stop.why == "return":
                    self._add(f"at the end{_after(here)}", here, self.end(here))
                elif stop.why != "cut":
                    waiting += self.event(stop, here)
                elif path.loop is not None and path.loop.name == stop.name:
                    self._again(stop, here, path.loop)
                else:
                    waiting.append(self._first(stop, here))
        return self._found

    def _first(self, stop: Stop, path: Path) -> Path:
        """The first call: behind it, in whatever round it is."""
        name = stop.name
        if path.call(name) is not None:
            raise self.machine.refuse(stop.state, f"calls {name} again, in another way")
        none_done = z3.BitVecVal(0, 64)
        goals = self.before(path, stop, none_done) | {SHOWN: self.passed(name, none_done)}
        self._add(f"before the first {name}", path, goals)
        loop = self._loop(stop)
        if loop is None:
            return self._behind(replace(path, loop=None), name, none_done)
        done = symbol(f"{name}_done", 32)
        index = z3.ZeroExt(32, to_z3(done))
        state = self._any_round(loop, done)
        facts = (*path.facts, self.passed(name, index))
        return self._behind(replace(path, state=state, facts=facts, loop=loop), name, index)

    def _again(self, stop: Stop, path: Path, loop: Loop) -> None:
        """The next call: the induction is closed here."""
        name = stop.name
        if self._caller(stop.state) != self._caller(loop.first):
            raise self.machine.refuse(stop.state, f"calls {name} from two places")
        call = path.call(name)
        assert call is not None  # the loop began with one
        following = call.index + 1
        goals = self.before(path, stop, following) | {
            SHOWN: self.passed(name, following),
            STEADY: self._steady(loop, stop.state, following),
        }
        self._add(f"before the next {name}", path, goals)

    def _behind(self, path: Path, name: str, index: z3.BitVecRef) -> Path:
        """The call returns: anything that it may return."""
        state = path.state.copy()
        result = symbol(f"{name}_result", 8 if name in self.booleans else 32)
        for address in self._stack(state) & state.globals["written"]:  # the function's to use
            self._forget(state, address)
        self.machine.give_back(state, result)
        call = Call(name, index, to_z3(result))
        facts = (*path.facts, self.shown(call))
        return replace(path, state=state, calls=(*path.calls, call), facts=facts)

    def _loop(self, stop: Stop) -> Loop | None:
        """How the state changes from the first call to the second; None if there is no second."""
        first, name = stop.state, stop.name
        behind = self._behind(Path(first), name, z3.BitVecVal(0, 64))
        second = [
            s.state for s in self.machine.run(behind.state) if (s.why, s.name) == ("cut", name)
        ]
        if not second:
            return None
        steps = {}
        for register in (*CALLEE_SAVED, "rsp"):
            grown = second[0].regs.get(register) - first.regs.get(register)
            step = self.machine.only_value(second[0], grown)
            if step is not None:
                steps[register] = step
        written = first.globals["written"] | second[0].globals["written"]
        changed = (a for a in written if not self._same_byte(first, second[0], a))
        return Loop(name, first, steps, frozenset(changed))

    def _same_byte(self, first: State, second: State, address: int) -> bool:
        one, other = (self.machine.read(state, address, 1) for state in (first, second))
        return one is other or self.machine.certain(second, one == other)

    def _any_round(self, loop: Loop, done: BV) -> State:
        """At the call when `done` rounds are done: as guessed, all else holds anything."""
        state = loop.first.copy()
        for register in CALLEE_SAVED:
            step = loop.steps.get(register)
            if step is None:
                value = claripy.BVS(f"{register}{UNKNOWN}", 64)
            else:
                value = state.regs.get(register) + step * done.zero_extend(32)
            setattr(state.regs, register, value)
        if loop.steps.get("rsp") != 0:
            raise self.machine.refuse(state, f"a stack that changes between calls of {loop.name}")
        for address in loop.changed:
            self._forget(state, address)
        return state

    def _steady(self, loop: Loop, state: State, done: z3.BitVecRef) -> z3.BoolRef:
        """The state is the one of `_any_round` for `done` rounds."""
        same = [
            to_z3(state.regs.get(register)) == to_z3(loop.first.regs.get(register)) + step * done
            for register, step in loop.steps.items()
        ]
        for address in sorted(state.globals["written"] - loop.changed):
            before, now = (self.machine.read(s, address, 1) for s in (loop.first, state))
            if before is not now:
                same.append(to_z3(before == now))
        return z3.And(*same)

    def _forget(self, state: State, address: int) -> None:
        self.machine.write(state, address, 1, claripy.BVS(f"stack{UNKNOWN}", 8))

    def _stack(self, state: State) -> frozenset[int]:
        """Addresses of the stack's free part, at a call."""
        top = self.machine.only_value(state, state.regs.rsp)
        if top is None:
            raise self.machine.refuse(state, "a stack that is nowhere in particular")
        return frozenset(range(top - STACK_BYTES, top))

    def _caller(self, state: State) -> int | None:
        top = self.machine.only_value(state, state.regs.rsp)
        if top is None:
            return None
        return self.machine.only_value(state, self.machine.read(state, top, 8))

    def _possible(self, path: Path) -> bool:
        """Whether some input takes this path, after what the calls have shown."""
        answer = solver.check(solver.quick((*conditions(path.state), *path.facts), _RLIMIT))
        return bool(answer != z3.unsat)

    def _add(self, where: str, path: Path, goals: Goals) -> None:
        hypotheses = (*conditions(path.state), *path.facts)
        for goal, term in goals.items():
            name = f"{self.function}, {where}: {goal}"
            count = 1
            while name in self._names:
                count += 1
                name = f"{self.function}, {where}, path {count}: {goal}"
            self._names.add(name)
            self._found.append(Obligation(name, hypotheses, {goal: term}))


def _after(path: Path) -> str:
    """What the path has called last, in words."""
    if not path.calls:
        return ", nothing called"
    return f" after {path.calls[-1].name}"
