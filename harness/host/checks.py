# SPDX-License-Identifier: GPL-2.0-only
"""The checks of one segment, of a pair, of a place and of the entry point, each proved by itself.

Where a host lacks one of these functions there is nothing to prove of it, and nothing to rely on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import claripy
import z3
from claripy.ast.bv import BV

from harness.host.machine import Machine, State, to_z3
from harness.host.memory import fill
from harness.solve.obligation import Obligation
from models.kexec_load import Segment, lies_in, meet, sound, wraps
from trampoline.host_object import HostObject

HOST, IMAGE = 0x1_0000_0000, 0x1_1000_0000
ADDRESS_NOT_AVAILABLE, INVALID = "EADDRNOTAVAIL", "EINVAL"


@dataclass
class Objects:
    """A host and an image in memory, with symbols for all that the load looks at."""

    host: HostObject
    area: tuple[z3.BitVecRef, z3.BitVecRef] = field(init=False)  # base and size
    entry: z3.BitVecRef = field(init=False)
    type: z3.BitVecRef = field(init=False)
    count: z3.BitVecRef = field(init=False)

    def __post_init__(self) -> None:
        self.area = (z3.BitVec("area_base", 64), z3.BitVec("area_size", 64))
        self.entry, self.type = z3.BitVec("entry", 64), z3.BitVec("type", 32)
        self.count = z3.BitVec("nr_segments", 32)
        self.segments_max = self.host.constants["SEGMENTS_MAX"]

    def place(self, number: int) -> int:
        """The address of segment `number`."""
        first, _ = self.host.structs["image"].members["segment"]
        return IMAGE + first + number * self.host.structs["segment"].size

    def segment(self, number: int) -> Segment:
        """What segment `number` holds."""
        return Segment(*(z3.BitVec(name, 64) for name in _names(number)))

    def put(self, machine: Machine, state: State) -> None:
        """Write all of it."""
        structs = self.host.structs
        area, _ = structs["host"].members["area"]
        fields = {"base": _symbol("area_base"), "size": _symbol("area_size")}
        fill(machine, state, structs["area"], HOST + area, fields)
        head = {
            "type": _symbol("type", 32),
            "nr_segments": _symbol("nr_segments", 32),
            "entry": _symbol("entry"),
        }
        fill(machine, state, structs["image"], IMAGE, head)
        for number in range(self.segments_max):
            members = dict(zip(Segment.__annotations__, map(_symbol, _names(number)), strict=True))
            fill(machine, state, structs["segment"], self.place(number), members)


def _names(number: int) -> list[str]:
    return [f"{name}_{number}" for name in Segment.__annotations__]


def _symbol(name: str, bits: int = 64) -> BV:
    return claripy.BVS(name, bits, explicit_name=True)


def check_obligations(host: HostObject) -> list[Obligation]:
    """Claims on each check that the host has. Raises Refusal."""
    checks = _Checks(host)
    found = checks.segment() + checks.apart()
    if "check_place" in host.functions:
        found += checks.place()
    if "check_entry" in host.functions:
        found += checks.entry()
    return found


class _Checks:
    def __init__(self, host: HostObject) -> None:
        self._host = host
        self._objects = Objects(host)
        self._machine = Machine(host)

    def _ends(self, function: str, *arguments: int) -> list[tuple[State, z3.BitVecRef]]:
        """The ends of a function that calls nobody, with its result."""
        state = self._machine.call(function, *arguments)
        self._objects.put(self._machine, state)
        ends = []
        for stop in self._machine.run(state):
            if stop.why != "return":
                raise self._machine.refuse(stop.state, f"{stop.why} in {function}")
            ends.append((stop.state, to_z3(stop.state.regs.rax[31:0])))
        return ends

    def _error(self, name: str) -> z3.BitVecRef:
        return z3.BitVecVal(-self._host.constants[name], 32)

    def segment(self) -> list[Obligation]:
        one = self._objects.segment(0)
        place = z3.Or(wraps(one), (one.mem | one.memsz) & 0xFFF != 0)
        ends = self._ends("check_segment", self._objects.place(0))
        refused = z3.If(place, self._error(ADDRESS_NOT_AVAILABLE), self._error(INVALID))
        return [
            Obligation(
                f"check_segment, path {number}",
                conditions(state),
                {
                    "0 exactly for a sound segment": (result == 0) == sound(one),
                    "the error says what is wrong": z3.Or(sound(one), result == refused),
                },
            )
            for number, (state, result) in enumerate(ends)
        ]

    def apart(self) -> list[Obligation]:
        one, other = self._objects.segment(0), self._objects.segment(1)
        address = z3.BitVec("address", 64)
        common = z3.And(
            lies_in(address, one.mem, one.memsz), lies_in(address, other.mem, other.memsz)
        )
        both = meet(one.mem, one.memsz, other.mem, other.memsz)
        expected = z3.If(both, self._error(INVALID), z3.BitVecVal(0, 32))
        ends = self._ends("check_apart", self._objects.place(0), self._objects.place(1))
        return [
            Obligation(
                f"check_apart, path {number}",
                conditions(state),
                {
                    "0: no byte is in both segments": z3.Not(z3.And(result == 0, common)),
                    "refused only if they meet": result == expected,
                },
            )
            for number, (state, result) in enumerate(ends)
        ]

    def place(self) -> list[Obligation]:
        one, area = self._objects.segment(0), self._objects.area
        address = z3.BitVec("address", 64)
        common = z3.And(lies_in(address, one.mem, one.memsz), lies_in(address, *area))
        said = {name: z3.Bool(name) for name in ("reserved_for_kernels", "used_by_host")}
        good = z3.And(
            said["reserved_for_kernels"],
            z3.Not(said["used_by_host"]),
            z3.Not(meet(one.mem, one.memsz, *area)),
        )
        expected = z3.If(good, z3.BitVecVal(0, 32), self._error(ADDRESS_NOT_AVAILABLE))
        state = self._machine.call("check_place", HOST, self._objects.place(0))
        self._objects.put(self._machine, state)
        found: list[Obligation] = []
        waiting: list[tuple[State, z3.BoolRef]] = [(state, z3.BoolVal(True))]
        while waiting:
            state, asked = waiting.pop()
            for stop in self._machine.run(state):
                if stop.why == "call" and stop.name in said:
                    first, size = to_z3(stop.state.regs.rdi), to_z3(stop.state.regs.rsi)
                    answer = claripy.BoolS(stop.name, explicit_name=True)
                    self._machine.give_back(
                        stop.state, claripy.If(answer, claripy.BVV(1, 8), claripy.BVV(0, 8))
                    )
                    about = z3.And(asked, first == one.mem, size == one.memsz)
                    waiting.append((stop.state, about))
                elif stop.why == "return":
                    result = to_z3(stop.state.regs.rax[31:0])
                    goals = {
                        "the platform is asked about this segment": asked,
                        "0 exactly for a place that is set aside": result == expected,
                        "0: no byte is in the trampoline area": z3.Not(z3.And(result == 0, common)),
                    }
                    name = f"check_place, path {len(found)}"
                    found.append(Obligation(name, conditions(stop.state), goals))
                else:
                    raise self._machine.refuse(stop.state, f"{stop.why} in check_place")
        return found

    def entry(self) -> list[Obligation]:
        objects = self._objects
        some = z3.Or(
            *(
                z3.And(
                    z3.ULT(number, objects.count),
                    lies_in(objects.entry, one.mem, one.memsz),
                )
                for number in range(objects.segments_max)
                for one in [objects.segment(number)]
            )
        )
        expected = z3.If(some, z3.BitVecVal(0, 32), self._error(ADDRESS_NOT_AVAILABLE))
        state = self._machine.call("check_entry", IMAGE)
        objects.put(self._machine, state)
        state.solver.add(claripy.ULE(_symbol("nr_segments", 32), objects.segments_max))
        found = []
        for number, stop in enumerate(self._machine.run(state)):
            if stop.why != "return":
                raise self._machine.refuse(stop.state, f"{stop.why} in check_entry")
            result = to_z3(stop.state.regs.rax[31:0])
            goals = {"0 exactly if the entry lies in a segment": result == expected}
            found.append(Obligation(f"check_entry, path {number}", conditions(stop.state), goals))
        return found


def conditions(state: State) -> tuple[z3.BoolRef, ...]:
    """The path's condition."""
    return tuple(to_z3(one) for one in state.solver.constraints)
