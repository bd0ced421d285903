# SPDX-License-Identifier: GPL-2.0-only
"""A path: the CPU that takes it, the inputs that are still on it, and how it ends.

A fault ends a path: the IDT is empty, so the CPU shuts down. Each check asks whether the fault is
possible for some input of the path. Where it is, a path end takes those inputs and the run goes on
with the others; the two conditions exclude each other and leave nothing out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import z3

from harness.x86.cpu import Cpu
from harness.x86.errors import Unsupported
from harness.x86.lift import FIELD, MAX_LENGTH, Instruction, lift
from harness.x86.memory import EntryImage
from harness.x86.promise import HostTables, Range
from harness.x86.prover import Prover
from harness.x86.run import EndKind, PathEnd
from harness.x86.terms import Base, simplify
from models.cpuid import Features


class PathOver(Exception):
    """No input is left on this path: all of them went to path ends."""


class Undecided(Exception):
    """What an instruction does depends on a condition that holds for some inputs of the path only.

    It is to be executed anew, on a path with the condition and on one without.
    """

    def __init__(self, condition: z3.BoolRef) -> None:
        super().__init__(f"undecided: {condition}")
        self.condition = condition


@dataclass
class Environment:
    """What all paths of one run share.

    `tables` is the image range that holds page tables (empty if none does), `known` the ranges of
    image bytes that are at entry as they were assembled or filled in, `shared` the words that
    others (the host, other CPUs) may write at any time, `fields` the 4-byte operands of
    instructions that the host fills in or the code itself changes, `stop` where the trampoline is
    done in 64-bit mode. All are offsets in bytes.
    `supported`: bits of CR4 and EFER that the CPU has by promise, beside those of `features`.
    `copies`: physical address of the copy that the image's code makes of part of itself, and that
    part. `host_tables`: page tables that the host has made. `entries`: where paging-structure
    entries lie outside of `tables`. `counts`: by the id of the condition under which a loop goes
    on, that condition and how many iterations it allows.
    """

    base: Base
    image: EntryImage
    tables: range
    prover: Prover
    features: Features
    upper_halves_zero: bool
    known: tuple[range, ...]
    shared: tuple[range, ...]
    fields: tuple[range, ...] = ()
    supported: dict[str, z3.BitVecRef] = field(
        default_factory=lambda: dict.fromkeys(("cr4", "efer"), z3.BitVecVal(0, 64))
    )
    stop: int | None = None
    copies: tuple[tuple[int, range], ...] = ()
    host_tables: tuple[HostTables, ...] = ()
    entries: tuple[Range, ...] = ()
    ends: list[PathEnd] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    counts: dict[int, tuple[z3.BoolRef, int]] = field(default_factory=dict)
    fresh: Counter[str] = field(default_factory=Counter)

    def decode(self, offset: int, bits: int) -> Instruction:
        """The instruction at an image offset, as `bits`-bit code."""
        data = self.image.data[offset : offset + MAX_LENGTH]
        near = (f.start for f in self.fields if offset - FIELD < f.start < offset + len(data))
        return lift(data, offset, bits, tuple(near))

    def unknown(self, why: str, bits: int) -> z3.BitVecRef:
        """A new symbol for a value that the manual leaves open, numbered among those of its kind:
        one more or less of another kind changes no name."""
        self.fresh[why] += 1
        return z3.BitVec(f"{why}_{self.fresh[why]}", bits)

    def unknown_flag(self, why: str) -> z3.BitVecRef:
        """The same for a flag, which is one byte that is 0 or 1."""
        return z3.ZeroExt(7, self.unknown(why, 1))


class Path:
    """One CPU at one instruction, and what may be asked of the inputs that lead there."""

    def __init__(self, environment: Environment, cpu: Cpu) -> None:
        self.environment = environment
        self.cpu = cpu
        self.registers = cpu.registers
        self.instruction = cpu.pc

    def refuse(self, what: str) -> Unsupported:
        """The refusal of the instruction at hand."""
        return Unsupported(self.instruction, what)

    def possible(self, condition: z3.BoolRef, *, likely: bool = False) -> bool:
        """The condition may hold for an input of this path. `likely`: see `Prover.possible`."""
        return self.environment.prover.possible(self.cpu.path, condition, likely=likely)

    def decide(self, condition: z3.BoolRef) -> bool:
        """Whether the condition holds on this path. Raises Undecided where inputs differ."""
        condition = simplify(condition)
        if z3.is_true(condition) or z3.is_false(condition):
            return bool(z3.is_true(condition))
        denied = simplify(z3.Not(condition))
        for answer, known in ((True, condition), (False, denied)):
            if any(known.eq(part) for part in self.cpu.path):
                return answer
        if not self.possible(denied):
            return True
        if not self.possible(condition):
            return False
        raise Undecided(condition)

    def assume(self, condition: z3.BoolRef) -> None:
        """Go on with the inputs that satisfy the condition."""
        condition = simplify(condition)
        known = any(condition.eq(part) for part in self.cpu.path)
        if not known and not z3.is_true(condition):
            self.cpu.path = (*self.cpu.path, condition)

    def end(
        self,
        kind: EndKind,
        detail: str,
        *,
        rip: z3.BitVecRef | None = None,
        round: int | None = None,
        address: z3.BitVecRef | None = None,
    ) -> None:
        """Record that the path ends here. `round` and `address`: see `PathEnd`."""
        cpu = self.cpu
        at = cpu.at(self.instruction) if rip is None else rip
        self.environment.ends.append(
            PathEnd(
                kind=kind,
                detail=detail,
                instruction=self.instruction,
                mode=cpu.mode,
                path=cpu.path,
                state=cpu.final(at),
                memory=cpu.memory,
                accesses=cpu.accesses,
                table_loads=cpu.table_loads,
                trace=cpu.trace,
                entry=cpu.entry,
                found=cpu.found,
                host_tables=cpu.host_tables,
                history=cpu.history,
                round=round,
                address=address,
            )
        )

    def end_if(
        self,
        condition: z3.BoolRef,
        kind: EndKind,
        detail: str,
        address: z3.BitVecRef | None = None,
    ) -> None:
        """Inputs with the condition end here, the others go on. PathOver if there are none."""
        if not self.possible(condition):
            return
        path = self.cpu.path
        self.assume(condition)
        self.end(kind, detail, address=address)
        self.cpu.path = path
        if not self.possible(z3.Not(condition)):
            raise PathOver
        self.assume(z3.Not(condition))

    def fault_if(
        self, condition: z3.BoolRef, detail: str, address: z3.BitVecRef | None = None
    ) -> None:
        """A fault: with the empty IDT it becomes a shutdown. `address`: see `PathEnd`."""
        self.end_if(condition, EndKind.SHUTDOWN, detail, address)
