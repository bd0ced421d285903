# SPDX-License-Identifier: GPL-2.0-only
"""The checks of a whole list of segments: every segment, every pair, and the entry point.

The checks of one segment and of one pair are proved in checks.py; here their loops, for lists of
any length.
"""

from __future__ import annotations

import z3
from claripy.ast.bv import BV

from harness.host import objects
from harness.host.checks import UNCHANGED
from harness.host.machine import State, Stop, to_z3
from harness.host.objects import COUNT, IMAGE, INDEX, ONE, OTHER_INDEX, Objects, kept, symbol
from harness.host.rounds import Call, Goals, Path, Rounds
from harness.solve.obligation import Obligation
from models.kexec_load import sound
from trampoline.host_object import HostObject

ENDS = "a check that fails is the last"
ABOUT = "each check is about the segment whose turn it is"
RESULT = "the result is that of the first check that fails, else 0"
ENTERED = "0: the entry lies in the segment that was looked at last"
ROOM = "no segment is looked at beyond those that an image has room for"


def list_obligations(host: HostObject) -> list[Obligation]:
    """Claims on the loops over checks that the host has. Raises Refusal."""
    loops: list[type[_List]] = [_Nth, _Segments]
    if "check_entry" in host.functions:
        loops.append(_Entry)
    return [obligation for loop in loops for obligation in loop(host).obligations()]


def wide(number: z3.BitVecRef) -> z3.BitVecRef:
    """A number of a segment, in 64 bits."""
    return z3.ZeroExt(32, number)


class _List(Rounds):
    """What the loops have in common."""

    def __init__(self, host: HostObject) -> None:
        super().__init__(host)
        self.objects = Objects(host)
        self.arguments: tuple[int | BV, ...] = (IMAGE,)

    def begin(self) -> State:
        state = self.machine.call(self.function, *self.arguments)
        self.objects.put(self.machine, state)
        self.start = state.copy()
        return state

    def before(self, path: Path, stop: Stop, index: z3.BitVecRef) -> Goals:
        first, second = (to_z3(stop.state.regs.get(register)) for register in ("rdi", "rsi"))
        goals = {ABOUT: self.about(stop.name, first, second, index)}
        if path.calls:
            goals[ENDS] = path.calls[-1].result == 0
        return goals

    def about(
        self, name: str, first: z3.BitVecRef, second: z3.BitVecRef, index: z3.BitVecRef
    ) -> z3.BoolRef:
        """The arguments of call `index` are the right ones."""
        raise NotImplementedError

    def result(self, path: Path) -> z3.BitVecRef:
        """What the function returns."""
        return to_z3(path.state.regs.rax[31:0])


class _Nth(_List):
    """check_nth: segment `index` by itself, then beside each that stands before it."""

    function = "check_nth"
    cuts = ("check_segment", "check_apart")

    def __init__(self, host: HostObject) -> None:
        super().__init__(host)
        self.arguments = (IMAGE, symbol("index", 32).zero_extend(32))

    def about(
        self, name: str, first: z3.BitVecRef, second: z3.BitVecRef, index: z3.BitVecRef
    ) -> z3.BoolRef:
        one = first == self.objects.place(wide(INDEX))
        if name == "check_segment":
            return one
        return z3.And(one, second == self.objects.place(index), z3.ULT(index, wide(INDEX)))

    def passed(self, name: str, count: z3.BitVecRef) -> z3.BoolRef:
        if name == "check_segment":
            return z3.BoolVal(True)
        done = z3.Implies(z3.ULT(wide(OTHER_INDEX), count), objects.apart())
        return z3.And(z3.ULT(count, wide(INDEX)), done)

    def shown(self, call: Call) -> z3.BoolRef:
        held = sound(ONE)
        if call.name == "check_apart":
            held = z3.Implies(wide(OTHER_INDEX) == call.index, objects.apart())
        result = objects.one_of(self.host, call.name, call.result)
        return z3.And(result, z3.Implies(call.result == 0, held))

    def end(self, path: Path) -> Goals:
        result = self.result(path)
        pairs = z3.Implies(objects.before_it(), objects.apart())
        last = path.calls[-1].result if path.calls else z3.BitVecVal(0, 32)
        return {
            "0: the segment is sound": z3.Implies(result == 0, sound(ONE)),
            "0: it meets none of those before it": z3.Implies(result == 0, pairs),
            RESULT: result == last,
            UNCHANGED: kept(self.start, path.state),
        }


class _Segments(_List):
    """check_segments: the whole list."""

    function = "check_segments"
    cuts = ("check_nth",)

    def about(
        self, name: str, first: z3.BitVecRef, second: z3.BitVecRef, index: z3.BitVecRef
    ) -> z3.BoolRef:
        number = z3.Extract(31, 0, second)
        return z3.And(first == IMAGE, wide(number) == index, z3.ULT(index, wide(COUNT)))

    def before(self, path: Path, stop: Stop, index: z3.BitVecRef) -> Goals:
        room = z3.ULT(index, self.host.constants["SEGMENTS_MAX"])
        return super().before(path, stop, index) | {ROOM: room}

    def passed(self, name: str, count: z3.BitVecRef) -> z3.BoolRef:
        done = z3.Implies(z3.ULT(wide(INDEX), count), self._good())
        return z3.And(z3.ULT(count, wide(COUNT)), done)

    def shown(self, call: Call) -> z3.BoolRef:
        held = z3.Implies(wide(INDEX) == call.index, self._good())
        result = objects.one_of(self.host, call.name, call.result)
        return z3.And(result, z3.Implies(call.result == 0, held))

    def _good(self) -> z3.BoolRef:
        """What check_nth has shown of segment `index`."""
        return z3.And(sound(ONE), z3.Implies(objects.before_it(), objects.apart()))

    def end(self, path: Path) -> Goals:
        result = self.result(path)
        last = path.calls[-1].result if path.calls else z3.BitVecVal(0, 32)
        most = self.host.constants["SEGMENTS_MAX"]
        expected = z3.If(z3.UGT(COUNT, most), objects.error(self.host, "EINVAL"), last)
        return {
            "0: every segment is sound, and no two meet": z3.Implies(result == 0, objects.listed()),
            "0: there are no more segments than an image has room for": z3.Implies(
                result == 0, z3.ULE(COUNT, most)
            ),
            RESULT: result == expected,
            UNCHANGED: kept(self.start, path.state),
        }


class _Entry(_List):
    """check_entry: some segment has the entry point."""

    function = "check_entry"
    cuts = ("begins_in",)
    booleans = frozenset(["begins_in"])

    def about(
        self, name: str, first: z3.BitVecRef, second: z3.BitVecRef, index: z3.BitVecRef
    ) -> z3.BoolRef:
        place = second == self.objects.place(index)
        return z3.And(first == IMAGE, place, z3.ULT(index, wide(COUNT)))

    def passed(self, name: str, count: z3.BitVecRef) -> z3.BoolRef:
        not_yet = z3.Implies(z3.ULT(wide(INDEX), count), z3.Not(objects.begins_in_it()))
        return z3.And(z3.ULT(count, wide(COUNT)), not_yet)

    def shown(self, call: Call) -> z3.BoolRef:
        mine = z3.Implies(wide(INDEX) == call.index, (call.result == 1) == objects.begins_in_it())
        return z3.And(z3.ULE(call.result, 1), mine)

    def end(self, path: Path) -> Goals:
        result = self.result(path)
        found = z3.BoolVal(False)
        for call in path.calls:
            found = z3.And(call.result == 1, z3.ULT(call.index, wide(COUNT)))
        none = z3.Implies(objects.in_image(), z3.Not(objects.begins_in_it()))
        return {
            ENTERED: z3.Implies(result == 0, found),
            "not 0: it lies in no segment": z3.Or(result == 0, none),
            "0 or -EADDRNOTAVAIL": objects.one_of(self.host, self.function, result),
            UNCHANGED: kept(self.start, path.state),
        }
