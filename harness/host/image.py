# SPDX-License-Identifier: GPL-2.0-only
"""The load of a whole image: which checks stand before the first byte that is written.

The compiled `multikernel_load` is executed on every path, with the checks and `load_segment`
replaced by what is proved of them elsewhere (checks.py, loading.py). A check that is not called
gives nothing, so what it would have ensured is refuted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import claripy
import z3
from claripy.ast.bool import Bool

from harness.host.checks import HOST, IMAGE, Objects, conditions
from harness.host.machine import Machine, State, Stop, to_z3
from harness.host.memory import fill, member
from harness.solve.obligation import Obligation
from harness.x86 import solver
from models.kexec_load import lies_in, meet, sound
from trampoline.host_object import HostObject

_CUTS = ("check_segment", "check_apart", "check_place", "check_entry", "load_segment")
_RLIMIT = 10_000_000  # z3 resource units for one question
_OLD = z3.BitVec("old_image", 64)


@dataclass(frozen=True)
class _Path:
    """`facts`: what the checks that were called have shown. `loaded`: segments, in order.
    `errors`: the results of checks and loads, in order. `locked`: the lock was free.
    """

    state: State
    facts: tuple[z3.BoolRef, ...] = ()
    loaded: tuple[int, ...] = ()
    errors: tuple[z3.BitVecRef, ...] = ()
    locked: bool = False


def image_obligations(host: HostObject, segments_max: int | None = None) -> list[Obligation]:
    """Claims on `multikernel_load`, for images of up to `segments_max` segments (if None: as many
    as the host takes at all). Raises Refusal.
    """
    return _Image(host, segments_max).obligations()


class _Image:
    def __init__(self, host: HostObject, segments_max: int | None) -> None:
        self._objects = Objects(host)
        self._host = host
        self._machine = Machine(host, cuts=[name for name in _CUTS if name in host.functions])
        self._bound = segments_max
        self._found: list[Obligation] = []

    def obligations(self) -> list[Obligation]:
        state = self._machine.call("multikernel_load", HOST, IMAGE)
        self._objects.put(self._machine, state)
        old = {"image": claripy.BVS("old_image", 64, explicit_name=True)}
        fill(self._machine, state, self._host.structs["host"], HOST, old)
        if self._bound is not None:
            count = claripy.BVS("nr_segments", 32, explicit_name=True)
            state.solver.add(claripy.ULE(count, self._bound))
        waiting = [_Path(state)]
        while waiting:
            path = waiting.pop()
            for stop in self._machine.run(path.state):
                here = replace(path, state=stop.state)
                if not self._possible(here):
                    continue
                if stop.why == "return":
                    self._add("the end", here, self._end(here))
                elif stop.why == "locked":
                    waiting += self._lock(stop, here)
                elif stop.why == "cut":
                    waiting.append(self._cut(stop, here))
                else:
                    raise self._machine.refuse(stop.state, f"{stop.why} in the load of an image")
        return self._found

    def _add(self, name: str, path: _Path, goals: dict[str, z3.BoolRef]) -> None:
        hypotheses = (*conditions(path.state), *path.facts)
        for goal, term in goals.items():
            self._found.append(
                Obligation(f"{name}, {len(self._found)}: {goal}", hypotheses, {goal: term})
            )

    def _lock(self, stop: Stop, path: _Path) -> list[_Path]:
        """The lock may be free or not."""
        state = stop.state
        lock = HOST + self._host.structs["host"].members["lock"][0]
        if [(a.address, a.size) for a in stop.accesses] != [(lock, 4)]:
            raise self._machine.refuse(
                state, "a locked instruction on something else than the lock"
            )
        paths = []
        for held in (0, 1):
            before = state.copy()
            self._machine.write(before, lock, 4, held)
            for after in self._machine.execute(before):
                paths.append(replace(path, state=after, locked=held == 0))
        return paths

    def _cut(self, stop: Stop, path: _Path) -> _Path:
        """A check, or the load of one segment: 0 or an error, and what 0 shows."""
        state, name, objects = stop.state, stop.name, self._objects
        arguments = [self._machine.only_value(state, state.regs.get(r)) for r in ("rdi", "rsi")]
        result = claripy.BVS(name, 32)
        error = to_z3(result)
        shown: z3.BoolRef = z3.BoolVal(True)
        if name == "check_segment":
            shown = sound(objects.segment(self._number(stop, arguments[0])))
        elif name == "check_apart":
            numbers = [self._number(stop, argument) for argument in arguments]
            shown = z3.Not(self._meet(*numbers))
        elif name == "check_place":
            number = self._number(stop, arguments[1])
            if arguments[0] != HOST:
                raise self._machine.refuse(state, "a check against another host")
            shown = self._set_aside(number)
        elif name == "check_entry":
            count = claripy.BVS("nr_segments", 32, explicit_name=True)
            if not self._machine.certain(state, claripy.ULE(count, objects.segments_max)):
                raise self._machine.refuse(state, "the entry is looked for in too many segments")
            shown = self._entered()
        else:
            number = self._number(stop, arguments[0])
            if not path.loaded:
                self._add("before the first byte is written", path, self._before(path))
            path = replace(path, loaded=(*path.loaded, number))
        self._give_back(state, result)
        facts = (*path.facts, z3.Implies(error == 0, shown))
        return replace(path, state=state, facts=facts, errors=(*path.errors, error))

    def _possible(self, path: _Path) -> bool:
        """Whether some input takes this path, after what the checks have shown."""
        answer = solver.check(solver.quick((*conditions(path.state), *path.facts), _RLIMIT))
        return bool(answer != z3.unsat)

    def _give_back(self, state: State, result: claripy.ast.BV) -> None:
        errno: Bool = claripy.ULE(-result, 4095)
        state.solver.add(errno)
        self._machine.give_back(state, result)

    def _number(self, stop: Stop, place: int | None) -> int:
        for number in range(self._objects.segments_max):
            if self._objects.place(number) == place:
                return number
        raise self._machine.refuse(stop.state, f"calls {stop.name} with something else")

    # What is claimed.

    def _before(self, path: _Path) -> dict[str, z3.BoolRef]:
        """When the first segment is about to be loaded: what must hold of all of them."""
        objects = self._objects
        count = self._machine.only_value(
            path.state, self._machine.read(path.state, IMAGE + self._offset("nr_segments"), 4)
        )
        if count is None or count > objects.segments_max:
            raise self._machine.refuse(path.state, "an unknown number of segments is loaded")
        every = range(count)
        return {
            "every segment is sound": z3.And(*(sound(objects.segment(i)) for i in every)),
            "no two segments meet": z3.Not(
                z3.Or(*(self._meet(i, j) for i in every for j in range(i)))
            ),
            "every segment lies in memory reserved for other kernels, none in the host's": z3.And(
                *(z3.And(self._reserved(i), z3.Not(self._used(i))) for i in every)
            ),
            "no segment meets the trampoline area": z3.Not(
                z3.Or(*(self._meets_area(i) for i in every))
            ),
            "the entry point lies in a segment": self._entered(count),
            "the image is one for a multikernel": objects.type
            == self._host.constants["TYPE_MULTIKERNEL"],
        }

    def _end(self, path: _Path) -> dict[str, z3.BoolRef]:
        state, constants = path.state, self._host.constants
        result = to_z3(state.regs.rax[31:0])
        struct = self._host.structs["host"]
        image = to_z3(member(self._machine, state, struct, HOST, "image"))
        if not path.locked:
            return {
                "a lock that is held: -EBUSY": result == -constants["EBUSY"],
                "a lock that is held: nothing is changed": z3.And(
                    image == _OLD, z3.BoolVal(not path.loaded)
                ),
            }
        lock = to_z3(member(self._machine, state, struct, HOST, "lock"))
        failed = z3.Or(*(error != 0 for error in path.errors))
        first = z3.BitVecVal(-constants["EINVAL"], 32)  # of the load's own checks
        for error in reversed(path.errors):
            first = z3.If(error != 0, error, first)
        return {
            "the lock is free again": lock == 0,
            "the first error ends the load and is its result": z3.Or(result == 0, result == first),
            "success: nothing failed": z3.Implies(result == 0, z3.Not(failed)),
            "success: each segment is loaded once": z3.Implies(
                result == 0,
                z3.And(
                    self._objects.count == len(path.loaded),
                    z3.BoolVal(path.loaded == tuple(range(len(path.loaded)))),
                ),
            ),
            "success: this image is the one to start": z3.Implies(result == 0, image == IMAGE),
            "failure: no image whose memory may be written is left to start": z3.Or(
                result == 0, image == 0, z3.And(image == _OLD, z3.BoolVal(not path.loaded))
            ),
        }

    def _offset(self, name: str) -> int:
        return self._host.structs["image"].members[name][0]

    def _meet(self, one: int, other: int) -> z3.BoolRef:
        first, second = self._objects.segment(one), self._objects.segment(other)
        return meet(first.mem, first.memsz, second.mem, second.memsz)

    def _meets_area(self, number: int) -> z3.BoolRef:
        one = self._objects.segment(number)
        return meet(one.mem, one.memsz, *self._objects.area)

    def _reserved(self, number: int) -> z3.BoolRef:
        return z3.Bool(f"reserved_for_kernels_{number}")

    def _used(self, number: int) -> z3.BoolRef:
        return z3.Bool(f"used_by_host_{number}")

    def _set_aside(self, number: int) -> z3.BoolRef:
        apart = z3.And(z3.Not(self._used(number)), z3.Not(self._meets_area(number)))
        return z3.And(self._reserved(number), apart)

    def _entered(self, count: int | None = None) -> z3.BoolRef:
        objects = self._objects
        return z3.Or(
            *(
                z3.And(z3.ULT(i, objects.count), lies_in(objects.entry, one.mem, one.memsz))
                for i in range(objects.segments_max if count is None else count)
                for one in [objects.segment(i)]
            )
        )
