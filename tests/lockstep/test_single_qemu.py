# SPDX-License-Identifier: GPL-2.0-only
"""Single instructions beside QEMU's CPU: in all modes, from the very state that was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from harness.lockstep import beside_qemu as beside_qemu_module
from harness.lockstep import forbidden, single
from harness.lockstep.alone import predicted
from harness.lockstep.beside_qemu import BesideQemu, beside_qemu
from harness.lockstep.draw import states
from harness.lockstep.emulated import Emulation
from harness.lockstep.forms import forms, of_the_list
from harness.lockstep.qemu_log import read
from harness.lockstep.single import Tally, compare_form, compare_state, instruction_of
from harness.lockstep.singles import MODES
from harness.lockstep.state import BASE, CODE, TABLES, After, State
from harness.lockstep.unicorn_cpu import PHYS_BITS
from harness.qemu.log import Logged
from harness.qemu.vm import QemuFailed
from models.modes import CR0_ET, CR0_PE, CR0_PG, Mode
from tests.lockstep.test_single import halted_otherwise, one_form, one_too_many, tallies


@pytest.fixture(scope="module")
def beside(needs_qemu: None) -> Iterator[BesideQemu]:
    with beside_qemu() as running:
        yield running


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_each_system_instruction_does_what_the_cpu_does(mode: Mode, beside: BesideQemu) -> None:
    found = tallies(forms(of_the_list(mode, plain=False)), 2, beside)
    assert len(found) > 45
    assert sum(t.compared for t in found.values()) > 0.8 * sum(t.states for t in found.values())
    if mode is not Mode.REAL16:
        assert sum(t.faults for t in found.values()) > 2


@pytest.mark.parametrize("mode", [Mode.REAL16, Mode.PROTECTED32, Mode.LONG64])
def test_plain_instructions_do_what_the_cpu_does(mode: Mode, beside: BesideQemu) -> None:
    plain = [form for form in forms(of_the_list(mode)) if form.plain]
    for form in Random(mode.name).sample(plain, 25):
        tally, difference = compare_form(form, 2, Random(form.name), beside)
        assert difference is None
        assert tally.compared, form.name


def test_a_wrong_machine_is_found(beside: BesideQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that adds one too many where RBX is odd, RBX is what is left."""
    monkeypatch.setattr(single, "predicted", one_too_many)
    _, found = compare_form(one_form(Mode.LONG64, "addq %rbx, %rax"), 20, Random(0), beside)
    assert found is not None
    assert (found.difference.by, found.difference.what) == ("machine", "rax")
    assert {name for name, value in found.smallest.registers.items() if value} == {"rbx"}


def drawn(mode: Mode, text: str, seed: int = 0) -> State:
    return next(states(one_form(mode, text), 1, Random(seed)))


def run(beside: BesideQemu, state: State) -> tuple[After, After]:
    """What the machine says, and what QEMU's CPU does."""
    instruction = instruction_of(state)
    state = beside.prepared(state, instruction)
    ours = predicted(state, beside.features)
    return ours, beside.run(state, instruction, ours)


def test_a_state_that_the_cpu_could_not_be_put_into_is_no_comparison(beside: BesideQemu) -> None:
    state = drawn(Mode.REAL16, "nop")
    there = {**state.segments["ds"], "base": 0x1234}  # real mode derives it from the selector
    state = replace(state, segments={**state.segments, "ds": there})
    with pytest.raises(QemuFailed, match=r"could not be put into a state of real.*ds_base"):
        run(beside, state)


def test_a_jump_to_where_no_halt_can_be_is_not_watched(beside: BesideQemu) -> None:
    state = drawn(Mode.PROTECTED32, "jmp *%edx")
    state = replace(state, registers={**state.registers, "rdx": 0x1234})
    tally = Tally()
    assert compare_state(one_form(Mode.PROTECTED32, "jmp *%edx"), state, beside, tally) is None
    assert (tally.states, tally.compared, tally.refused.total()) == (1, 0, 1)


def test_a_fetch_that_fails_behind_the_instruction_is_not_its_fault(beside: BesideQemu) -> None:
    """Where CR3 leads to no tables, MOV itself completes."""
    state = drawn(Mode.LONG64, "mov %rax, %cr3")
    state = replace(state, registers=dict.fromkeys(state.registers, 0x100_0000))
    ours, seen = run(beside, state)
    assert seen.fault is None
    assert seen.registers["cr3"] == ours.registers["cr3"] == 0x100_0000
    length = instruction_of(state).length
    assert seen.linear == ours.linear == BASE + CODE + length


def test_a_fault_of_the_instruction_is_told_by_its_number(beside: BesideQemu) -> None:
    state = drawn(Mode.PROTECTED32, "mov %ax, %ds")
    state = replace(state, registers={**state.registers, "rax": 0x7FF8})  # beyond the GDT
    ours, seen = run(beside, replace(state, memory=_with_ax(state.memory)))
    assert ours.fault is not None and ours.detail.startswith("#GP")
    assert seen.fault == 13
    assert seen.linear == BASE + CODE


def _with_ax(memory: bytes) -> bytes:
    """`mov %eax, %ds`, whatever register was drawn."""
    code = bytes((0x8E, 0xD8))
    return memory[:CODE] + code + b"\x90" + memory[CODE + 3 :]


@pytest.mark.parametrize("to", [CODE, CODE + 1, 1, 0x4100])
def test_a_jump_into_itself_or_the_loader_is_not_watched(to: int, beside: BesideQemu) -> None:
    state = drawn(Mode.PROTECTED32, "jmp *%edx")
    state = replace(state, registers=dict.fromkeys(state.registers, BASE + to))
    tally = Tally()
    assert compare_state(one_form(Mode.PROTECTED32, "jmp *%edx"), state, beside, tally) is None
    assert (tally.states, tally.compared, tally.refused.total()) == (1, 0, 1)


@pytest.mark.parametrize("text", ["nop", "hlt"])
def test_a_halt_is_seen(text: str, beside: BesideQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    form = one_form(Mode.PROTECTED32, text)
    assert compare_form(form, 12, Random(0), beside)[1] is None
    monkeypatch.setattr(single, "predicted", halted_otherwise)
    _, found = compare_form(form, 12, Random(0), beside)
    assert found is not None and found.difference.what == "end"


def test_the_first_exception_counts_where_delivering_it_raises_another(beside: BesideQemu) -> None:
    """In real mode, with an empty IDT: UD2 is no #GP."""
    state = drawn(Mode.REAL16, "nop")
    memory = state.memory[:CODE] + bytes((0x0F, 0x0B)) + state.memory[CODE + 2 :]
    state = replace(state, memory=memory)
    instruction = instruction_of(state)
    seen = beside.run(beside.prepared(state, instruction), instruction, After(fault=0))
    assert (seen.fault, seen.parked, seen.linear) == (6, False, BASE + CODE)


def writing_cr0(value: int) -> State:
    """`mov %eax, %cr0` in real mode."""
    state = drawn(Mode.REAL16, "nop")
    memory = state.memory[:CODE] + bytes((0x0F, 0x22, 0xC0)) + state.memory[CODE + 3 :]
    return replace(state, memory=memory, registers={**state.registers, "rax": value})


@pytest.mark.parametrize(
    ("value", "is_forbidden"),
    [(CR0_PG | CR0_ET, True), (CR0_PG | CR0_PE | CR0_ET, False), (CR0_PE | CR0_ET, False)],
)
def test_paging_without_protected_mode_shows_in_what_was_written(
    value: int, is_forbidden: bool, beside: BesideQemu
) -> None:
    """QEMU turns paging on, and then can fetch nothing, of which real mode logs no registers."""
    state = writing_cr0(value)
    ours, seen = run(beside, state)
    assert (ours.fault is not None) == is_forbidden and seen.fault is None
    assert seen.registers["cr0"] == value
    assert forbidden.cr0(state, seen) == is_forbidden


@pytest.mark.parametrize("bit", [PHYS_BITS, 62])
def test_an_instruction_that_never_ends_shows_in_what_was_written(
    bit: int, beside: BesideQemu
) -> None:
    """QEMU begins MOV anew for ever where it finds reserved bits for CR3."""
    form = one_form(Mode.LONG64, "mov %rax, %cr3")
    state = drawn(Mode.LONG64, "mov %rax, %cr3")
    state = replace(state, registers=dict.fromkeys(state.registers, TABLES | 1 << bit))
    ours, seen = run(beside, state)
    assert ours.fault is not None and ours.detail == "#GP: CR3 has a reserved bit set"
    assert (seen.stuck, seen.fault, seen.linear) == (True, None, BASE + CODE)
    assert forbidden.cr3(state, seen)
    assert not forbidden.cr3(replace(state, registers=dict.fromkeys(state.registers, 0)), seen)
    tally = Tally()
    assert compare_state(form, state, beside, tally) is None
    assert (tally.compared, tally.limits.total()) == (0, 1)


def test_an_instruction_that_never_ends_and_should_is_a_difference(
    beside: BesideQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = drawn(Mode.LONG64, "mov %rax, %cr3")
    state = replace(state, registers=dict.fromkeys(state.registers, TABLES | 1 << PHYS_BITS))
    monkeypatch.setattr(single, "predicted", lambda state, features: After(state.registers))
    form = one_form(Mode.LONG64, "mov %rax, %cr3")
    found = compare_state(form, state, beside, Tally())
    assert found is not None and (found.what, found.observed) == ("end", "it never ends")


def test_a_cpu_that_comes_too_late_is_asked_again(
    beside: BesideQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing, turns = Emulation(), []

    def late(log: Logged) -> Emulation:
        turns.append(log)
        return nothing if len(turns) < late_until else read(log)

    monkeypatch.setattr(beside_qemu_module, "read", late)
    state = drawn(Mode.PROTECTED32, "nop")
    late_until = 3
    assert run(beside, state)[1].linear == BASE + CODE + 1
    turns.clear()
    late_until = 100
    with pytest.raises(QemuFailed, match="does not come to `nop`, 3 times"):
        run(beside, state)
