# SPDX-License-Identifier: GPL-2.0-only
"""Claims on `multikernel_setup`: the area is reserved exactly, and holds the trampoline's image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import claripy
import z3
from claripy.ast.bv import BV

from harness.host.machine import Machine, State, Stop, to_z3
from harness.host.memory import fill, member
from harness.host.objects import kept
from harness.solve.obligation import Obligation
from trampoline.contract import Contract
from trampoline.host_object import HostObject
from trampoline.image import load_image

HOST, TRAMPOLINE, AREA = 0x1_0000_0000, 0x1_2000_0000, 0x1_3000_0000
RESERVED = "exactly the area is reserved"
FREE = "the status word says that the area is free"
_STATUS = 0x40  # where the status word is put; the code must not care
_PAGE = 0x1000


@dataclass(frozen=True)
class _Path:
    """A path and what it did. `did`: name to the arguments of a call or string instruction."""

    state: State
    did: tuple[tuple[str, tuple[z3.BitVecRef, ...]], ...] = ()


def setup_obligations(host: HostObject, contract: Contract) -> list[Obligation]:
    """For every size of the image below 1 MiB, and every answer of the platform. Raises Refusal."""
    return _Setup(host, contract).obligations()


class _Setup:
    def __init__(self, host: HostObject, contract: Contract) -> None:
        self._host = host
        self._contract = contract
        # The area is memory of others: only the copy and the status word may touch it.
        self._machine = Machine(host, watched=[(AREA, 0x10_0000)])
        self._size = claripy.BVS("size", 64, explicit_name=True)
        self._image = claripy.BVS("image", 64, explicit_name=True)
        self._base = claripy.BVS("base", 64, explicit_name=True)

    def obligations(self) -> list[Obligation]:
        state = self._machine.call("multikernel_setup", HOST, TRAMPOLINE)
        fields = {"image": self._image, "size": self._size, "status": claripy.BVV(_STATUS, 32)}
        fill(self._machine, state, self._host.structs["trampoline"], TRAMPOLINE, fields)
        state.solver.add(self._size != 0, claripy.ULE(self._size, 0x10_0000))
        self._start = state.copy()
        found: list[Obligation] = []
        waiting = [_Path(state)]
        paths = 0
        while waiting:
            path = waiting.pop()
            for stop in self._machine.run(path.state):
                if stop.why == "return" or stop.name == "panic":
                    goals = self._end(replace(path, state=stop.state), stop.why == "return")
                    conditions = tuple(to_z3(c) for c in stop.state.solver.constraints)
                    paths += 1
                    found += [
                        Obligation(
                            f"multikernel_setup, path {paths}: {name}", conditions, {name: goal}
                        )
                        for name, goal in goals.items()
                    ]
                else:
                    waiting.append(self._event(stop, replace(path, state=stop.state)))
        return found

    def _event(self, stop: Stop, path: _Path) -> _Path:
        state, name = stop.state, stop.name
        arguments: tuple[BV, ...] = (state.regs.rdi, state.regs.rsi)
        if stop.why == "access" and stop.accesses[0].address == AREA + _STATUS:
            (after,) = self._machine.execute(state)
            written = self._machine.read(after, AREA + _STATUS, 4)
            return _Path(after, (*path.did, ("status", (to_z3(written),))))
        if stop.why == "string" and name == "movsb":
            assert stop.instruction is not None
            arguments = (*arguments, state.regs.rcx)
            state.regs.rdi, state.regs.rsi = (one + state.regs.rcx for one in arguments[:2])
            state.regs.rcx = claripy.BVV(0, 64)
            self._machine.skip(state, stop.instruction)
        elif stop.why == "call" and name in ("allocate_low", "mapped"):
            self._machine.give_back(
                state, self._base if name == "allocate_low" else claripy.BVV(AREA, 64)
            )
        elif stop.why == "call" and name in ("reserve", "make_executable"):
            self._machine.give_back(state, None)
        else:
            raise self._machine.refuse(state, f"{stop.why} {name} in the set-up of the area")
        return _Path(state, (*path.did, (name, tuple(to_z3(one) for one in arguments))))

    def _end(self, path: _Path, returned: bool) -> dict[str, z3.BoolRef]:
        base, size = to_z3(self._base), to_z3(self._size)
        pages = (size + (_PAGE - 1)) & ~z3.BitVecVal(_PAGE - 1, 64)
        limit = z3.BitVecVal(self._host.constants["LOW_MEMORY_LIMIT"], 64)
        goals = {
            "whole pages below 1 MiB are asked for": self._once(path, "allocate_low", pages, limit),
            "without low memory the host does not go on": z3.BoolVal(returned) == (base != 0),
        }
        if not returned:
            return goals
        area_at, area_size = self._host.structs["host"].members["area"]
        area_at += HOST
        area = {
            name: to_z3(
                member(self._machine, path.state, self._host.structs["area"], area_at, name)
            )
            for name in ("base", "size", "memory", "trampoline")
        }
        goals |= {
            RESERVED: self._once(path, "reserve", base, pages),
            "the whole image is copied to it": self._once(
                path, "movsb", z3.BitVecVal(AREA, 64), to_z3(self._image), size
            ),
            "it is the base as mapped": self._once(path, "mapped", base),
            "exactly its pages may hold code": self._once(
                path, "make_executable", z3.BitVecVal(AREA, 64), z3.LShR(pages, 12)
            ),
            "the host remembers it": z3.And(
                area["base"] == base,
                area["size"] == pages,
                area["memory"] == AREA,
                area["trampoline"] == TRAMPOLINE,
            ),
            "nothing else of the host is changed": kept(
                self._start, path.state, (area_at, area_size), (AREA + _STATUS, 4)
            ),
        }
        if (handshake := self._contract.shared.status.handshake) is not None:
            goals[FREE] = self._status_at_the_end(path) == handshake.free
        return goals

    def _status_at_the_end(self, path: _Path) -> z3.BitVecRef:
        """The status word: as last stored; as the image has it, if that is copied later."""
        image = load_image(self._contract)
        start = image.symbols[self._contract.shared.status.word]
        word = z3.BitVec("status_before", 32)
        for name, arguments in path.did:
            if name == "movsb":
                word = z3.BitVecVal(int.from_bytes(image.data[start : start + 4], "little"), 32)
            elif name == "status":
                (word,) = arguments
        return word

    def _once(self, path: _Path, name: str, *expected: z3.BitVecRef) -> z3.BoolRef:
        """It was done once, with these arguments."""
        done = [arguments for what, arguments in path.did if what == name]
        if len(done) != 1:
            return z3.BoolVal(False)
        return z3.And(*(one == other for one, other in zip(done[0], expected, strict=False)))
