# SPDX-License-Identifier: GPL-2.0-only
"""All forms of instructions in one mode, each from many random states."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from harness.lockstep import limits
from harness.lockstep.beside import Beside
from harness.lockstep.forms import Form, executed, forms, of_the_list
from harness.lockstep.record import FormRecord, MismatchRecord, SingleRecord
from harness.lockstep.single import Found, Tally, compare_form
from harness.lockstep.state import BASE, CODE
from harness.x86.execute import execute
from models.modes import Mode
from trampoline.contract import Contract
from trampoline.image import load_image

MODES = tuple(Mode)
Progress = Callable[[str], None]
Codes = set[tuple[Mode, bytes]]


class Asked(NamedTuple):
    """A form, and how many states it is to be compared from. `shipped`: an image has it."""

    form: Form
    states: int
    shipped: bool


class Compared(NamedTuple):
    """What was found of a form."""

    record: FormRecord
    mismatch: MismatchRecord | None


Compare = Callable[[Sequence[Asked]], Iterator[Compared]]
"""Compares forms, in this order; see `workers`."""


def of_trampolines(contracts: Iterable[Contract]) -> Codes:
    """Every instruction that these execute."""
    found: Codes = set()
    for contract in contracts:
        found |= executed(execute(contract, load_image(contract)).ends)
    return found


def asked(mode: Mode, shipped: Codes, number: int) -> list[Asked]:
    """`number` states for each form that is shipped, and for each system instruction.

    A system instruction that is not shipped in this mode shares them with the other modes.
    """
    listed = {one: forms(of_the_list(one, plain=False)) for one in MODES}
    shares = Counter(name for some in listed.values() for name in {_name(form) for form in some})
    known = {code for one, code in shipped if one is mode}
    found = []
    for form in forms({(mode, code) for code in known} | of_the_list(mode, plain=False)):
        own = any(template.code in known for template in form.templates)
        states = number if own else -(-number // max(shares[_name(form)], 1))
        found.append(Asked(form, states, own))
    return found


def compare_one(one: Asked, beside: Beside) -> Compared:
    """One form, from always the same states."""
    tally, found = compare_form(one.form, one.states, Random(one.form.name), beside)
    return Compared(_form(one, tally), None if found is None else _mismatch(found))


def compare_mode(
    mode: Mode,
    everything: Sequence[Asked],
    number: int,
    mark: str,
    progress: Progress,
    name: str,
    compare: Compare,
) -> SingleRecord:
    """Forms of one mode, up to the first mismatch. `name`: of the CPU beside."""
    began = time.monotonic()
    records: list[FormRecord] = []
    mismatch = None
    progress(f"{len(everything)} forms")
    for record, mismatch in compare(everything):
        records.append(record)
        progress(f"{len(records)} of {len(everything)} forms: {record.form}")
        if mismatch is not None:
            break
    names = {limit for record in records for limit in record.limits}
    return SingleRecord(
        mode=mode.value,
        beside=name,
        of=mark,
        asked=number,
        forms=tuple(records),
        limits={one.what: one.manual for one in limits.ALL if one.what in names},
        seconds=time.monotonic() - began,
        mismatch=mismatch,
    )


def not_compared(records: Sequence[FormRecord]) -> list[str]:
    """The forms of which no state could be compared, or nothing of the states."""

    def nothing(record: FormRecord) -> bool:
        return record.compared > record.faults and not record.registers

    return [record.form for record in records if not record.compared or nothing(record)]


def _name(form: Form) -> str:
    return form.example.mnemonic


def _form(one: Asked, tally: Tally) -> FormRecord:
    return FormRecord(
        form=one.form.name,
        shipped=one.shipped,
        states=tally.states,
        compared=tally.compared,
        faults=tally.faults,
        by_table=tally.by_table,
        registers=tally.registers,
        writes=tally.writes,
        refused=dict(tally.refused),
        limits=dict(tally.limits),
    )


def _mismatch(found: Found) -> MismatchRecord:
    state, difference = found.smallest, found.difference
    values = {name: value for name, value in state.registers.items() if value}
    values |= {"rflags": state.rflags}
    values |= {name: getattr(state, name) for name in ("cr0", "cr3", "cr4", "efer")}
    memory = {f"{BASE + at:#x}": f"{byte:#x}" for at, byte in enumerate(state.memory) if byte}
    return MismatchRecord(
        by=difference.by,
        where=f"{found.form.mode.value}, at {BASE + CODE:#x}",
        source="",
        instruction=found.instruction,
        what=difference.what,
        predicted=difference.predicted,
        observed=difference.observed,
        values={name: f"{value:#x}" for name, value in values.items()},
        memory=memory,
    )
