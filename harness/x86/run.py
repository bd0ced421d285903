# SPDX-License-Identifier: GPL-2.0-only
"""The result of a symbolic execution: every path, how it ends, and what it read and wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import z3

from harness.x86.memory import Memory
from harness.x86.promise import HostTables
from harness.x86.registers import Value, force
from models.cpuid import Features
from models.descriptors import Segment
from models.modes import Control, Mode

PAGED = frozenset({Mode.COMPATIBILITY16, Mode.COMPATIBILITY32, Mode.LONG64})
"""Modes in which paging is on; no other paging than that of long mode is modelled."""


class EndKind(Enum):
    """How a path ends."""

    HAND_OFF = "jump out of the image in 64-bit mode"
    PARKED = "halted with interrupts off"
    SHUTDOWN = "fault with an empty IDT: shutdown"
    UNPROMISED = "an access to memory that the host does not promise to map"
    STRAY = "an access that is mapped to another physical address"
    TABLE_IN_USE = "store that changes a translation in use, with no invalidation after it"
    SPINNING = "an endless loop"
    WAITING = "waits until another CPU changes a shared word"
    OVERWRITTEN = "execution of bytes that the path itself may have written"
    UNSUPPORTED = "not covered by the machine"


LASTING = (EndKind.HAND_OFF, EndKind.PARKED, EndKind.SPINNING)
"""Ends after which the image may be started again, as it was left."""


@dataclass(frozen=True)
class Access:
    """One read or write of memory by the target CPU, in program order.

    `linear` is a 64-bit linear address; the machine goes on only where the physical one equals it.
    `size` is in bytes. For a summarised loop `count` accesses stand `stride` bytes apart and
    `value` contains the iteration's number (`terms.index_symbol`). `conditions` and `records` say
    how much of the path's condition and of its memory log lies before this access.
    """

    kind: str  # "load", "store", "descriptor" (read of a GDT entry or of a table pointer),
    # "accessed" (write of the byte with a descriptor's accessed flag), "locked" (a read and a write
    # by one locked instruction: with `expected`, LOCK CMPXCHG, it writes `value` if it finds
    # `expected`, and else what it found; without, it writes `value`, a term of what it found)
    linear: z3.BitVecRef
    size: int
    value: z3.BitVecRef
    mode: Mode
    instruction: int  # byte offset in the image
    conditions: int
    records: int
    stack: bool = False  # of the stack, by a push, pop, call or return
    count: int = 1
    stride: int = 0
    seen: z3.BitVecRef | None = None
    """What a load or a locked access read from a shared word, such as the status word: a symbol of
    its own, because others may write there at any time."""
    expected: z3.BitVecRef | None = None

    @property
    def writes(self) -> bool:
        """It changes memory."""
        return self.kind in ("store", "accessed", "locked")

    @property
    def paged(self) -> bool:
        """Paging was on: long mode is, and nothing else pages here."""
        return self.mode in PAGED


@dataclass(frozen=True)
class TableLoad:
    """One LGDT or LIDT. `whole`: all bytes of the base were loaded, not only the low 24 bits."""

    register: str  # "gdtr" or "idtr"
    base: z3.BitVecRef  # linear address, 64 bits
    limit: z3.BitVecRef  # 16 bits, last valid offset
    whole: bool
    instruction: int  # byte offset in the image


@dataclass(frozen=True)
class FinalState:
    """The CPU at the end of a path. General registers and RFLAGS have 64 bits.

    `lazy_rflags` is worked out when somebody looks at `rflags`.
    """

    registers: dict[str, z3.BitVecRef]
    rip: z3.BitVecRef
    lazy_rflags: Value
    segments: dict[str, Segment]
    control: Control
    gdtr_base: z3.BitVecRef  # linear address, 64 bits
    gdtr_limit: z3.BitVecRef  # 16 bits, last valid offset
    idtr_base: z3.BitVecRef  # like GDTR
    idtr_limit: z3.BitVecRef

    @property
    def rflags(self) -> z3.BitVecRef:
        """RFLAGS, 64 bits."""
        return force(self.lazy_rflags)


@dataclass(frozen=True)
class Before:
    """What the CPU holds when one instruction of the trace begins.

    `values` are those registers that were written since the entry before this one, all of them in
    the first entry: general and control registers by name (64 bits), `gdtr_base`, `gdtr_limit` and
    the same of the IDTR, and segment registers. `accesses` counts the path's accesses before it.
    `origin`: linear address (64 bits) of image offset 0 as the running code sees it; that of the
    image, or of a copy that is executed. `flags`: the flags that were written since the entry
    before this one, by name, one byte each (0 or 1), worked out when somebody looks.
    """

    values: dict[str, z3.BitVecRef | Segment]
    accesses: int
    origin: z3.BitVecRef
    flags: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PathEnd:
    """One path. It is taken by exactly those inputs that satisfy all of `path`."""

    kind: EndKind
    detail: str
    instruction: int  # byte offset of the last instruction
    mode: Mode
    path: tuple[z3.BoolRef, ...]
    state: FinalState
    memory: Memory
    accesses: tuple[Access, ...]
    table_loads: tuple[TableLoad, ...]
    trace: tuple[tuple[int, str], ...]  # (image offset, mode name) of each executed instruction
    entry: int  # index of the entry at which the path begins
    host_tables: HostTables | None  # in force at the end, alone or behind tables of the code's
    found: int  # records of the memory log that stand for what memory held at entry
    history: tuple[Before, ...]  # one for each entry of the trace
    round: int | None = None
    """Of a path that has come round in a loop: how many of its accesses lie before the instruction
    that began the round. What the last one has read it had read there."""
    address: z3.BitVecRef | None = None
    """Of a path that a page fault ends: the linear address (64 bits) that could not be translated,
    where that is known. CR2 then holds it, or that of another byte of the same access in its page
    (SDM 3A 6.15, "#PF")."""

    @property
    def words(self) -> str:
        """How it ends, for people."""
        return self.kind.value + (f": {self.detail}" if self.detail else "")

    @property
    def paged(self) -> bool:
        """Paging was on at the end."""
        return self.mode in PAGED

    def accesses_of(self, step: int) -> tuple[Access, ...]:
        """The accesses that belong to one entry of the trace."""
        following = self.history[step + 1 : step + 2]
        stop = following[0].accesses if following else None
        return self.accesses[self.history[step].accesses : stop]

    @property
    def condition(self) -> z3.BoolRef:
        """The path condition as one term."""
        return z3.And(*self.path) if self.path else z3.BoolVal(True)


@dataclass(frozen=True, eq=False)
class Run:
    """All paths of one trampoline from its entries on.

    `kernel` is the address that they shall end at, `boot_params` what RSI shall hold there.
    `inputs` are the symbols of both where they are the host's to choose, the base and MAXPHYADDR.
    `entries` names the entries: the input ENTRY is an index to it. `host_tables` are page tables
    that the host has made.
    `assumptions` are sentence and condition: what contract and manual restrict the inputs to. It
    holds on every path. `covered` are the offsets of all instructions that some path executes.
    `lost` says why paths are missing; it is empty if none is. `any_registers`: registers and flags
    hold anything at a real-mode entry, see `cpu.after_init_sipi`. `solver_calls`: questions to z3,
    and `hardest`: z3's resource units that the hardest one took.
    """

    name: str
    assumptions: tuple[tuple[str, z3.BoolRef], ...]
    inputs: dict[str, z3.BitVecRef]
    kernel: z3.BitVecRef
    boot_params: z3.BitVecRef | None
    entries: tuple[str, ...]
    host_tables: tuple[HostTables, ...]
    features: Features
    ends: tuple[PathEnd, ...]
    covered: tuple[int, ...]
    solver_calls: int
    hardest: int
    seconds: float
    lost: str = ""
    any_registers: bool = False

    @property
    def hypotheses(self) -> tuple[z3.BoolRef, ...]:
        """The assumptions' conditions."""
        return tuple(condition for _, condition in self.assumptions)

    def ends_of(self, kind: EndKind) -> tuple[PathEnd, ...]:
        """The paths that end so."""
        return tuple(end for end in self.ends if end.kind is kind)
