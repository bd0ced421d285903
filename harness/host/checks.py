# SPDX-License-Identifier: GPL-2.0-only
"""The checks of one segment, of a pair, of a place and of the entry point, each proved by itself.

The segments lie anywhere (anywhere.py), so no check depends on where they are, or on their order.
Where a host lacks one of these functions there is nothing to prove of it, and nothing to rely on.
"""

from __future__ import annotations

from collections.abc import Callable

import claripy
import z3
from claripy.ast.bv import BV

from harness.host import objects
from harness.host.anywhere import Anywhere
from harness.host.machine import Machine, State, to_z3
from harness.host.objects import AREA, ENTRY, HOST, IMAGE, ONE, OTHER, Objects, conditions, kept
from harness.solve.obligation import Obligation
from models.kexec_load import lies_in, meet, sound, wraps
from trampoline.host_object import HostObject

UNCHANGED = "nothing is changed but the result"
NO_COMMON_BYTE = "0: no byte is in both segments"
NO_BYTE_IN_AREA = "0: no byte is in the trampoline area"
_ADDRESS, _BYTE, _OTHER_BYTE = z3.BitVecs("address byte other_byte", 64)
_BYTES = {
    NO_COMMON_BYTE: (ONE.mem == _ADDRESS - _BYTE, OTHER.mem == _ADDRESS - _OTHER_BYTE),
    NO_BYTE_IN_AREA: (ONE.mem == _ADDRESS - _BYTE, AREA[0] == _ADDRESS - _OTHER_BYTE),
}
"""Hypotheses that only give names: any address is byte number `byte` of the one range, and number
`other_byte` of the other; or would be if they were long enough. They make z3 ten times faster."""
_ASKED = ("reserved_for_kernels", "used_by_host")


def check_obligations(host: HostObject) -> list[Obligation]:
    """Claims on each check that the host has, for each path and goal. Raises Refusal."""
    return [
        obligation
        for name, claims in _CLAIMS.items()
        if name in host.functions
        for obligation in _Check(host, name).obligations(claims(host))
    ]


Goals = Callable[[z3.BitVecRef, z3.BoolRef], dict[str, z3.BoolRef]]
"""From the result, and whether the platform was only asked about this segment."""


def _segment(host: HostObject) -> Goals:
    place = z3.Or(wraps(ONE), (ONE.mem | ONE.memsz) & 0xFFF != 0)
    refused = z3.If(place, objects.error(host, "EADDRNOTAVAIL"), objects.error(host, "EINVAL"))
    return lambda result, _: {
        "0 exactly for a sound segment": (result == 0) == sound(ONE),
        "the error says what is wrong": z3.Or(sound(ONE), result == refused),
    }


def _no_byte(result: z3.BitVecRef, size: z3.BitVecRef) -> z3.BoolRef:
    """No address lies in the segment and in the range of `size` bytes beside it."""
    common = z3.And(z3.ULT(_BYTE, ONE.memsz), z3.ULT(_OTHER_BYTE, size))
    return z3.Not(z3.And(result == 0, common))


def _apart(host: HostObject) -> Goals:
    both = meet(ONE.mem, ONE.memsz, OTHER.mem, OTHER.memsz)
    expected = z3.If(both, objects.error(host, "EINVAL"), z3.BitVecVal(0, 32))
    return lambda result, _: {
        NO_COMMON_BYTE: _no_byte(result, OTHER.memsz),
        "refused only if they meet": result == expected,
    }


def _place(host: HostObject) -> Goals:
    refused = objects.error(host, "EADDRNOTAVAIL")
    return lambda result, asked: {
        "the platform is asked about this segment": asked,
        "0 exactly for a place that is set aside": result
        == z3.If(objects.set_aside(), z3.BitVecVal(0, 32), refused),
        NO_BYTE_IN_AREA: _no_byte(result, AREA[1]),
    }


def _begins(_: HostObject) -> Goals:
    return lambda result, _: {
        "true exactly if the entry lies in the segment": (z3.Extract(7, 0, result) == 1)
        == lies_in(ENTRY, ONE.mem, ONE.memsz),
        "true or false": z3.ULE(z3.Extract(7, 0, result), 1),
    }


_CLAIMS = {
    "check_segment": _segment,
    "check_apart": _apart,
    "check_place": _place,
    "begins_in": _begins,
}


class _Check:
    def __init__(self, host: HostObject, name: str) -> None:
        self._name = name
        self._machine = Machine(host)
        places = Objects(host)
        one, other = objects.symbol("one_at"), objects.symbol("other_at")
        shadows = {one: places.address(0), other: places.address(1)}
        self._anywhere = Anywhere(self._machine, shadows, host.structs["segment"].size)
        arguments: dict[str, tuple[int | BV, ...]] = {
            "check_segment": (one,),
            "check_apart": (one, other),
            "check_place": (HOST, one),
            "begins_in": (IMAGE, one),
        }
        self._start = self._machine.call(name, *arguments[name])
        places.put(self._machine, self._start)
        places.put_two(self._machine, self._start)

    def obligations(self, goals: Goals) -> list[Obligation]:
        found: list[Obligation] = []
        waiting: list[tuple[State, z3.BoolRef]] = [(self._start.copy(), z3.BoolVal(True))]
        paths = 0
        while waiting:
            state, asked = waiting.pop()
            for stop in self._machine.run(state):
                here = stop.state
                if stop.why == "call" and stop.name in _ASKED:
                    about = z3.And(
                        to_z3(here.regs.rdi) == ONE.mem, to_z3(here.regs.rsi) == ONE.memsz
                    )
                    answer = claripy.BoolS(stop.name, explicit_name=True)
                    byte = claripy.If(answer, claripy.BVV(1, 8), claripy.BVV(0, 8))
                    self._machine.give_back(here, byte)
                    waiting.append((here, z3.And(asked, about)))
                    continue
                if stop.why == "access":
                    waiting += [(after, asked) for after in self._anywhere.go(stop)]
                    continue
                if stop.why != "return":
                    raise self._machine.refuse(here, f"{stop.why} in {self._name}")
                paths += 1
                result = to_z3(here.regs.rax[31:0])
                claimed = {**goals(result, asked), UNCHANGED: kept(self._start, here)}
                found += [
                    Obligation(
                        f"{self._name}, path {paths}: {name}",
                        (*conditions(here), *_BYTES.get(name, ())),
                        {name: goal},
                    )
                    for name, goal in claimed.items()
                ]
        return found
