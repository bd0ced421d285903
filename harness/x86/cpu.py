# SPDX-License-Identifier: GPL-2.0-only
"""The state that angr carries from instruction to instruction: one CPU and the memory it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import z3
from angr.state_plugins.plugin import SimStatePlugin

from harness.x86.memory import EntryImage, Memory, Pages, Record
from harness.x86.promise import HostTables
from harness.x86.registers import FLAGS, GENERAL, Lazy, Registers, Value
from harness.x86.run import Access, Before, FinalState, TableLoad
from harness.x86.terms import Base, const, simplify
from models.descriptors import Segment
from models.hand_over import HandOver
from models.mode_switches import Way
from models.modes import (
    CR0_CD,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    EFER_LMA,
    Control,
    Mode,
    forget_registers,
    init_sipi,
    mode,
)


@dataclass(frozen=True)
class TablePointer:
    """GDTR or IDTR: linear base (64 bits), limit (16 bits, last valid offset).

    `halved`: long mode was left since it was loaded. Outside of it the base has 32 bits, and the
    manual does not say what the others are afterwards.
    """

    base: z3.BitVecRef
    limit: z3.BitVecRef
    halved: bool = False


class Cpu(SimStatePlugin):
    """Registers, hidden segment state, control registers, memory, and the way that led here.

    `pc` is the image offset of the next instruction. It is executed where the image lies, or in a
    copy of that part: `origin` is the linear address (64 bits) of image offset 0 as seen from
    there, so that CS.base + IP = origin + pc always holds. `entry`: index of the entry. `found`:
    records of the memory log that stand for what memory held at entry.
    `way`: how 64-bit code will be reached when it is entered from another mode next.
    `identity_slots` are the addresses of the table entries through which the image is mapped
    to itself, once that is proved; None while paging is off or while it is not. `proved_in` is the
    memory for which it was proved.
    `host_tables`: those in force, if they are the host's.
    `tables_fresh`: no store since the tables in use were loaded, so the TLB holds what a walk would
    give. `walked`: paging has been on, so that the CPU may have set flags in table entries.
    `hazards`: writes that may have changed code. `locations`: symbolic addresses by id, size and
    side condition, each with both and the pages in which it lies on this path. `noted` and
    `noted_flags`: all registers and flags as `history` has them. `readings`: the CPU after each
    read of a shared word.
    """

    def __init__(
        self,
        registers: Registers,
        segments: dict[str, Segment],
        control: Control,
        gdtr: TablePointer,
        idtr: TablePointer,
        memory: Memory,
    ) -> None:
        super().__init__()
        self.registers = registers
        self.segments = segments
        self.control = control
        self.gdtr = gdtr
        self.idtr = idtr
        self.memory = memory
        self.mode = Mode.REAL16
        self.paging = False
        self.pc = 0
        self.origin = memory.base.term
        self.way = Way.FIRST
        self.entry = 0
        self.found = 0
        self.path: tuple[z3.BoolRef, ...] = ()
        self.accesses: tuple[Access, ...] = ()
        self.table_loads: tuple[TableLoad, ...] = ()
        self.trace: tuple[tuple[int, str], ...] = ()
        self.identity_slots: tuple[z3.BitVecRef, ...] | None = None
        self.proved_in = memory
        self.host_tables: HostTables | None = None
        self.tables_fresh = True
        self.walked = False
        self.hazards: tuple[Record, ...] = ()
        self.locations: dict[tuple[int, int, int], tuple[z3.ExprRef, z3.ExprRef, Pages]] = {}
        self.instructions = 0
        self.history: tuple[Before, ...] = ()
        self.noted: dict[str, z3.BitVecRef | Segment] = {}
        self.noted_flags: dict[str, Value] = {}
        self.readings: tuple[Any, ...] = ()

    @SimStatePlugin.memo
    def copy(self, memo: dict[Any, Any]) -> Cpu:
        """An independent copy; everything but the registers is immutable and shared."""
        registers, segments = self.registers.copy(), dict(self.segments)
        twin = Cpu(registers, segments, self.control, self.gdtr, self.idtr, self.memory)
        own = {"registers": registers, "segments": segments, "state": None}
        vars(twin).update({**vars(self), **own})
        return twin

    def update_mode(self, decide: Callable[[z3.BoolRef], bool]) -> None:
        """The mode that CR0.PE, EFER.LMA and the hidden CS now select, and whether CR0.PG is set.

        `decide` says whether a condition holds. Raises ValueError when there is no such mode.
        """
        cs, control = self.segments["cs"], self.control
        self.paging = decide(control.cr0 & CR0_PG != 0)
        self.mode = mode(
            decide(control.cr0 & CR0_PE != 0),
            decide(control.efer & EFER_LMA != 0),
            decide(cs.long),
            decide(cs.big),
        )

    @property
    def in_place(self) -> bool:
        """The code at hand is the image's own, not a copy of it."""
        return self.origin is self.memory.base.term

    def at(self, offset: int) -> z3.BitVecRef:
        """The linear address of an image offset as the running code sees it."""
        if self.in_place:
            return self.memory.base.at(offset)
        return simplify(self.origin + const(offset))

    def note(self) -> None:
        """Add to the history what was written to registers since it was last called.

        Terms are compared as objects: one that is replaced by its equal is noted once more.
        """
        now: dict[str, z3.BitVecRef | Segment] = {
            **self.registers.values,
            **vars(self.control),
            **self.segments,
            **{"gdtr_base": self.gdtr.base, "gdtr_limit": self.gdtr.limit},
            **{"idtr_base": self.idtr.base, "idtr_limit": self.idtr.limit},
        }
        flags = dict(self.registers.flags)
        written = {n: value for n, value in now.items() if value is not self.noted.get(n)}
        changed = {n: value for n, value in flags.items() if value is not self.noted_flags.get(n)}
        before = Before(written, len(self.accesses), self.origin, changed)
        self.history = (*self.history, before)
        self.noted, self.noted_flags = now, flags

    def final(self, rip: z3.BitVecRef) -> FinalState:
        """What is left when a path ends with `rip` (64 bits)."""
        return FinalState(
            registers=dict(self.registers.values),
            rip=rip,
            lazy_rflags=Lazy(self.registers.copy().rflags),
            segments=dict(self.segments),
            control=self.control,
            gdtr_base=self.gdtr.base,
            gdtr_limit=self.gdtr.limit,
            idtr_base=self.idtr.base,
            idtr_limit=self.idtr.limit,
        )


def after_init_sipi(base: Base, image: EntryImage, any_registers: bool = False) -> Cpu:
    """The CPU at its first instruction: what INIT and SIPI guarantee, all else unconstrained.

    `any_registers` lets go of part of the guarantee: general registers, arithmetic flags, DF,
    GDTR, IDTR, and selectors and bases of all segments but CS may then hold anything.
    """
    state = init_sipi(base.vector)
    if any_registers:
        state = forget_registers(state)

    def register(name: str, bits: int = 64) -> z3.BitVecRef:
        return simplify(state.complete(name, z3.BitVec(f"{name}_at_entry", bits)))

    rflags = register("rflags")
    flags = {
        name: simplify(z3.ZeroExt(7, z3.Extract(bit, bit, rflags))) for name, bit in FLAGS.items()
    }
    general = Registers({name: register(name) for name in GENERAL}, dict(flags))
    cr0 = register("cr0")  # NW without CD is no state that a CPU can be in (SDM 3A 2.5)
    cr0 = simplify(z3.If(cr0 & CR0_CD == 0, cr0 & ~CR0_NW, cr0))
    return Cpu(
        general,
        {name: simplified(segment) for name, segment in state.segments.items()},
        Control(cr0, *(register(name) for name in ("cr3", "cr4", "efer"))),
        TablePointer(register("gdtr_base"), register("gdtr_limit", 16)),
        TablePointer(register("idtr_base"), register("idtr_limit", 16)),
        Memory(base, image),
    )


def after_hand_over(memory: Memory, state: HandOver) -> Cpu:
    """The CPU at a 64-bit entry, on page tables of the host's."""
    held = {register: simplify(value) for register, value in state.registers.items()}
    flags = {
        flag: simplify(z3.ZeroExt(7, z3.Extract(bit, bit, held["rflags"])))
        for flag, bit in FLAGS.items()
    }
    cpu = Cpu(
        Registers({register: held[register] for register in GENERAL}, dict(flags)),
        {register: simplified(segment) for register, segment in state.segments.items()},
        Control(*(held[register] for register in ("cr0", "cr3", "cr4", "efer"))),
        TablePointer(held["gdtr_base"], held["gdtr_limit"]),
        TablePointer(held["idtr_base"], held["idtr_limit"]),
        memory,
    )
    cpu.mode, cpu.paging, cpu.way = Mode.LONG64, True, Way.COMPATIBILITY
    return cpu


def simplified(segment: Segment) -> Segment:
    """The segment with every field reduced."""
    return Segment(**{name: simplify(value) for name, value in vars(segment).items()})
