# SPDX-License-Identifier: GPL-2.0-only
"""Claim 3, its other half: what a TLB may hold."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.promise import misses
from harness.x86.run import PAGED, Access, PathEnd
from harness.x86.terms import index_symbol, simplify
from models.modes import Mode
from proofs.prove import Prove
from proofs.subject import ACCESSED_AND_DIRTY, Subject


def test_no_stale_translation(subject: Subject, prove: Prove) -> None:
    """At the jump no TLB or paging-structure cache can hold a translation other than that of the
    tables: every walk stays in the contract's [tables], and no store made under paging has changed
    an entry that was present. Where the tables are the host's, no store made under paging reaches
    them, or a table that leads to them."""
    if subject.tables:
        prove("no_stale_translation", *_all_tables(subject), *_no_change(subject))
    else:
        prove("no_stale_translation", *(_spares_tables(subject, end) for end in subject.hand_offs))


def _spares_tables(subject: Subject, end: PathEnd) -> Obligation:
    goals = {"no store is made while paging is on": z3.BoolVal(True)}
    unpaged = [n for n, (_, mode) in enumerate(end.trace) if Mode[mode] not in PAGED]
    for number, access in enumerate(end.accesses, start=1):
        if access.writes and access.paged:
            first = access.linear + index_symbol * access.stride
            spared = [t.spared_by(first, access.size) for t in subject.run.host_tables]
            if unpaged and number > end.history[unpaged[-1]].accesses:  # other tables are in use
                areas = [subject.place(area) for area in subject.contract.area]
                spared += [misses(first, access.size, area) for area in areas]
            name = f"access {number}, a store at {access.instruction:#x}, reaches no table in use"
            goals[name] = z3.Implies(z3.ULT(index_symbol, access.count), z3.And(*spared))
    return subject.about(f"{subject.of(end)}: its stores under paging", end, goals)


def _all_tables(subject: Subject) -> list[Obligation]:
    return [
        subject.about(
            f"{subject.of(end)}: all tables are known",
            end,
            {
                "every walk stays in the contract's [tables]": (
                    subject.address_map(end).within(subject.tables)
                )
            },
        )
        for end in subject.hand_offs
    ]


def _no_change(subject: Subject) -> list[Obligation]:
    return [
        subject.about(
            f"{subject.of(end)}: no stale translation after table store {number}",
            end,
            {
                f"the store at {access.instruction:#x} changes no present entry": (
                    _keeps_translations(end, access)
                )
            },
        )
        for end in subject.hand_offs
        for number, access in enumerate(_table_stores(subject, end), start=1)
    ]


def _table_stores(subject: Subject, end: PathEnd) -> list[Access]:
    """The stores, made while paging is on, that may reach page tables."""
    result = []
    for access in subject.writes(end):
        pages = _pages(end, access)
        apart = pages is not None and not any(page in subject.tables for page in pages)
        if access.paged and not apart:
            result.append(access)
    return result


def _keeps_translations(end: PathEnd, access: Access) -> z3.BoolRef:
    """The store changes no present paging-structure entry.

    Only accessed and dirty flags may change. The CPU may hold the old entry in a TLB. A store that
    is not aligned reaches two entries.
    """
    memory = end.memory.before(access.records)
    after = end.memory.before(access.records + 1)
    first = access.linear + index_symbol * access.stride
    entries = {simplify(byte & -8) for byte in (first, first + (access.size - 1))}
    kept = []
    for entry in entries:
        old, new = (m.read(entry, 8, pages=_pages(end, access)) for m in (memory, after))
        same = (old ^ new) & ~ACCESSED_AND_DIRTY == 0
        kept.append(z3.Or(old & 1 == 0, same))
    return z3.Implies(z3.ULT(index_symbol, access.count), z3.And(*kept))


def _pages(end: PathEnd, access: Access) -> frozenset[int] | None:
    return end.memory.records[access.records].pages
