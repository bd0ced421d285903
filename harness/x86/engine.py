# SPDX-License-Identifier: GPL-2.0-only
"""The angr engine: one state from SIPI through all modes to the end of each path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import z3
from angr.engines.successors import SimSuccessors, SuccessorsEngine

from harness.x86.cpu import Cpu
from harness.x86.errors import Unsupported
from harness.x86.lift import Instruction, fixed_parts
from harness.x86.loops import execute_plain, summarise
from harness.x86.machine import Machine
from harness.x86.memory import overlap
from harness.x86.path import Environment, PathOver, Undecided
from harness.x86.pcode import Jump
from harness.x86.registers import Registers
from harness.x86.run import EndKind
from harness.x86.strings import repeat
from harness.x86.system import handler
from harness.x86.terms import const, low, number, simplify
from harness.x86.transfer import go_to
from harness.x86.waits import ends_round
from models.descriptors import fetch_faults
from models.modes import Mode
from models.paging import Access as Kind

MAX_TURNS = 128  # of a loop that is not summarised
MAX_OPEN_TURNS = 8  # of one whose condition is not constant
STACK = {"PUSH": "store", "CALL": "store", "POP": "load", "RET": "load", "RETF": "load"}
"""Instructions that use the stack, and which of their accesses do: others are operands."""
FAR_JUMP = "JMPF"
MAX_INSTRUCTIONS = 5_000  # on one path; a longer one is refused, not cut off


class TrampolineEngine(SuccessorsEngine):
    """Runs until the path forks or ends. Both ways of a fork are angr successors.

    angr's solver, memory and p-code emulator are not used: their default strategies narrow a path
    silently when an address is symbolic, and their p-code has no mode switches.
    """

    environment: Environment

    def process_successors(self, successors: SimSuccessors, **kwargs: Any) -> None:
        """Execute instructions of the state's CPU until more than one way goes on, or none."""
        successors.sort = "trampoline"
        successors.processed = True
        cpu: Cpu = self.state.get_plugin("cpu")
        ways: list[Cpu] = [cpu]
        while len(ways) == 1:
            ways = step(self.environment, ways[0])
        for way in ways:
            state = self.state.copy()
            state.register_plugin("cpu", way)
            state.regs._ip = way.pc
            successors.all_successors.append(state)
            successors.successors.append(state)
            successors.flat_successors.append(state)


def step(environment: Environment, cpu: Cpu) -> list[Cpu]:
    """Execute one instruction. The CPUs that go on: none, one, or two after a branch.

    Two as well where it depends on the inputs what the instruction does: both stand before it.
    """
    before, ends = cpu.copy({}), len(environment.ends)
    machine = Machine(environment, cpu)
    try:
        if cpu.pc == environment.stop and cpu.in_place and cpu.mode is Mode.LONG64:
            machine.end(EndKind.HAND_OFF, "", rip=cpu.at(cpu.pc))
            return []
        cpu.instructions += 1
        if cpu.instructions > MAX_INSTRUCTIONS:
            raise machine.refuse(f"more than {MAX_INSTRUCTIONS} instructions on one path")
        if (came := ends_round(machine, before)) is not None:
            machine.end(came.kind, "", round=came.accesses)
            return []
        instruction = fetch(machine)
        was_real = cpu.trace[-1:] != () and cpu.trace[-1][1] == Mode.REAL16.name
        cpu.trace = (*cpu.trace, (instruction.offset, cpu.mode.name))
        cpu.note()
        environment.covered.add(instruction.offset)
        if was_real and cpu.mode is not Mode.REAL16 and instruction.mnemonic != FAR_JUMP:
            raise machine.refuse(
                f"`{instruction}` between setting CR0.PE and the far jump (SDM 3A 9.9.1)"
            )
        return _execute(machine, instruction)
    except PathOver:
        return []
    except Unsupported as refusal:
        machine.end(EndKind.UNSUPPORTED, str(refusal))
        return []
    except Undecided as undecided:
        del environment.ends[ends:]
        return list(_fork(environment, before, undecided.condition))
    except ValueError as error:  # no such mode
        machine.end(EndKind.UNSUPPORTED, str(machine.refuse(str(error))))
        return []


def _fork(environment: Environment, cpu: Cpu, condition: z3.BoolRef) -> Iterator[Cpu]:
    """The CPU on two paths: with inputs for which the condition holds, and with the others."""
    for decided in (condition, z3.Not(condition)):
        way = cpu.copy({})
        Machine(environment, way).assume(decided)
        yield way


def fetch(machine: Machine) -> Instruction:
    """The instruction at CS:IP. Its bytes must be those of the image, whatever was written."""
    cpu, environment = machine.cpu, machine.environment
    image = environment.image
    if not 0 <= cpu.pc < len(image.data):
        raise machine.refuse("execution runs out of the image")
    instruction = environment.decode(cpu.pc, cpu.mode.bits)
    linear = cpu.at(cpu.pc)
    if cpu.in_place:
        _check_bytes(machine, instruction)
    else:
        _check_copy(machine, instruction, linear)
    cs = cpu.segments["cs"]
    if cpu.mode is not Mode.LONG64 and number(cs.limit) != 0xFFFF_FFFF:
        offset = low(simplify(linear - cs.base), 32)
        machine.fault_if(fetch_faults(cs, offset, instruction.length), "#GP: EIP is outside CS")
    if cpu.paging and (cpu.identity_slots is None or not cpu.in_place):
        machine.translate(linear, instruction.length, Kind.FETCH)
    return instruction


def _check_bytes(machine: Machine, instruction: Instruction) -> None:
    """The instruction in the image is as it was assembled."""
    environment, image = machine.environment, machine.environment.image
    words = [range(at, at + word.size() // 8) for at, word in image.words.items()]
    span = [offset for part in fixed_parts(instruction) for offset in part]
    if any(offset in image.unknown for offset in span) or any(
        offset in word for word in (*environment.shared, *words) for offset in span
    ):
        raise machine.refuse("execution of bytes whose content at entry is unknown")
    if overwritten := _overwritten(machine, instruction):
        machine.end_if(
            z3.Or(*overwritten),
            EndKind.OVERWRITTEN,
            f"`{instruction}` may have been overwritten",
        )


def _check_copy(machine: Machine, instruction: Instruction, linear: z3.BitVecRef) -> None:
    """The instruction in a copy of the image is as it was assembled: what memory holds now."""
    copied = [part for _, part in machine.environment.copies if instruction.offset in part]
    if not copied or instruction.end > copied[0].stop:
        raise machine.refuse("execution runs out of the copy of the image's code")
    data = machine.environment.image.data[instruction.offset : instruction.end]
    wanted = const(int.from_bytes(data, "little"), 8 * len(data))
    found = machine.cpu.memory.read(linear, instruction.length, machine.possible)
    machine.end_if(
        simplify(found != wanted),
        EndKind.OVERWRITTEN,
        f"`{instruction}` in the copy may not be what was assembled",
    )


def _overwritten(machine: Machine, instruction: Instruction) -> list[z3.BoolRef]:
    """When each of the earlier writes may have changed the instruction."""
    at = machine.environment.base.at
    return [
        overlap(record, at(span.start), len(span))
        for record in machine.cpu.hazards
        for span in fixed_parts(instruction)
        if machine.may_hit(record, span)
    ]


def _execute(machine: Machine, instruction: Instruction) -> list[Cpu]:
    cpu = machine.cpu
    machine.stack_access = STACK.get(instruction.mnemonic, "")
    if instruction.mnemonic.endswith((".REP", ".REPE", ".REPNE")):
        repeat(machine, instruction)
        return [cpu]
    if (system := handler(instruction)) is not None:
        system(machine, instruction)
        return [cpu]
    if cpu.mode in (Mode.PROTECTED16, Mode.COMPATIBILITY16) and _jumps_or_pushes(instruction):
        raise machine.refuse(f"`{instruction}` in 16-bit code outside of real-address mode")
    if 0xF0 in instruction.prefixes:
        raise machine.refuse(f"`{instruction}` with a lock prefix")
    jump = execute_plain(machine, instruction, machine)
    if jump is None:
        cpu.pc = instruction.end
        return [cpu]
    return _jump(machine, instruction, jump)


def _jumps_or_pushes(instruction: Instruction) -> bool:
    """It cuts the instruction pointer to 16 bits, or uses SP or ESP as SS.B says: p-code does not
    tell (SDM 2, JMP, PUSH)."""
    name = instruction.mnemonic
    return name in STACK or name.startswith(("J", "PUSH", "POP", "ENTER", "LEAVE", "LOOP"))


def _jump(machine: Machine, instruction: Instruction, jump: Jump) -> list[Cpu]:
    cpu = machine.cpu
    if not isinstance(jump.target, int):
        offset = simplify(jump.target)
        go_to(machine, simplify(z3.ZeroExt(64 - offset.size(), offset)))
        return [cpu]
    if jump.condition is None:
        if jump.target == instruction.offset:
            machine.end(EndKind.SPINNING, "")
            return []
        _check_turns(machine, instruction, jump.target, z3.BoolVal(True))
        cpu.pc = jump.target
        return [cpu]
    taken = simplify(jump.condition != 0)
    _check_turns(machine, instruction, jump.target, taken)
    ways = []
    for condition, target in ((taken, jump.target), (z3.Not(taken), instruction.end)):
        if machine.possible(condition, likely=True):
            way = cpu.copy({})
            Machine(machine.environment, way).assume(condition)
            way.pc = target
            ways.append(way)
    if len(ways) == 1 and ways[0].pc <= instruction.offset:
        _try_to_summarise(Machine(machine.environment, ways[0]), instruction)
    return ways


def _check_turns(machine: Machine, back: Instruction, target: int, taken: z3.BoolRef) -> None:
    """A loop that is not summarised is followed for some turns, not for ever."""
    if target > back.offset:
        return
    constant = z3.is_true(taken) or z3.is_false(taken)
    limit = MAX_TURNS if constant else MAX_OPEN_TURNS
    if sum(offset == back.offset for offset, _ in machine.cpu.trace) > limit:
        raise machine.refuse(f"more than {limit} turns of a loop that cannot be summarised")


def _try_to_summarise(machine: Machine, back: Instruction) -> None:
    """The branch goes back for sure: if it closes a counted loop, leave only the last iteration."""
    cpu = machine.cpu
    body, offset = [], cpu.pc
    while offset <= back.offset:
        instruction = machine.environment.decode(offset, cpu.mode.bits)
        if handler(instruction) is not None or ".REP" in instruction.mnemonic:
            return
        body.append(instruction)
        offset = instruction.end
    if body[-1] != back:
        return

    def continues(registers: Registers, jump: Jump | None) -> z3.BoolRef:
        if jump is None or jump.condition is None or jump.target != cpu.pc:
            return z3.BoolVal(False)
        return simplify(jump.condition != 0)

    summarise(machine, body, continues)
