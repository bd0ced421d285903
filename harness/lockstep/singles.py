# SPDX-License-Identifier: GPL-2.0-only
"""All forms of instructions in one mode, each from many random states."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random

from harness.lockstep import limits
from harness.lockstep.alone import Beside
from harness.lockstep.forms import Form, executed, forms, of_the_list
from harness.lockstep.record import FormRecord, MismatchRecord, SingleRecord
from harness.lockstep.single import Found, Tally, compare_form
from harness.lockstep.state import BASE, CODE
from harness.lockstep.unicorn_cpu import NAME
from harness.x86.execute import execute
from models.modes import Mode
from trampoline.contract import Contract
from trampoline.image import load_image

MODES = (
    Mode.REAL16,
    Mode.PROTECTED16,
    Mode.PROTECTED32,
    Mode.COMPATIBILITY32,
    Mode.LONG64,
)
"""Those that a shipped trampoline runs in."""
Progress = Callable[[str], None]
Codes = set[tuple[Mode, bytes]]


def of_trampolines(contracts: Iterable[Contract]) -> Codes:
    """Every instruction that these execute."""
    found: Codes = set()
    for contract in contracts:
        found |= executed(execute(contract, load_image(contract)).ends)
    return found


def compare_mode(
    mode: Mode, shipped: Codes, number: int, mark: str, progress: Progress
) -> SingleRecord:
    """`number` states for each form that is shipped, and for each system instruction.

    A system instruction that is not shipped in this mode shares them with the other modes.
    """
    began, beside = time.monotonic(), Beside()
    listed = {one: forms(of_the_list(one, plain=False)) for one in MODES}
    shares = Counter(name for some in listed.values() for name in {_name(form) for form in some})
    known = {code for one, code in shipped if one is mode}
    everything = forms({(mode, code) for code in known} | of_the_list(mode, plain=False))
    records: list[FormRecord] = []
    mismatch = None
    for count, form in enumerate(everything):
        progress(f"{count} of {len(everything)} forms: {form.name}")
        own = any(template.code in known for template in form.templates)
        states = number if own else -(-number // max(shares[_name(form)], 1))
        tally, found = compare_form(form, states, Random(form.name), beside)
        records.append(_form(form, own, tally))
        if found is not None:
            mismatch = _mismatch(found)
            break
    names = {name for record in records for name in record.limits}
    return SingleRecord(
        mode=mode.value,
        beside=NAME,
        of=mark,
        asked=number,
        forms=tuple(records),
        limits={one.what: one.manual for one in limits.ALL if one.what in names},
        seconds=time.monotonic() - began,
        mismatch=mismatch,
    )


def not_compared(records: Sequence[FormRecord]) -> list[str]:
    """The forms of which no state could be compared."""
    return [record.form for record in records if not record.compared]


def _name(form: Form) -> str:
    return form.example.mnemonic


def _form(form: Form, shipped: bool, tally: Tally) -> FormRecord:
    return FormRecord(
        form=form.name,
        shipped=shipped,
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
