# SPDX-License-Identifier: GPL-2.0-only
"""One segment's way into physical memory, proved on the compiled loop for any number of bytes.

The loop is cut where it begins the next piece. From any state there that satisfies the invariant
(models/kexec_load.py, `consistent`) the code is executed up to the next cut or the end; the
obligations say that the invariant holds at first, is kept, and gives the result. What the state
holds beside the invariant is arbitrary, or shown to be the same at each cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import claripy
import z3
from claripy.ast.bool import Bool
from claripy.ast.bv import BV

from harness.host.machine import CALLEE_SAVED, UNKNOWN, Machine, State, Stop, forget, to_z3
from harness.host.memory import fill, member
from harness.host.objects import conditions, kept
from harness.solve.obligation import Obligation
from harness.x86.terms import ENTRY_MEMORY
from models.kexec_load import Progress, Segment, byte_after, consistent, lies_in
from trampoline.host_object import HostObject

SEGMENT = 0x1_0000_0000
PAGE = 0x1000

_SEGMENT = Segment(*(z3.BitVec(name, 64) for name in ("buf", "bufsz", "mem", "memsz")))
_DONE = z3.BitVec("done", 64)
_ADDRESS = _SEGMENT.mem + z3.BitVec("index", 64)  # any physical address
_BEFORE, _HELD = z3.BitVecs("before held", 8)  # its byte: before the load, and at the cut
_MEMBERS = ("from", "from_left", "to", "to_left")


@dataclass(frozen=True)
class _Path:
    """A path from the cut on. `held`: the byte at `_ADDRESS` by now; `page`: (physical, pointer)
    of the page that is mapped; `failed`: the errors of platform calls, by name, so far.
    """

    state: State
    held: z3.BitVecRef
    goals: dict[str, z3.BoolRef]
    page: tuple[BV, BV] | None = None
    failed: frozenset[str] = frozenset()


def segment_obligations(host: HostObject) -> list[Obligation]:
    """Claims on `load_segment`, for every segment, buffer and memory: one for each path and goal.

    Raises Refusal.
    """
    return [
        replace(found, name=f"load_segment, {found.name}: {name}", goals={name: goal})
        for found in _Loading(host).obligations()
        for name, goal in found.goals.items()
    ]


class _Loading:
    def __init__(self, host: HostObject) -> None:
        self._host = host
        self._machine = Machine(host, cuts=["load_piece"])
        self._errors = {
            name: z3.BitVecVal(-host.constants[name], 32) for name in ("ENOMEM", "EFAULT")
        }

    def obligations(self) -> list[Obligation]:
        state = self._machine.call("load_segment", SEGMENT)
        given = {
            name: claripy.BVS(name, 64, explicit_name=True) for name in Segment.__annotations__
        }
        fill(self._machine, state, self._host.structs["segment"], SEGMENT, given)
        self._start = state.copy()
        found = []
        cuts = []
        for stop in self._machine.run(state):
            path = conditions(stop.state)
            if stop.why == "return":
                goals = self._result(_Path(stop.state, _BEFORE, {}), z3.BitVecVal(0, 64))
                found.append(Obligation("an empty segment", path, goals))
            elif stop.why == "cut":
                cuts.append(stop.state)
                here = consistent(_SEGMENT, self._progress(stop.state), z3.BitVecVal(0, 64))
                goals = {"the loop begins with nothing done": here}
                found.append(Obligation("the first piece", path, goals))
            else:
                raise self._machine.refuse(stop.state, f"{stop.why} before the first piece")
        for cut in cuts:
            found += self._pieces(cut)
        return found

    def _pieces(self, first: State) -> list[Obligation]:
        """From any state at the cut to the next one, or to the end."""
        state = self._any_state(first)
        invariant = (
            consistent(_SEGMENT, self._progress(state), _DONE),
            z3.ULT(_DONE, _SEGMENT.memsz),
            byte_after(_SEGMENT, _DONE, _ADDRESS, ENTRY_MEMORY, _BEFORE) == _HELD,
        )
        found = []
        waiting = [_Path(after, _HELD, {}) for after in self._machine.execute(state)]
        while waiting:
            path = waiting.pop()
            for stop in self._machine.run(path.state):
                here = replace(path, state=stop.state)
                if stop.why not in ("cut", "return"):
                    waiting += self._event(stop, here)
                    continue
                goals = dict(path.goals)
                if stop.why == "cut":
                    goals |= self._next(first, here)
                else:
                    goals |= self._result(here, _DONE)
                name = f"a piece, and then the {'next' if stop.why == 'cut' else 'end'}"
                failed = f" ({', '.join(sorted(path.failed))} failed)" if path.failed else ""
                hypotheses = (*invariant, *conditions(stop.state))
                found.append(Obligation(name + failed, hypotheses, goals))
        return found

    def _any_state(self, first: State) -> State:
        """At the cut: as at the first arrival, but for what the ABI, the stack's free part and
        the invariant leave open."""
        state = first.copy()
        state.solver.reload_solver([])
        place = state.regs.rdi
        forget(state, ("rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11"))
        state.regs.rdi = place
        for address in self._free(state):
            self._machine.write(state, address, 1, claripy.BVS(f"stack{UNKNOWN}", 8))
        members = {name: claripy.BVS(name, 64) for name in _MEMBERS}
        fill(self._machine, state, self._host.structs["progress"], self._place(state), members)
        return state

    def _next(self, first: State, path: _Path) -> dict[str, z3.BoolRef]:
        """At the next cut."""
        state = path.state
        progress = self._progress(state)
        done = progress.to - _SEGMENT.mem
        placed = path.held == byte_after(_SEGMENT, done, _ADDRESS, ENTRY_MEMORY, _BEFORE)
        return {
            "the next piece begins behind this one": consistent(_SEGMENT, progress, done),
            "the loop comes to an end": z3.And(z3.UGT(done, _DONE), z3.ULT(done, _SEGMENT.memsz)),
            # Two goals, because z3 needs half the time for them.
            "what was done before stays in place": z3.Implies(_done_before(_DONE), placed),
            "the piece is in place, nothing else is written": z3.Or(_done_before(_DONE), placed),
            "an error ends the load": z3.BoolVal(not path.failed),
            "no page stays mapped": z3.BoolVal(path.page is None),
            "the loop's other state is as it was": self._unchanged(first, state),
        }

    def _result(self, path: _Path, done: z3.BitVecRef) -> dict[str, z3.BoolRef]:
        """At the end, with `done` bytes in place before the last piece."""
        result = to_z3(path.state.regs.rax[31:0])
        inside = lies_in(_ADDRESS, _SEGMENT.mem, _SEGMENT.memsz)
        placed = byte_after(_SEGMENT, _SEGMENT.memsz, _ADDRESS, ENTRY_MEMORY, _BEFORE)
        error = z3.BitVecVal(0, 32)
        if "map_page" in path.failed:
            error = self._errors["ENOMEM"]
        elif "copy_from_user" in path.failed:
            error = self._errors["EFAULT"]
        return {
            "the result says what failed": result == error,
            "success: [mem, mem + memsz) is the buffer, then zeros": z3.Implies(
                result == 0, path.held == placed
            ),
            "nothing else is written": z3.Or(inside, path.held == _BEFORE),
            "what was done before stays in place": z3.Implies(
                _done_before(done), path.held == placed
            ),
            "no page stays mapped": z3.BoolVal(path.page is None),
            "the host's own memory is left alone": kept(self._start, path.state),
        }

    # The platform.

    def _event(self, stop: Stop, path: _Path) -> list[_Path]:
        state = stop.state
        if stop.why == "string" and stop.name == "stosb":
            return [self._zeros(stop, path)]
        if stop.why != "call":
            raise self._machine.refuse(state, f"{stop.why} in the load of a segment")
        first, second, third = state.regs.rdi, state.regs.rsi, state.regs.rdx
        if stop.name == "map_page":
            goal = z3.And(z3.BoolVal(path.page is None), to_z3(first) & (PAGE - 1) == 0)
            path = self._goal(path, "one page is mapped at a time", goal)
            pointer = claripy.BVS("pointer", 64)
            # It is NULL or has room for a page.
            fails, works = (
                self._back(path, pointer, pointer == 0),
                self._back(path, pointer, pointer != 0, claripy.ULE(pointer, -PAGE)),
            )
            return [
                replace(fails, failed=path.failed | {"map_page"}),
                replace(works, page=(first, pointer)),
            ]
        if stop.name == "copy_from_user":
            left = claripy.BVS("left", 64)
            offset, path = self._inside(path, first, third)
            put = z3.Select(ENTRY_MEMORY, to_z3(second) + offset)
            works = self._back(self._put(path, offset, third, put), left, left == 0)
            # What the platform leaves where it failed is not said.
            some = z3.FreshConst(z3.BitVecSort(8), "left_behind")
            failing = (left != 0, claripy.ULE(left, third))
            fails = self._back(self._put(path, offset, third, some), left, *failing)
            return [works, replace(fails, failed=path.failed | {"copy_from_user"})]
        if stop.name == "unmap_page":
            pointer = path.page[1] if path.page else claripy.BVV(0, 64)
            goal = to_z3(first == pointer)
            path = self._goal(path, "what is unmapped was mapped", goal)
            return [replace(self._back(path, None), page=None)]
        raise self._machine.refuse(state, f"calls {stop.name} in the load of a segment")

    def _zeros(self, stop: Stop, path: _Path) -> _Path:
        """REP STOSB (SDM vol. 2B, STOS): RCX bytes from RDI on become AL."""
        state = stop.state
        start, size, value = state.regs.rdi, state.regs.rcx, state.regs.rax[7:0]
        offset, path = self._inside(path, start, size)
        path = self._put(path, offset, size, to_z3(value))
        state.regs.rdi, state.regs.rcx = start + size, claripy.BVV(0, 64)
        assert stop.instruction is not None
        self._machine.skip(state, stop.instruction)
        return path

    def _inside(self, path: _Path, start: BV, size: BV) -> tuple[z3.BitVecRef, _Path]:
        """The offset of `_ADDRESS` from `start`, which must lie in the mapped page."""
        if path.page is None:
            never = {"what is written is mapped": z3.BoolVal(False)}
            return z3.BitVecVal(0, 64), replace(path, goals={**path.goals, **never})
        physical, pointer = path.page
        goal = to_z3(
            claripy.And(
                claripy.ULE(start - pointer, PAGE),
                claripy.ULE(size, PAGE),
                claripy.ULE(start - pointer + size, PAGE),
            )
        )
        path = self._goal(path, "what is written is mapped", goal)
        return _ADDRESS - to_z3(physical + (start - pointer)), path

    def _put(self, path: _Path, offset: z3.BitVecRef, size: BV, value: z3.BitVecRef) -> _Path:
        return replace(path, held=z3.If(z3.ULT(offset, to_z3(size)), value, path.held))

    def _goal(self, path: _Path, name: str, goal: z3.BoolRef) -> _Path:
        goals = dict(path.goals)
        goals[name] = z3.And(goals.get(name, z3.BoolVal(True)), goal)
        return replace(path, goals=goals)

    def _back(self, path: _Path, value: BV | None, *conditions: Bool) -> _Path:
        state = path.state.copy()
        state.solver.add(*conditions)
        self._machine.give_back(state, value)
        return replace(path, state=state)

    # The cut.

    def _place(self, state: State) -> int:
        """Where the progress is: the argument of load_piece."""
        place = self._machine.only_value(state, state.regs.rdi)
        if place is None:
            raise self._machine.refuse(state, "a progress that is nowhere in particular")
        return place

    def _progress(self, state: State) -> Progress:
        struct, place = self._host.structs["progress"], self._place(state)
        members = (member(self._machine, state, struct, place, name) for name in _MEMBERS)
        return Progress(*(to_z3(value) for value in members))

    def _free(self, state: State) -> list[int]:
        """Written bytes of the stack's free part."""
        top = self._machine.only_value(state, state.regs.rsp)
        assert top is not None  # the stack was prepared at one address
        return sorted(a for a in state.globals["written"] if top - PAGE <= a < top)

    def _unchanged(self, first: State, state: State) -> z3.BoolRef:
        """Registers that the ABI preserves, and memory outside of progress and free stack."""
        place = self._place(first)
        skipped = {*range(place, place + self._host.structs["progress"].size), *self._free(state)}
        same = [first.regs.get(name) == state.regs.get(name) for name in (*CALLEE_SAVED, "rsp")]
        same += [
            self._machine.read(first, address, 1) == self._machine.read(state, address, 1)
            for address in sorted(state.globals["written"] - skipped)
        ]
        same.append(first.regs.rdi == state.regs.rdi)
        return z3.And(*(to_z3(one) for one in same))


def _done_before(done: z3.BitVecRef) -> z3.BoolRef:
    """Is `_ADDRESS` among the first `done` bytes?"""
    return z3.ULT(_ADDRESS - _SEGMENT.mem, done)
