# SPDX-License-Identifier: GPL-2.0-only
"""The load of a whole image: which checks stand before the first byte that is written.

The compiled `multikernel_load` is executed on every path, for an image of any number of segments,
with the checks and `load_segment` replaced by what is proved of them elsewhere (checks.py,
lists.py, loading.py). Its own loops are proved by induction (rounds.py): nothing is unrolled. A
check that is not called gives nothing, so what it would have ensured is refuted.
"""

from __future__ import annotations

from dataclasses import replace

import claripy
import z3

from harness.host import objects
from harness.host.lists import ABOUT, ENDS, ROOM, wide
from harness.host.locking import ACTED, Lock, note_try
from harness.host.machine import State, Stop, to_z3
from harness.host.memory import member
from harness.host.objects import COUNT, ENTERED, HOST, IMAGE, INDEX, OLD_IMAGE, Objects, kept
from harness.host.rounds import Call, Goals, Path, Rounds
from harness.solve.obligation import Obligation
from models.kexec_load import sound
from trampoline.host_object import HostObject

SOUND = "every segment is sound before the first byte is written"
PAIRS = "no two segments meet"
SET_ASIDE = "every segment lies in memory reserved for other kernels, none in the host's"
AREA = "no segment meets the trampoline area"
ENTRY = "the entry point lies in a segment"
TYPE = "the image is one for a multikernel"
DAMAGED = "failure: no image whose memory may be written is left to start"
RESULT = "the first error ends the load and is its result"
LOADED = "success: every segment is loaded, once and in order"
KEPT = "success: this image is the one to start"
UNLOCKED = "the lock is free again"
OWN = "of the host only its lock and the image to start are changed"
BUSY = "a lock that is held: -EBUSY, and nothing is changed"

_FREE = "the lock was free"


def image_obligations(host: HostObject) -> list[Obligation]:
    """Claims on `multikernel_load`, for every image. Raises Refusal."""
    return _Image(host).obligations()


class _Image(Rounds):
    function = "multikernel_load"
    cuts = ("check_segments", "check_place", "check_entry", "load_segment")

    def __init__(self, host: HostObject) -> None:
        super().__init__(host)
        self._objects = Objects(host)
        self._lock = Lock(host, HOST)
        self._most = host.constants["SEGMENTS_MAX"]

    def begin(self) -> State:
        """Whatever image is loaded already."""
        state = self.machine.call(self.function, HOST, IMAGE)
        self._objects.put(self.machine, state)
        self._lock.observe(state)
        self._start = state.copy()
        return state

    def event(self, stop: Stop, path: Path) -> list[Path]:
        """The lock may be free or not."""
        state = stop.state
        if stop.why != "locked":
            return super().event(stop, path)
        lock = self._lock.place
        if [(a.address, a.size) for a in stop.accesses] != [lock]:
            raise self.machine.refuse(state, "a locked instruction on something else than the lock")
        paths = []
        for held in (0, 1):
            before = state.copy()
            self.machine.write(before, *lock, held)
            notes = path.notes if held else path.notes | {_FREE}
            for after in self.machine.execute(before):
                note_try(
                    before, after, claripy.BVV(held, lock[1] * 8), self.machine.read(after, *lock)
                )
                facts = (*path.facts, objects.entered())
                paths.append(replace(path, state=after, notes=notes, facts=facts))
        return paths

    def _range(self, name: str) -> tuple[int, int]:
        """Where a member of the host is: address and size."""
        offset, size = self.host.structs["host"].members[name]
        return HOST + offset, size

    # What the calls are for.

    def before(self, path: Path, stop: Stop, index: z3.BitVecRef) -> Goals:
        """The right call at the right time."""
        name = stop.name
        first, second = (to_z3(stop.state.regs.get(register)) for register in ("rdi", "rsi"))
        turn = z3.ULT(index, wide(COUNT))
        about = {
            "check_segments": first == IMAGE,
            "check_place": z3.And(first == HOST, second == self._objects.place(index), turn),
            "check_entry": first == IMAGE,
            "load_segment": z3.And(first == self._objects.place(index), turn),
        }
        goals = {ABOUT: about[name]}
        if path.calls:
            goals[ENDS] = path.calls[-1].result == 0
        if name in ("check_place", "load_segment"):
            goals[ROOM] = z3.ULT(index, self._most)
        if name == "check_entry":
            goals[ROOM] = z3.ULE(COUNT, self._most)
        goals |= self._lock.goals(stop.state)
        goals[ACTED] = self._lock.held(stop.state)
        if name == "load_segment" and path.call(name) is None:
            goals |= self._before_the_first_byte()
        return goals

    def passed(self, name: str, count: z3.BitVecRef) -> z3.BoolRef:
        """Of the two loops; the other checks are called once."""
        if name not in ("check_place", "load_segment"):
            return z3.BoolVal(True)
        turn = z3.ULT(count, wide(COUNT))
        if name == "load_segment":
            return turn
        return z3.And(turn, z3.Implies(z3.ULT(wide(INDEX), count), objects.set_aside()))

    def shown(self, call: Call) -> z3.BoolRef:
        """What a result of 0 means."""
        success = call.result == 0
        meaning = {
            "check_segments": z3.Implies(
                success, z3.And(objects.listed(), z3.ULE(COUNT, self._most))
            ),
            "check_place": z3.Implies(
                z3.And(success, wide(INDEX) == call.index), objects.set_aside()
            ),
            "check_entry": success == ENTERED,
            "load_segment": z3.BoolVal(True),
        }
        return z3.And(objects.one_of(self.host, call.name, call.result), meaning[call.name])

    # What is claimed.

    def _before_the_first_byte(self) -> Goals:
        """When the first segment is about to be loaded: what must hold of all of them."""

        def each(condition: z3.BoolRef) -> z3.BoolRef:
            return z3.Implies(objects.in_image(), condition)

        return {
            SOUND: each(sound(objects.ONE)),
            PAIRS: each(z3.Implies(objects.before_it(), objects.apart())),
            SET_ASIDE: each(z3.And(objects.RESERVED, z3.Not(objects.USED))),
            AREA: each(objects.off_the_area()),
            ENTRY: ENTERED,
            TYPE: self._right_type(),
        }

    def _right_type(self) -> z3.BoolRef:
        return self.host.constants["TYPE_MULTIKERNEL"] == objects.TYPE

    def end(self, path: Path) -> Goals:
        """The result, and what is left to start."""
        state = path.state
        result = to_z3(state.regs.rax[31:0])
        image, lock = (
            to_z3(member(self.machine, state, self.host.structs["host"], HOST, name))
            for name in ("image", "lock")
        )
        load = path.call("load_segment")
        untouched = z3.And(image == OLD_IMAGE, z3.BoolVal(load is None))
        own = kept(self._start, state, self._lock.place, self._range("image"))
        if _FREE not in path.notes:
            refused = z3.And(result == objects.error(self.host, "EBUSY"), lock == 1, untouched)
            return {BUSY: refused, OWN: own, **self._lock.goals(state)}
        # What is refused before any check is called is refused for its type.
        first = z3.And(result == objects.error(self.host, "EINVAL"), z3.Not(self._right_type()))
        if path.calls:
            first = result == path.calls[-1].result
        loaded = z3.BitVecVal(0, 64) if load is None else load.index + 1
        goals = {
            UNLOCKED: lock == 0,
            RESULT: first,
            LOADED: z3.Implies(result == 0, loaded == wide(COUNT)),
            KEPT: z3.Implies(result == 0, image == IMAGE),
            DAMAGED: z3.Or(result == 0, image == 0, untouched),
            OWN: own,
            **self._lock.goals(state),
        }
        if load is None:  # an image without segments
            goals |= {
                ENTRY: z3.Implies(result == 0, ENTERED),
                TYPE: z3.Implies(result == 0, self._right_type()),
            }
        return goals
