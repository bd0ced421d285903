# SPDX-License-Identifier: GPL-2.0-only
"""Claim 7: GDT and IDT."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.run import PathEnd, TableLoad
from proofs.prove import Prove
from proofs.subject import Subject

SELECTORS = ("cs", "ds", "es", "ss", "fs", "gs")
REAL_MODE_VECTOR = 4
"""Bytes of an entry of a real-mode IDT, the smallest there is (SDM vol. 3A 20.1.4)."""


def test_descriptor_tables(subject: Subject, prove: Prove) -> None:
    """Each LGDT loads one of the contract's GDTs, with all bytes of its base and with the offset of
    its last byte as limit; each LIDT loads a table without an entry; and no selector that is loaded
    at the jump lies outside the GDT in force."""
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
                },
            )
            for end in subject.hand_offs
        ),
    )


def _tables(subject: Subject, end: PathEnd) -> Obligation:
    goals, shown_by = {}, {}
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
            z3.And(load.base == subject.base + part.start, load.limit == len(part) - 1)
            for part in tables
        )
    )
