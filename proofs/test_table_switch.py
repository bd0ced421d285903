# SPDX-License-Identifier: GPL-2.0-only
"""A switch from the page tables that a 64-bit entry finds to others that lead to them."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.run import PathEnd
from harness.x86.tables import LINEAR_MAX, AddressMap, linear_address
from harness.x86.terms import simplify
from models.bits import any_of
from models.modes import CR0_WP, CR4_LA57
from models.paging import Access, walk
from proofs.prove import Prove
from proofs.subject import Subject


def test_table_switch(subject: Subject, prove: Prove) -> None:
    """Every address in [0, 2^47) translates the same at the jump as at the entry, to the same
    physical address, with the same rights at CPL 0, or not at all: whatever else memory holds, the
    entries of a new table that were not written included. A CPU that has 5-level paging uses it at
    the jump."""
    prove(
        "table_switch",
        *(_same(subject, end) for end in subject.hand_offs),
        *(_made(subject, end) for end in subject.hand_offs),
    )


def _made(subject: Subject, end: PathEnd) -> Obligation:
    """SDM 2, CPUID: leaf 7, ECX bit 16; there is no such leaf if the highest basic one is less."""
    features = subject.run.features
    able = z3.And(features.five_level, z3.UGE(features.max_basic, 7))
    five = any_of(end.state.control.cr4, CR4_LA57)
    goal = {"a CPU that has 5-level paging uses it": z3.Implies(able, five)}
    return subject.about(f"{subject.of(end)}: the switch is made", end, goal)


def _same(subject: Subject, end: PathEnd) -> Obligation:
    (tables,) = subject.run.host_tables
    goals = {}
    cr0 = end.history[0].values["cr0"]
    assert isinstance(cr0, z3.BitVecRef)
    write_protect = simplify(cr0 & CR0_WP != 0)
    after = AddressMap(subject.run, end)
    for access in Access:
        found = after.walk(access)
        for levels, when in ((4, z3.Not(tables.five_level)), (5, tables.five_level)):
            paging = tables.paging(levels, write_protect)
            before = walk(linear_address, access, paging, tables.read_at_entry)
            where = z3.Or(before.fault, before.physical == found.physical)
            same = z3.And(before.fault == found.fault, where)
            goals[f"a {access.words} with {levels} levels before"] = z3.Implies(when, same)
    return subject.about(
        f"{subject.of(end)}: every address below 2^47",
        end,
        goals,
        z3.ULT(linear_address, LINEAR_MAX),
        after.promise(linear_address),
    )
