# SPDX-License-Identifier: GPL-2.0-only
"""Single instructions do to registers, flags, modes and memory what unicorn's CPU does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from harness.lockstep import single, unicorn_cpu
from harness.lockstep.alone import predicted
from harness.lockstep.assembled import assembled
from harness.lockstep.beside import Beside
from harness.lockstep.beside_unicorn import BesideUnicorn
from harness.lockstep.draw import states
from harness.lockstep.forms import Form, executed, forms, of_the_list
from harness.lockstep.record import FormRecord
from harness.lockstep.single import (
    Tally,
    compare_form,
    compare_state,
    instruction_of,
    minimise,
)
from harness.lockstep.singles import MODES, not_compared
from harness.lockstep.state import BASE, CODE, GDT, SIZE, After, State, in_order
from harness.lockstep.table import Table
from harness.x86.lift import lift
from harness.x86.pcode import PLAIN
from models.cpuid import Features
from models.modes import Mode
from tests.lockstep.test_whole_images import predictor
from trampoline.errors import UserError

PLAIN_MODES = (Mode.REAL16, Mode.PROTECTED32, Mode.LONG64)
"""One for each size of code: p-code knows no others."""


@pytest.fixture(scope="module")
def beside() -> BesideUnicorn:
    return BesideUnicorn()


def tallies(some: Iterable[Form], number: int, beside: Beside) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for form in some:
        tally, difference = compare_form(form, number, Random(form.name), beside)
        assert difference is None, (form.mode.name, difference)
        found[f"{form.name} {len(found)}"] = tally
    return found


@pytest.mark.parametrize("mode", PLAIN_MODES, ids=lambda mode: mode.name)
def test_each_plain_form_does_what_the_cpu_does(mode: Mode, beside: BesideUnicorn) -> None:
    made = [form for form in forms(of_the_list(mode)) if form.plain]
    found = tallies(made, 3, beside)
    assert len(found) > 150
    for name, tally in found.items():
        assert tally.compared, name
    assert sum(t.compared for t in found.values()) > 0.95 * sum(t.states for t in found.values())
    assert all(t.by_table + t.faults == t.compared for t in found.values())


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_each_system_instruction_does_what_the_cpu_does(mode: Mode, beside: BesideUnicorn) -> None:
    found = tallies(forms(of_the_list(mode, plain=False)), 8, beside)
    assert len(found) > 45
    for name, tally in found.items():
        assert tally.compared, (name, tally)
    assert sum(t.compared for t in found.values()) > 0.8 * sum(t.states for t in found.values())
    if mode is not Mode.REAL16:
        assert sum(t.faults for t in found.values()) > 10


@pytest.mark.parametrize("name", ["multikernel_rfc", "legoos_posted"])
def test_instructions_of_shipped_images_do_what_the_cpu_does(
    name: str, beside: BesideUnicorn
) -> None:
    found = tallies(forms(executed(predictor(name).run.ends)), 4, beside)
    assert len(found) > 40


def test_every_plain_mnemonic_is_compared() -> None:
    compared = {
        lift(code, CODE, mode.bits).mnemonic
        for mode in PLAIN_MODES
        for _, code in of_the_list(mode)
    }
    conditions = ("J", "SET", "CMOV")  # all conditions share their p-code with SETcc
    assert not {name for name in PLAIN - compared if not name.startswith(conditions)}


def one_form(mode: Mode, text: str) -> Form:
    (code,) = assembled(mode.bits, text)
    (form,) = forms({(mode, code)})
    return form


def test_registers_are_operands_of_a_form_and_operations_are_not() -> None:
    texts = ["movl %eax, %ebx", "movl %ecx, %edx", "movl $5, %ecx", "movl $7, %ebx"]
    texts += ["orl $3, %eax", "andl $3, %eax", "pushl %ebx", "pushl %esi"]
    made = forms({(Mode.PROTECTED32, code) for code in assembled(32, *texts)})
    assert sorted(len(form.templates) for form in made) == [1, 1, 2, 2, 2]


def test_states_differ_in_values_of_all_kinds() -> None:
    form = one_form(Mode.PROTECTED32, "addl $0x11223344, 6(%ebx, %edx, 4)")
    drawn = list(states(form, 40, Random(1)))
    codes = {state.memory[CODE : CODE + 11] for state in drawn}
    assert len(codes) > 4
    for state in drawn:
        assert lift(state.memory[CODE : CODE + 15], CODE, 32).mnemonic == "ADD"
    assert len({state.registers["rax"] for state in drawn}) > 15
    assert len({state.rflags for state in drawn}) > 10


def one_too_many(state: State, features: Features) -> After:
    """A machine that adds one too many to RAX where RBX is odd."""
    after = predicted(state, features)
    if state.registers["rbx"] & 1:
        more = {**after.registers, "rax": after.registers["rax"] + 1}
        after = replace(after, registers=more)
    return after


def test_a_difference_is_made_small(beside: BesideUnicorn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine that adds one too many where RBX is odd, RBX is what is left."""
    form = one_form(Mode.LONG64, "addq %rbx, %rax")

    monkeypatch.setattr(single, "predicted", one_too_many)
    _, found = compare_form(form, 40, Random(0), beside)
    assert found is not None
    assert (found.difference.by, found.difference.what) == ("machine", "rax")
    assert {name for name, value in found.smallest.registers.items() if value} == {"rbx"}
    assert found.smallest.rflags == 2
    length = len(form.templates[0].code)
    assert not any(found.smallest.memory[:CODE])
    assert not any(found.smallest.memory[CODE + length :])


def test_memory_that_matters_is_kept() -> None:
    form = one_form(Mode.LONG64, "nop")
    state = next(states(form, 1, Random(0)))
    byte = state.memory[0x321]
    assert byte
    small = minimise(state, lambda one: one.memory[0x321] == byte)
    kept = [at for at, value in enumerate(small.memory) if value]
    assert kept == [0x321, CODE]
    assert len(small.memory) == SIZE


def test_a_wrong_table_is_found_beside_a_right_machine(
    beside: BesideUnicorn, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = one_form(Mode.LONG64, "incq %rbx")
    right = Table.at
    monkeypatch.setattr(Table, "at", lambda self, state: replace(right(self, state), linear=BASE))
    _, found = compare_form(form, 4, Random(0), beside)
    assert found is not None
    assert (found.difference.by, found.difference.what) == ("table", "address")


def test_a_fault_counts_as_a_limit_only_where_the_cpu_is_known_for_it(
    beside: BesideUnicorn,
) -> None:
    form = one_form(Mode.LONG64, "lgdt 6(%rbx)")
    for state in states(form, 40, Random(0)):
        tally = Tally()
        assert compare_state(form, state, beside, tally) is None
        assert tally.compared + tally.limits.total() == 1


@pytest.mark.parametrize(
    ("mode", "text", "every"),
    [
        (Mode.LONG64, "mov %rax, %cr4", "#GP: CR4 may not hold this value"),
        (Mode.PROTECTED32, "mov %eax, %cr0", "#GP: CR0 may not hold this value"),
        (Mode.LONG64, "mov %rax, %cr3", "#GP: CR3 has reserved bits set"),
        (Mode.PROTECTED32, "wrmsr", "#GP: EFER may not hold this value"),
        (Mode.LONG64, "lgdt 6(%rbx)", "#GP: the table's base is not canonical"),
        (Mode.LONG64, "jmp *%rdx", "#GP: jump to a non-canonical address"),
        (Mode.COMPATIBILITY32, "ljmpl *6(%ebx)", "#GP: load of CS with 16"),
        (Mode.LONG64, "mov %ax, %ss", "#GP: load of SS with 16"),
        (Mode.REAL16, "movw %cx, 6(%bx)", "#GP or #SS: the segment's limit is exceeded"),
    ],
)
def test_a_machine_that_faults_always_is_not_excused(
    mode: Mode,
    text: str,
    every: str,
    beside: BesideUnicorn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(state: State, features: Features) -> After:
        return After(fault=0, detail=every)

    monkeypatch.setattr(single, "predicted", wrong)
    _, found = compare_form(one_form(mode, text), 40, Random(0), beside)
    assert found is not None
    assert (found.difference.what, found.difference.observed) == ("fault", "no fault")


def halted_otherwise(state: State, features: Features) -> After:
    """A machine that halts where it should go on, and the other way round."""
    after = predicted(state, features)
    goes_on = BASE + CODE + instruction_of(state).length if after.parked else None
    return replace(after, parked=not after.parked, linear=goes_on)


@pytest.mark.parametrize("text", ["nop", "hlt", "wbinvd"])
def test_a_halt_is_seen(text: str, beside: BesideUnicorn, monkeypatch: pytest.MonkeyPatch) -> None:
    form = one_form(Mode.PROTECTED32, text)
    assert compare_form(form, 12, Random(0), beside)[1] is None
    monkeypatch.setattr(single, "predicted", halted_otherwise)
    _, found = compare_form(form, 12, Random(0), beside)
    assert found is not None and found.difference.what == "end"


def test_a_write_to_the_gdt_is_left_out_only_if_it_sets_an_accessed_flag() -> None:
    memory = bytearray(SIZE)
    memory[GDT + 12 : GDT + 16] = (0x00CF_9A00).to_bytes(4, "little")
    flag, other = (BASE + GDT + 12, 4, 0x00CF_9B00), (BASE + GDT + 12, 4, 0x00CF_9300)
    byte, elsewhere = (BASE + GDT + 8, 1, 5), (BASE + 4, 4, 0x100)
    assert in_order([flag, other, byte, elsewhere], bytes(memory)) == (other, byte, elsewhere)


def test_a_write_before_one_that_breaks_the_row_is_compared(beside: BesideUnicorn) -> None:
    ours, theirs = [(0, 1, 1), (9, 1, 2)], [(0, 1, 3), (9, 1, 2)]
    assert single._one(ours) == ours != single._one(theirs)
    assert single._one([(0, 1, 1), (1, 1, 2)]) == [(0, 2, 0x201)]


def test_a_prediction_that_says_nothing_is_no_comparison() -> None:
    fields = {"form": "nop", "shipped": True, "states": 9, "by_table": 0, "writes": 0}
    more: dict[str, Any] = {**fields, "refused": {}, "limits": {}}
    empty = FormRecord(compared=9, faults=2, registers=0, **more)
    faults = FormRecord(compared=9, faults=9, registers=0, **more)
    assert not_compared([empty, faults]) == ["nop"]


def test_a_unicorn_that_keeps_its_registers_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unicorn_cpu, "_FIRST_SEGMENT", 192)
    unicorn_cpu._start.cache_clear()
    try:
        with pytest.raises(UserError, match="another order"):
            unicorn_cpu._start()
    finally:
        unicorn_cpu._start.cache_clear()
