# SPDX-License-Identifier: GPL-2.0-only
"""Claim 7: GDT and IDT."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.promise import lies_in
from harness.x86.run import PathEnd, TableLoad
from models.descriptors import Segment
from models.modes import Mode
from proofs.prove import Prove
from proofs.subject import Subject

SELECTORS = ("cs", "ds", "es", "ss", "fs", "gs")
REAL_MODE_VECTOR = 4
"""Bytes of an entry of a real-mode IDT, the smallest there is (SDM vol. 3A 20.1.4)."""


def test_descriptor_tables(subject: Subject, prove: Prove) -> None:
    """Each LGDT loads one of the contract's GDTs, with all bytes of its base and with the offset of
    its last byte as limit; each LIDT loads a table without an entry; each of them reads only bytes
    of one of the contract's pointers, if it names any; no selector that was loaded on the way lies
    outside the GDT in force at the jump; and a CPU that began in real mode, where INIT has left an
    IDT of 64 KiB at address 0, jumps with one without an entry."""
    prove(
        "descriptor_tables",
        *(_tables(subject, end) for end in subject.decided if end.table_loads),
        *(
            subject.about(
                f"{subject.of(end)}: its selectors",
                end,
                {
                    f"{name.upper()} lies in the GDT": z3.ULE(
                        end.state.segments[name].selector | 7, end.state.gdtr_limit
                    )
                    for name in SELECTORS
                    if _loaded(end, name)
                },
            )
            for end in subject.hand_offs
        ),
        *(_idt(subject, end) for end in subject.hand_offs if end.trace[0][1] == Mode.REAL16.name),
    )


def _idt(subject: Subject, end: PathEnd) -> Obligation:
    """IDTR after INIT: SDM vol. 3A table 9-1. With these vectors of real mode a fault, or an NMI,
    would be delivered through anything that lies there."""
    goal = "IDTR holds no vector at the jump"
    goals = {goal: z3.ULT(end.state.idtr_limit, REAL_MODE_VECTOR - 1)}
    return subject.about(
        f"{subject.of(end)}: its IDT", end, goals, shown_by={goal: ("idtr_limit",)}
    )


def _loaded(end: PathEnd, name: str) -> bool:
    """The register does not hold what it held at entry."""
    found = end.history[0].values[name] if end.history else None
    return not isinstance(found, Segment) or not found.selector.eq(
        end.state.segments[name].selector
    )


def _tables(subject: Subject, end: PathEnd) -> Obligation:
    goals, shown_by = _pointers(subject, end), {}
    for number, load in enumerate(end.table_loads, start=1):
        name = f"load {number}, of {load.register.upper()} at {load.instruction:#x}, is exact"
        goals[name] = _exact(subject, load)
        if load is [other for other in end.table_loads if other.register == load.register][-1]:
            shown_by[name] = (f"{load.register}_limit",)
    return subject.about(f"{subject.of(end)}: its tables", end, goals, shown_by=shown_by)


def _exact(subject: Subject, load: TableLoad) -> z3.BoolRef:
    if load.register == "idtr":
        return z3.ULT(load.limit, REAL_MODE_VECTOR - 1)
    if not load.whole:
        return z3.BoolVal(False)
    tables = (subject.part(gdt.start, gdt.end) for gdt in subject.contract.gdt)
    return z3.Or(
        *(
            z3.And(load.base == start, load.limit == len(part) - 1)
            for part in tables
            for start in subject.places_of(part)
        )
    )


def _pointers(subject: Subject, end: PathEnd) -> dict[str, z3.BoolRef]:
    """What LGDT and LIDT read, which is recorded as two accesses each: limit and base."""
    pointers = [subject.part(pointer.start, pointer.end) for pointer in subject.contract.pointer]
    loads = {load.instruction for load in end.table_loads}
    goals = {}
    for number, access in enumerate(end.accesses, start=1):
        if pointers and access.kind == "descriptor" and access.instruction in loads:
            name = f"access {number} at {access.instruction:#x} reads bytes of one pointer"
            places = [
                (start, z3.BitVecVal(len(part), 64))
                for part in pointers
                for start in subject.places_of(part)
            ]
            goals[name] = z3.Or(*(lies_in(access.linear, access.size, part) for part in places))
    return goals
