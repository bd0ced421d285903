# SPDX-License-Identifier: GPL-2.0-only
"""One instruction from one state on QEMU's CPU: each time a SIPI, a loader, and a halt behind it.

The registers before and after the instruction are those that QEMU logs (qemu_log.py); those before
must be the state's, as far as the mode shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property

from harness.lockstep import loader
from harness.lockstep.alone import ElsewhereError, features_of, predicted
from harness.lockstep.draw import DRAWN_FLAGS
from harness.lockstep.emulated import Emulation
from harness.lockstep.forbidden import written
from harness.lockstep.qemu import watched
from harness.lockstep.qemu_log import read
from harness.lockstep.state import (
    BASE,
    CODE,
    LONG_MODES,
    SIZE,
    TABLES,
    After,
    State,
    control,
    descriptor,
    fields,
    in_order,
)
from harness.lockstep.unicorn_cpu import HIDDEN, PHYS_BITS, SELECTORS
from harness.qemu.entry64 import identity_tables
from harness.qemu.job import Job, OutcomeKind
from harness.qemu.machine import Machine, Patience
from harness.qemu.vm import QemuFailed
from harness.x86.lift import Instruction, lift
from models.cpuid import Features
from models.modes import CR0_PG, GENERAL_REGISTERS, Mode

HALT = bytes((0xF4, 0xEB, 0xFD))
"""HLT, and back to it if something wakes the CPU, as the second SIPI does that comes late. In all
modes."""
AGAIN = 3
"""Times to look whether an instruction halts: a late SIPI lets the CPU go on. And to look at all:
on a machine with much to do the CPU may come too late."""
STUCK = 20
"""Turns of an instruction that change nothing, after which it will never end. QEMU may begin one
twice. Of one that never ends some hundred are seen, no more than one each time QEMU is asked how
its CPU does; if it is asked less often, many thousand."""
PAGE_FAULT = 14
CPUID = bytes((0x0F, 0xA2))
PATIENCE = Patience(halted=0.0005)
NO_HALT = "no halt can be where the instruction leads"
BRANCHES = ("J", "CALL", "RET")
"""How names of instructions begin that go elsewhere."""


@contextmanager
def beside_qemu() -> Iterator[BesideQemu]:
    """A QEMU of its own. Raises QemuMissing, QemuFailed, AssemblerMissing."""
    with Machine(PHYS_BITS, patience=PATIENCE, logs=loader.elsewhere()) as machine:
        yield BesideQemu(machine)


class BesideQemu:
    """QEMU's CPU, put into one state after the other."""

    def __init__(self, machine: Machine) -> None:
        """`machine`: a running one that logs what a state's memory holds."""
        self._machine = machine

    @cached_property
    def features(self) -> Features:
        """What CPUID tells of the CPU."""
        found = {}
        for leaf in (0, 1, 7, 0x8000_0000, 0x8000_0001, 0x8000_0008):
            state = _asking(leaf)
            instruction = lift(CPUID, CODE, state.mode.bits)
            found[leaf] = self.run(
                self.prepared(state, instruction), instruction, After()
            ).registers
        return features_of(found)

    def prepared(self, state: State, instruction: Instruction) -> State:
        """The same with a loader in memory, and a halt where the instruction leads.

        Raises ElsewhereError if there can be none.
        """
        memory = bytearray(state.memory)
        behind = CODE + instruction.length
        memory[behind : behind + len(HALT)] = HALT
        loader.put(memory, state)
        made = replace(state, memory=bytes(memory))
        if instruction.mnemonic.startswith(BRANCHES):
            target = predicted(made, self.features).linear
            if target is not None:
                places = range(target - BASE, target - BASE + len(HALT))
                itself = range(CODE, behind)
                if any(at not in range(SIZE) or at in itself or loader.owns(at) for at in places):
                    raise ElsewhereError(NO_HALT)
                memory[places.start : places.stop] = HALT
                made = replace(state, memory=bytes(memory))
        return made

    def run(self, state: State, instruction: Instruction, ours: After) -> After:
        """What the instruction does. `ours`: what the machine says of it.

        Raises ElsewhereError if the CPU would not halt behind it, QemuFailed.
        """
        if ours.linear is not None and ours.fault is None:
            at = ours.linear - BASE
            if at < 0 or state.memory[at : at + len(HALT)] != HALT:
                raise ElsewhereError(NO_HALT)
        job = Job(
            image=state.memory,
            base=BASE,
            kernel=0,
            boot_params=None,
            place_payload=False,
            before=((TABLES, _tables()),) if state.mode in LONG_MODES else (),
        )
        seen = None
        for _ in range(AGAIN):
            seen = self._seen(job, state, instruction) or seen
            if seen is not None and (seen.parked or not ours.parked):
                break
        if seen is None:
            raise QemuFailed(f"QEMU's CPU does not come to `{instruction}`, {AGAIN} times.")
        return seen

    def _seen(self, job: Job, state: State, instruction: Instruction) -> After | None:
        """None if the CPU was not waited for: it did not come to the instruction."""
        outcome, log = watched(self._machine, job, f"at `{instruction}`")
        behind = BASE + CODE + instruction.length
        parked = outcome.kind is OutcomeKind.PARKED and outcome.stopped_at == behind
        return _after(state, read(log), parked)


def _after(state: State, seen: Emulation, parked: bool) -> After | None:
    """What was there when the instruction was done, or had faulted; None if the CPU did not come to
    it. `parked`: in the end the CPU stood halted behind it, because of the instruction or of the
    halt there."""
    here = (n for n, step in enumerate(seen.steps) if step.address == BASE + CODE)
    number = next(here, None)
    if number is None:
        return None
    before, later = seen.steps[number], seen.steps[number + 1 :]
    _check(state, before.registers)
    if later:
        writes = seen.writes[before.writes : later[0].writes]
        return After(later[0].registers, in_order(writes, state.memory), later[0].address)
    after = seen.last
    assert after is not None
    writes = seen.writes[before.writes : after.writes]
    kept = in_order(writes, state.memory)
    if after.address != BASE + CODE:  # the next instruction could not be fetched
        return After(after.registers, kept, after.address)
    registers, fault = after.registers, seen.fault
    if fault == PAGE_FAULT and not state.cr0 & CR0_PG:
        # Of the next instruction's fetch, which real mode does not log: with a page fault (SDM 3A
        # 4.7) paging was turned on, by what was written into CR0.
        fault, registers = None, {**registers, "cr0": written(state)}
    if fault is not None:
        return After(registers, kept, after.address, fault=fault)
    if seen.in_vain >= STUCK:
        return After(registers, kept, after.address, stuck=True, detail="it never ends")
    end = "" if parked else "where it leads is not watched"
    return After(registers, kept, after.address, parked, detail=end)


def _check(state: State, found: Mapping[str, int]) -> None:
    """The CPU must have been put into the state."""
    wide = state.mode is Mode.LONG64
    names = GENERAL_REGISTERS if wide else GENERAL_REGISTERS[:8]
    wanted = {one: state.registers[one] for one in names}
    wanted |= {one: getattr(state, one) for one in ("cr0", "cr3", "cr4", "efer")}
    for one, parts in state.segments.items():
        wanted[one] = parts["selector"]
        wanted |= {f"{one}_{field}": parts[field] for field in ("base", "limit", *HIDDEN)}
    for one in ("gdtr", "idtr"):
        wanted[f"{one}_base"], wanted[f"{one}_limit"] = getattr(state, one)
    wanted["rflags"] = state.rflags & DRAWN_FLAGS
    shown = {**found, "rflags": found["rflags"] & DRAWN_FLAGS}
    for one, value in wanted.items():
        if shown[one] != value:
            raise QemuFailed(
                f"QEMU's CPU could not be put into a state of {state.mode.value}: {one} is "
                f"{shown[one]:#x}, not {value:#x}."
            )


@cache
def _tables() -> bytes:
    return identity_tables(TABLES, 4, PHYS_BITS)


def _asking(leaf: int) -> State:
    """A state in which CPUID is asked for a leaf."""
    memory = bytearray(SIZE)
    memory[CODE : CODE + len(CPUID)] = CPUID
    code = descriptor(0, 0xFFFFF, 0x9B, big=1, pages=1)
    data = descriptor(0, 0xFFFFF, 0x93, big=1, pages=1)
    segments = {name: fields(0x10, data) for name in SELECTORS} | {"cs": fields(0x8, code)}
    registers = dict.fromkeys(GENERAL_REGISTERS, 0) | {"rax": leaf}
    cr0, cr3, cr4, efer = control(Mode.PROTECTED32)
    return State(Mode.PROTECTED32, bytes(memory), registers, 2, segments, cr0, cr3, cr4, efer)
