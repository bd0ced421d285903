# SPDX-License-Identifier: GPL-2.0-only
"""A host and an image in memory, and the names of what the load looks at.

An image has any number of segments; claims speak of two of them, which stand for all: the one of
number `index`, and another of number `other_index`. Nothing is known of a number but what a
hypothesis says, so what holds for these two holds for every pair.
"""

from __future__ import annotations

import claripy
import z3
from claripy.ast.bool import Bool
from claripy.ast.bv import BV

from harness.host.machine import CALLEE_SAVED, STACK_BYTES, Machine, State, to_z3
from harness.host.memory import fill
from models.kexec_load import Segment, lies_in, meet, sound
from trampoline.host_object import HostObject

HOST, IMAGE = 0x1_0000_0000, 0x1_1000_0000
"""Where the host's structure and the image are put. The code must not care."""

OLD_IMAGE = z3.BitVec("old_image", 64)
"""The image that could be started before; 0: none."""
INDEX, OTHER_INDEX = z3.BitVecs("index other_index", 32)
COUNT, TYPE = z3.BitVecs("nr_segments type", 32)
ENTRY = z3.BitVec("entry", 64)
AREA = (z3.BitVec("area_base", 64), z3.BitVec("area_size", 64))
RESERVED, USED = z3.Bools("reserved_for_kernels used_by_host")
"""What the platform says of segment `index`."""
ENTERED = z3.Bool("entry_in_a_segment")
"""Does the entry point lie in any segment at all?"""

_MEMBERS = tuple(Segment.__annotations__)
ONE, OTHER = (
    Segment(*(z3.BitVec(prefix + name, 64) for name in _MEMBERS)) for prefix in ("", "other_")
)

ERRORS = {
    "check_segment": ("EADDRNOTAVAIL", "EINVAL"),
    "check_apart": ("EINVAL",),
    "check_nth": ("EADDRNOTAVAIL", "EINVAL"),
    "check_segments": ("EADDRNOTAVAIL", "EINVAL"),
    "check_place": ("EADDRNOTAVAIL",),
    "check_entry": ("EADDRNOTAVAIL",),
    "load_segment": ("ENOMEM", "EFAULT"),
}
"""What each function may return beside 0. Proved of it, and relied on by its callers."""


def in_image() -> z3.BoolRef:
    """Is there a segment of number `index`?"""
    return z3.ULT(INDEX, COUNT)


def before_it() -> z3.BoolRef:
    """Does the other segment stand before segment `index`?"""
    return z3.ULT(OTHER_INDEX, INDEX)


def apart() -> z3.BoolRef:
    """Have the two segments no byte in common?"""
    return z3.Not(meet(ONE.mem, ONE.memsz, OTHER.mem, OTHER.memsz))


def off_the_area() -> z3.BoolRef:
    """Has segment `index` no byte in common with the trampoline area?"""
    return z3.Not(meet(ONE.mem, ONE.memsz, *AREA))


def set_aside() -> z3.BoolRef:
    """May segment `index` lie where it is to lie?"""
    return z3.And(RESERVED, z3.Not(USED), off_the_area())


def begins_in_it() -> z3.BoolRef:
    """Does the entry point lie in segment `index`?"""
    return lies_in(ENTRY, ONE.mem, ONE.memsz)


def listed() -> z3.BoolRef:
    """What `check_segments` stands for, of the two segments."""
    pair = z3.Implies(before_it(), apart())
    return z3.Implies(in_image(), z3.And(sound(ONE), pair))


def entered() -> z3.BoolRef:
    """What `entry_in_a_segment` means, as far as it can be said of segment `index`."""
    only_one = z3.And(COUNT == 1, INDEX == 0)
    return z3.And(
        z3.Implies(z3.And(in_image(), begins_in_it()), ENTERED),
        z3.Implies(only_one, begins_in_it() == ENTERED),
        z3.Implies(COUNT == 0, z3.Not(ENTERED)),
    )


def error(host: HostObject, name: str) -> z3.BitVecRef:
    """The result of 32 bits that says this error."""
    return z3.BitVecVal(-host.constants[name], 32)


def one_of(host: HostObject, function: str, result: z3.BitVecRef) -> z3.BoolRef:
    """The result is one that the function may return."""
    return z3.Or(result == 0, *(result == error(host, name) for name in ERRORS[function]))


class Objects:
    """Writes them to memory."""

    def __init__(self, host: HostObject) -> None:
        self._structs = host.structs
        self._first, _ = host.structs["image"].members["segment"]
        self._size = host.structs["segment"].size

    def place(self, number: z3.BitVecRef | int) -> z3.BitVecRef:
        """The address of the segment of this number (64 bits)."""
        return z3.BitVecVal(IMAGE + self._first, 64) + self._size * number

    def address(self, number: int) -> int:
        """The same for a number that is known."""
        return IMAGE + self._first + self._size * number

    def put(self, machine: Machine, state: State) -> None:
        """Host and image, but for the segments."""
        area, _ = self._structs["host"].members["area"]
        fields = {"base": symbol("area_base"), "size": symbol("area_size")}
        fill(machine, state, self._structs["area"], HOST + area, fields)
        old = {"image": symbol("old_image")}
        fill(machine, state, self._structs["host"], HOST, old)
        head = {
            "type": symbol("type", 32),
            "nr_segments": symbol("nr_segments", 32),
            "entry": symbol("entry"),
        }
        fill(machine, state, self._structs["image"], IMAGE, head)

    def put_two(self, machine: Machine, state: State) -> None:
        """Segment `index` in place 0, the other in place 1."""
        for number, prefix in enumerate(("", "other_")):
            members = {name: symbol(prefix + name) for name in _MEMBERS}
            fill(machine, state, self._structs["segment"], self.address(number), members)


def symbol(name: str, bits: int = 64) -> BV:
    """An angr symbol of just this name, equal to z3's."""
    return claripy.BVS(name, bits, explicit_name=True)


def conditions(state: State) -> tuple[z3.BoolRef, ...]:
    """The path's condition."""
    return tuple(to_z3(one) for one in state.solver.constraints)


def kept(start: State, end: State, *writable: tuple[int, int]) -> z3.BoolRef:
    """Between a function's entry and its end: what the ABI preserves is preserved, and only its
    stack and the `writable` ranges (address, size) are written."""
    same: list[Bool] = [start.regs.get(r) == end.regs.get(r) for r in CALLEE_SAVED]
    same.append(start.regs.rsp + 8 == end.regs.rsp)
    only = z3.BoolVal(writes_only(start, end, *writable))
    return z3.And(only, *(to_z3(one) for one in same))


def writes_only(start: State, end: State, *writable: tuple[int, int]) -> bool:
    """Nothing but the stack below the entry's and the `writable` ranges was written."""
    top = start.regs.rsp.concrete_value
    allowed = ((top - STACK_BYTES, STACK_BYTES), *writable)
    return all(
        any(first <= address < first + size for first, size in allowed)
        for address in end.globals["written"]
    )
