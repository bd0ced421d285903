# SPDX-License-Identifier: GPL-2.0-only
"""Runs the host's object on angr, and stops wherever something happens that others may notice.

Between two stops the code touches registers and private memory only. Every address is proved to
be a single one before angr sees it: angr would otherwise choose one without a word.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import angr
import claripy
import z3
from claripy.ast.bool import Bool
from claripy.ast.bv import BV

from harness.host import instructions
from harness.host.instructions import CsInsn
from harness.host.liveness import ALL, live_registers
from harness.host.refusal import Refusal
from harness.x86 import solver
from trampoline.host_object import HostObject

State = Any  # angr.SimState; angr has no types

RETURNED = 0xDEAD_0000
"""Where the function under examination returns to."""
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_CALLER_SAVED = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")
CALLEE_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")

PLATFORM_ARGUMENTS = 3
"""No function of the platform has more."""

UNKNOWN = "_unknown"
"""In the names of symbols for what a register holds that nobody has set."""

STACK_BYTES = 0x1000
"""More than any function of a host takes."""

_CALL, _CALL_SIZE = b"\xe8", 5  # CALL rel32 (SDM vol. 2A)
_CODE, _STACK = 0x40_0000, 0x7FFF_0000
_RLIMIT = 10_000_000  # z3 resource units for one question; the hardest in use needs a hundredth
_STEPS = 1_000  # instructions between two stops of one path

# angr warns of memory and registers without a value: both are meant to be unconstrained.
logging.getLogger("angr").setLevel(logging.ERROR)
logging.getLogger("cle").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Access:
    """One operand in memory: `size` bytes at `address` (an int wherever there is only one).

    `stored`: it is written and not read.
    """

    address: int | BV
    size: int
    stored: bool


@dataclass(frozen=True)
class Stop:
    """Before something that others may notice. `why`: "call" (of the platform's function `name`),
    "cut" (at the entry of the own function `name`), "return", "locked", "fence", "string", or
    "access" (to watched memory, or by an address that is not one).
    """

    state: State
    why: str
    name: str = ""
    instruction: CsInsn | None = None
    accesses: tuple[Access, ...] = ()


class Machine:
    """One host's object in memory. `watched`: (address, size) of memory that is not private.

    `cuts`: functions of the host at whose entry the run stops.
    """

    def __init__(
        self,
        host: HostObject,
        watched: Iterable[tuple[int, int]] = (),
        cuts: Iterable[str] = (),
    ) -> None:
        self.host = host
        self.watched = tuple(watched)
        self._project = angr.Project(
            io.BytesIO(host.elf),
            auto_load_libs=False,
            main_opts={"base_addr": _CODE},
            default_analysis_mode="symbolic",
        )
        loader = self._project.loader
        self._text = loader.main_object.sections_map[".text"]
        symbols: dict[str, Any] = {name: loader.find_symbol(name) for name in host.platform}
        self._platform = {symbols[name].rebased_addr: name for name in sorted(host.platform)}
        self._cuts = {self._text.vaddr + host.functions[name]: name for name in cuts}
        self._decoded: dict[int, CsInsn] = {}
        self._values: dict[Hashable, int | None] = {}
        self._live: dict[int, frozenset[str]] = {}

    def call(self, function: str, *arguments: int | BV) -> State:
        """A state at the entry of `function`, everything else unconstrained."""
        state = self._project.factory.blank_state(
            add_options=angr.options.symbolic
            | {
                *(angr.options.LAZY_SOLVES, angr.options.NO_SYMBOLIC_JUMP_RESOLUTION),
                *(angr.options.SYMBOL_FILL_UNCONSTRAINED_MEMORY,),
                *(angr.options.SYMBOL_FILL_UNCONSTRAINED_REGISTERS,),
            },
        )
        state.regs.rsp = _STACK
        state.inspect.b("mem_write", when=angr.BP_BEFORE, action=_record_write)
        state.globals["written"] = frozenset()
        self.enter(state, function, *arguments)
        return state

    def enter(self, state: State, function: str, *arguments: int | BV) -> None:
        """Call `function`, so that it returns to RETURNED, in a state with an empty stack."""
        forget(state, (*_CALLER_SAVED, *CALLEE_SAVED))
        for register, value in zip(ARGUMENTS, arguments, strict=False):
            setattr(state.regs, register, value)
        state.regs.rsp = _STACK
        self.write(state, _STACK, 8, RETURNED)
        state.regs.d = 1  # DF is clear, as the ABI demands (VEX: the step of string instructions)
        state.regs.rip = self._text.vaddr + self.host.functions[function]

    # Where it is.

    def place(self, state: State) -> str:
        """Source file and line of the next instruction, or of the call that led out of the code."""
        offset = self._offset(state)
        return self.host.source_of(offset) or f"{offset:#x}"

    def address(self, state: State) -> int:
        """Offset in .text of the next instruction, or of the call that led out of the code."""
        address = self._address(state)
        if address not in self._platform:
            return address - int(self._text.vaddr)
        offset = self._offset(state) - (_CALL_SIZE - 1)
        if self._project.loader.memory.load(offset + self._text.vaddr, 1) != _CALL:
            raise self.refuse(state, "a call of the platform that is no near CALL")
        return offset

    def refuse(self, state: State, what: str) -> Refusal:
        """To be raised: `what` is not understood at the next instruction."""
        return Refusal(f"{self.host.name} at {self._offset(state):#x} ({self.place(state)})", what)

    def _offset(self, state: State) -> int:
        """Of the next instruction in .text; outside of it, of the last byte of the call."""
        address = self._address(state)
        if not self._text.vaddr <= address < self._text.vaddr + self._text.memsize:
            stack = self.only_value(state, state.regs.rsp)
            back = None if stack is None else self.only_value(state, self.read(state, stack, 8))
            address = address if back is None else back - 1
        return address - int(self._text.vaddr)

    # What holds.

    def feasible(self, state: State, *conditions: Bool) -> bool:
        """Can the state's path be taken with these conditions?"""
        wanted = (*state.solver.constraints, *conditions)
        if any(c.is_false() for c in wanted):
            return False
        terms = [to_z3(c) for c in wanted if not c.is_true()]
        if not terms:
            return True
        answer = solver.check(solver.quick(terms, _RLIMIT))
        if answer == z3.unknown:
            raise self.refuse(state, "z3 cannot tell whether this path exists")
        return bool(answer == z3.sat)

    def certain(self, state: State, condition: Bool) -> bool:
        """Does the condition hold wherever this path is taken?"""
        return not self.feasible(state, claripy.Not(condition))

    def only_value(self, state: State, value: BV) -> int | None:
        """The value, if it is the same for all inputs of this path."""
        if value.concrete:
            return int(value.concrete_value)
        key = (value.hash(), frozenset(c.hash() for c in state.solver.constraints))
        if key not in self._values:
            self._values[key] = self._find_value(state, value)
        return self._values[key]

    def _find_value(self, state: State, value: BV) -> int | None:
        ask = solver.quick([to_z3(c) for c in state.solver.constraints], _RLIMIT)
        if solver.check(ask) != z3.sat:
            raise self.refuse(state, "z3 finds no input for this path")
        found: int = ask.model().eval(to_z3(value), model_completion=True).as_long()
        certain = self.certain(state, value == claripy.BVV(found, width(value)))
        return found if certain else None

    # Memory and registers.

    def read(self, state: State, address: int, size: int) -> BV:
        """`size` bytes of private memory, as a number."""
        value = state.memory.load(address, size, endness="Iend_LE", inspect=False)
        assert isinstance(value, BV)
        return value

    def write(self, state: State, address: int, size: int, value: int | BV) -> None:
        """Write a number of `size` bytes to private memory."""
        bits = claripy.BVV(value, size * 8) if isinstance(value, int) else value
        state.memory.store(address, bits, endness="Iend_LE", inspect=False)

    def give_back(self, state: State, value: BV | None) -> None:
        """Return from the function that the state is about to enter: the platform's, or a cut.

        The ABI's scratch registers then hold anything; RAX `value`, if there is one.
        """
        forget(state, _CALLER_SAVED)
        if value is not None:
            used = width(value)
            upper = [state.regs.rax[63:used]] if used < 64 else []
            state.regs.rax = claripy.Concat(*upper, value) if upper else value
        stack = self.only_value(state, state.regs.rsp)
        assert stack is not None  # calls have been executed on it
        state.regs.rip = self.read(state, stack, 8)
        state.regs.rsp = stack + 8

    # Running it.

    def run(self, state: State) -> list[Stop]:
        """The next stops, one for each path that private decisions lead to."""
        stops, waiting = [], [(state, 0)]
        while waiting:
            state, steps = waiting.pop()
            if steps > _STEPS:
                raise self.refuse(state, f"no stop within {_STEPS} instructions")
            stop = self.stop(state)
            if stop is not None:
                stops.append(stop)
            else:
                count = self._stretch(state)
                waiting += [(after, steps + count) for after in self.execute(state, count)]
        return stops

    def stop(self, state: State) -> Stop | None:
        """What stops the run before the next instruction, if anything does."""
        address = self._address(state)
        if address == RETURNED:
            return Stop(state, "return")
        if address in self._platform:
            return Stop(state, "call", self._platform[address])
        if address in self._cuts:
            return Stop(state, "cut", self._cuts[address])
        instruction = self._instruction(state, address)
        accesses = self._accesses(state, instruction)
        for why, is_so in (
            ("fence", instructions.is_fence),
            ("string", instructions.is_string),
            ("locked", instructions.is_locked),
        ):
            if is_so(instruction):
                return Stop(state, why, instructions.name(instruction), instruction, accesses)
        if any(not isinstance(a.address, int) or self._is_watched(a) for a in accesses):
            return Stop(state, "access", instructions.name(instruction), instruction, accesses)
        return None

    def execute(self, state: State, count: int = 1) -> list[State]:
        """The states after the next `count` instructions, whatever they are, on every path."""
        successors = self._project.factory.successors(state, num_inst=count)
        if successors.unconstrained_successors:
            raise self.refuse(state, "a jump to an address that is not known")
        after = successors.flat_successors
        if len(after) > 1:
            after = [s for s in after if self.feasible(s)]
        for one in after:
            if one.history.jumpkind not in ("Ijk_Boring", "Ijk_Call", "Ijk_Ret"):
                raise self.refuse(state, f"control goes on by {one.history.jumpkind}")
        if not after:
            raise self.refuse(state, "no way on was found")
        conditions = list(state.solver.constraints)
        if len(after) == 1 and len(after[0].solver.constraints) != len(conditions):
            # All that angr has added follows from what was there: there is no other way.
            after[0].solver.reload_solver(conditions)
        return list(after)

    def live(self, state: State) -> frozenset[str]:
        """The registers whose content may still matter.

        Before a call of the platform these are its arguments, as the ABI says, and what the ABI
        preserves; `give_back` forgets the others.
        """
        address = self._address(state)
        if address in self._platform:
            return frozenset((*ARGUMENTS[:PLATFORM_ARGUMENTS], *CALLEE_SAVED, "rsp"))
        if not self._live:
            self._live = live_registers(self._project, self._all_instructions())
        return self._live.get(address, ALL)

    def _all_instructions(self) -> list[int]:
        """Addresses of the code's instructions. Padding is decoded as well, and does no harm."""
        addresses, address = [], self._text.vaddr
        while address < self._text.vaddr + self._text.memsize:
            addresses.append(address)
            instruction = instructions.decode(
                self._project.loader.memory.load(address, 15), address
            )
            address += instruction.size if instruction else 1
        return addresses

    def skip(self, state: State, instruction: CsInsn) -> None:
        """Go on behind the next instruction, which the caller has done."""
        state.regs.rip = instruction.address + instruction.size

    def _stretch(self, state: State) -> int:
        """How many instructions can be executed at once: those behind the next one that touch no
        memory but the stack, up to a jump.
        """
        count, instruction = 1, self._instruction(state, self._address(state))
        while not instructions.leaves(instruction):
            following = instruction.address + instruction.size
            if following >= self._text.vaddr + self._text.memsize:
                break
            instruction = self._instruction(state, following)
            if following in self._cuts or not instructions.is_private(instruction):
                break
            count += 1
        return count

    def _address(self, state: State) -> int:
        address = self.only_value(state, state.regs.rip)
        if address is None:
            raise Refusal(self.host.name, "the instruction pointer has more than one value")
        return address

    def _instruction(self, state: State, address: int) -> CsInsn:
        if address not in self._decoded:
            if not self._text.vaddr <= address < self._text.vaddr + self._text.memsize:
                raise self.refuse(state, f"executes {address:#x}, outside of its code")
            code = self._project.loader.memory.load(address, 15)
            instruction = instructions.decode(code, address)
            if instruction is None:
                raise self.refuse(state, "bytes that are no instruction")
            if (what := instructions.problem(instruction)) is not None:
                raise self.refuse(state, what)
            self._decoded[address] = instruction
        return self._decoded[address]

    def _accesses(self, state: State, instruction: CsInsn) -> tuple[Access, ...]:
        found = []
        for operand in instructions.memory_operands(instruction):
            address = self._effective_address(state, instruction, operand)
            known = self.only_value(state, address)
            stored = instructions.is_store(instruction, operand)
            found.append(Access(address if known is None else known, operand.size, stored))
        return tuple(found)

    def _effective_address(self, state: State, instruction: CsInsn, operand: Any) -> BV:
        """SDM vol. 1 3.7.5: base + index * scale + displacement."""
        memory = operand.mem
        address = claripy.BVV(memory.disp, 64)
        for register, scale in ((memory.base, 1), (memory.index, memory.scale)):
            if register:
                name = instruction.reg_name(register)
                value = state.regs.get(name)
                if name == "rip":
                    value = claripy.BVV(instruction.address + instruction.size, 64)
                if value.length != 64:
                    raise self.refuse(state, "an address of less than 64 bits")
                address = address + value * scale
        return address

    def _is_watched(self, access: Access) -> bool:
        assert isinstance(access.address, int)
        return any(
            access.address < start + size and start < access.address + access.size
            for start, size in self.watched
        )


def width(value: BV) -> int:
    """Of a value, in bits."""
    assert value.length is not None
    return value.length


def to_z3(term: BV | Bool) -> Any:
    """The z3 term of an angr term, with the same symbols."""
    return claripy.backends.z3.convert(term)


def forget(state: State, registers: Iterable[str]) -> None:
    """The registers, and the flags, hold anything."""
    for register in registers:
        setattr(state.regs, register, claripy.BVS(f"{register}{UNKNOWN}", 64))
    state.regs.cc_op = 0  # VEX: cc_dep1 holds the flags
    state.regs.cc_dep1 = claripy.BVS(f"flags{UNKNOWN}", 64)
    state.regs.cc_dep2 = state.regs.cc_ndep = 0


def _record_write(state: State) -> None:
    """Note which bytes a path has written. eval_one raises where there is more than one value."""
    address = state.solver.eval_one(state.inspect.mem_write_address)
    length = state.solver.eval_one(state.inspect.mem_write_length)
    state.globals["written"] |= frozenset(range(address, address + length))
