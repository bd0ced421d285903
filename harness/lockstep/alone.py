# SPDX-License-Identifier: GPL-2.0-only
"""One instruction from one state on the symbolic machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import z3

from harness.lockstep import unicorn_cpu
from harness.lockstep.state import BASE, CODE, LONG_MODES, SIZE, TABLES, After, State
from harness.replay.predict import differs
from harness.solve.evaluate import compile_term
from harness.x86.cpu import Cpu, TablePointer
from harness.x86.engine import step
from harness.x86.memory import EntryImage, Memory
from harness.x86.path import Environment
from harness.x86.promise import HostTables
from harness.x86.prover import Prover
from harness.x86.registers import FLAGS, Registers, force
from harness.x86.run import EndKind
from harness.x86.terms import Base, const, index_symbol, low, simplify, variables
from models.cpuid import Features
from models.descriptors import Segment
from models.modes import (
    CR4_LA57,
    CR4_MODELLED,
    EFER_NXE,
    EFER_SCE,
    GENERAL_REGISTERS,
    Control,
    Mode,
)


class ElsewhereError(ValueError):
    """What the CPU beside cannot be given: memory that a state does not have, a feature; str() says
    what."""


BASE_TERM = Base(BASE, BASE)


def features_of(leaves: Mapping[int, Mapping[str, int]]) -> Features:
    """What CPUID tells of a CPU. `leaves`: RAX to RDX as it leaves them, by leaf."""
    return Features(
        maxphyaddr=const(leaves[0x8000_0008]["rax"] & 0xFF),
        pae=z3.BoolVal(bool(leaves[1]["rdx"] >> 6 & 1)),
        long_mode=z3.BoolVal(bool(leaves[0x8000_0001]["rdx"] >> 29 & 1)),
        gib_pages=z3.BoolVal(bool(leaves[0x8000_0001]["rdx"] >> 26 & 1)),
        no_execute=z3.BoolVal(bool(leaves[0x8000_0001]["rdx"] >> 20 & 1)),
        five_level=z3.BoolVal(bool(leaves[7]["rcx"] >> 16 & 1)),
        max_basic=const(leaves[0]["rax"], 32),
        max_extended=const(leaves[0x8000_0000]["rax"], 32),
        apic_id=const(leaves[1]["rbx"] >> 24, 8),
    )


def predicted(state: State, features: Features) -> After:
    """What the symbolic machine says of the instruction, run on this one state.

    Raises ElsewhereError.
    """
    memory = Memory(BASE_TERM, EntryImage(state.memory, frozenset(), {}))
    tables = HostTables(
        "page tables of the comparison",
        const(TABLES),
        z3.BoolVal(bool(state.cr4 & CR4_LA57)),
        z3.BoolVal(bool(state.efer & EFER_NXE)),
        features.gib_pages,
        features.maxphyaddr,
        memory,
        ((const(0), const(1 << unicorn_cpu.PHYS_BITS)),),
        ((const(BASE), const(SIZE)),),
    )
    paged = state.mode in LONG_MODES
    environment = Environment(
        base=BASE_TERM,
        image=memory.image,
        tables=range(0),
        prover=Prover([]),
        features=features,
        upper_halves_zero=False,
        known=(),
        shared=(),
        supported={"cr4": const(CR4_MODELLED), "efer": const(EFER_SCE)},
        host_tables=(tables,) if paged else (),
    )
    before = _cpu(state, memory)
    cpu = before.copy({})
    if paged:
        cpu.host_tables, cpu.identity_slots, cpu.proved_in = tables, (), memory
    ways = step(environment, cpu)
    if environment.ends:
        (end,) = environment.ends
        if end.kind is EndKind.UNSUPPORTED:
            return After(refused=end.detail.partition(": ")[2] or end.detail)
        if end.kind is EndKind.SHUTDOWN:
            return After(fault=0, detail=end.detail)
        if end.kind is EndKind.PARKED:
            return After(_registers(before, state, cpu), parked=True)
        if end.kind not in (EndKind.HAND_OFF, EndKind.SPINNING):
            return After(refused=end.kind.value)
        linear = _value(end.state.rip)
    else:
        (cpu,) = ways
        linear = _value(simplify(cpu.at(cpu.pc)))
    writes = tuple(_writes(cpu))
    return After(_registers(before, state, cpu), writes, linear)


def _cpu(state: State, memory: Memory) -> Cpu:
    flags = {name: const(state.rflags >> bit & 1, 8) for name, bit in FLAGS.items()}
    registers = {name: z3.BitVecVal(state.registers[name], 64) for name in GENERAL_REGISTERS}
    cpu = Cpu(
        Registers(registers, dict(flags)),
        {name: _segment(tuple(one.items())) for name, one in state.segments.items()},
        Control(*(const(value) for value in (state.cr0, state.cr3, state.cr4, state.efer))),
        TablePointer(const(state.gdtr[0]), const(state.gdtr[1], 16)),
        TablePointer(const(state.idtr[0]), const(state.idtr[1], 16)),
        memory,
    )
    cpu.mode, cpu.pc, cpu.paging = state.mode, CODE, state.mode in LONG_MODES
    return cpu


@lru_cache(maxsize=4096)
def _segment(parts: tuple[tuple[str, int], ...]) -> Segment:
    one = dict(parts)
    return Segment(
        selector=const(one["selector"], 16),
        base=const(one["base"]),
        limit=const(one["limit"], 32),
        type=const(one["type"], 4),
        s=z3.BoolVal(bool(one["s"])),
        dpl=const(one["dpl"], 2),
        present=z3.BoolVal(bool(one["present"])),
        long=z3.BoolVal(bool(one["long"])),
        big=z3.BoolVal(bool(one["big"])),
        null=z3.BoolVal(False),
    )


def _value(term: z3.ExprRef) -> int | None:
    """The value of a term; None where it is open."""
    if z3.is_bv_value(term):
        return int(term.as_long())
    term = simplify(term)
    if z3.is_bv_value(term):
        return int(term.as_long())
    if z3.is_true(term) or z3.is_false(term):
        return int(z3.is_true(term))
    if any(map(differs, variables(term))):
        return None
    return compile_term(term)({}, _untouched)


def _untouched(address: int) -> int:
    raise ElsewhereError(f"memory at {address:#x}")


def _registers(before: Cpu, state: State, cpu: Cpu) -> dict[str, int]:
    """What is known of registers: in 64-bit code all of them, else lower halves of the first 8.

    What the instruction did not write is taken from the state, not read once more.
    """
    wide = cpu.mode is Mode.LONG64 and state.mode is Mode.LONG64
    mask = (1 << (64 if wide else 32)) - 1
    found: dict[str, int | None] = {}
    for name in GENERAL_REGISTERS if cpu.mode is Mode.LONG64 else GENERAL_REGISTERS[:8]:
        term = cpu.registers.values[name]
        same = term is before.registers.values[name]
        value = state.registers[name] & mask if same else _value(term if wide else low(term, 32))
        found[name if wide else f"lower half of {name}"] = value
    for name, flag in cpu.registers.flags.items():
        same = flag is before.registers.flags[name]
        found[name] = state.rflags >> FLAGS[name] & 1 if same else _value(force(flag))
    for name, segment in cpu.segments.items():
        if segment is before.segments[name]:
            fields = state.segments[name]
            found[name] = fields["selector"]
            found |= {f"{name}_{part}": v for part, v in fields.items() if part != "selector"}
            continue
        found[name] = _value(segment.selector)
        if not _value(segment.null):
            for part in ("base", "limit", *unicorn_cpu.HIDDEN):
                found[f"{name}_{part}"] = _value(getattr(segment, part))
    for name, term in vars(cpu.control).items():
        same = term is getattr(before.control, name)
        found[name] = getattr(state, name) if same else _value(term)
    for name in ("gdtr", "idtr"):
        pointer, (base, limit) = getattr(cpu, name), getattr(state, name)
        same = pointer is getattr(before, name)
        found[f"{name}_base"] = base if same else _value(pointer.base)
        found[f"{name}_limit"] = limit if same else _value(pointer.limit)
    return {name: value for name, value in found.items() if value is not None}


def _writes(cpu: Cpu) -> list[tuple[int, int, int]]:
    """What it wrote, in order; accessed flags of descriptors are left out."""
    found = []
    for access in cpu.accesses:
        if access.kind not in ("store", "locked"):
            continue
        first, value = _value(access.linear), access.value
        if access.kind == "locked":  # what is written depends on what was found
            value = cpu.memory.records[access.records].value
        for index in range(access.count):
            content = _value(z3.substitute(value, (index_symbol, const(index))))
            if first is None or content is None:
                raise ElsewhereError("a write that is open")
            found.append((first + index * access.stride, access.size, content))
    return found
