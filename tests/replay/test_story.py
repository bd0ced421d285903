# SPDX-License-Identifier: GPL-2.0-only
"""The story of a witness names what changes, with its values, up to what is violated.

The layout of the RFC's tables: PML4, PDPT, four page directories, one more; 4 KiB each.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
import z3

from harness.record import StepRecord
from harness.replay.changes import NOT_FIXED, Concrete, RegisterChanges, Registers
from harness.replay.places import Places, symbol_before, walk_words
from harness.replay.story import AT_ONCE, story
from harness.solve.obligation import Obligation, Witness
from harness.x86.run import EndKind
from harness.x86.tables import linear_address
from harness.x86.terms import VECTOR, const
from models.modes import Mode
from models.paging import Access
from tests.replay.conftest import BASE, GIB, MIB, RFC, Subject, given, load

KERNEL = z3.BitVec("kernel_phys_addr", 64)
GOAL = "the kernel lies below 4 GiB"
NEAR = Obligation("kernel", (), {GOAL: z3.ULT(KERNEL, 4 * GIB)})


def witness(kernel: int, *violated: str, boot_params: int = 2 * MIB) -> Witness:
    return Witness(dict(given(kernel, boot_params).values), {}, violated)


def told(subject: Subject, kernel: int, obligation: Obligation = NEAR) -> tuple[StepRecord, ...]:
    chosen = witness(kernel, *obligation.goals)
    return story(subject.contract, subject.predictor, chosen, obligation)


def lines(steps: Sequence[StepRecord]) -> list[str]:
    return [change for step in steps for change in step.changes]


@pytest.fixture(scope="module")
def stray(rfc: Subject) -> tuple[StepRecord, ...]:
    """A kernel at 512 GiB: its PDPT entry is written behind the PDPT."""
    return told(rfc, 512 * GIB)


@pytest.fixture(scope="module")
def far(rfc: Subject) -> tuple[StepRecord, ...]:
    """A kernel at 5 GiB: it is handed over to."""
    return told(rfc, 5 * GIB)


def test_the_status_word_has_its_name_and_value(stray: tuple[StepRecord, ...]) -> None:
    (step,) = [s for s in stray if "trampoline_status_bsp = 0xa5a5a5a5 (4 bytes)" in s.changes]
    assert step.symbol == "trampoline_data_bsp+0xb"
    assert step.source.startswith("trampoline.S:") and step.instruction.startswith("mov dword")


def test_mode_changes_come_in_order_and_fit_the_mode_of_the_next_step(
    stray: tuple[StepRecord, ...],
) -> None:
    assert [line for line in lines(stray) if line.startswith("mode: ")] == [
        "mode: real-address mode -> 16-bit protected mode",
        "mode: 16-bit protected mode -> 32-bit protected mode",
        "mode: 32-bit protected mode -> 32-bit compatibility mode",
        "mode: 32-bit compatibility mode -> 64-bit mode",
    ]
    for step, following in pairwise(stray):
        switch = f"mode: {step.mode} -> {following.mode}"
        assert (switch in step.changes) is (step.mode != following.mode)


def test_control_registers_and_tables_say_what_they_turn_on(stray: tuple[StepRecord, ...]) -> None:
    wanted = [
        "CR0 = 0x60000011 (PE = 1)",
        "CS = 0x8 (base 0x0, limit 0xffffffff)",
        "GDTR: base 0x901a0 (gdt_bsp_64), limit 0x30",
        "CR4 = 0x20 (PAE = 1)",
        "CR3 = base + 0x2000 = 0x92000 (pgtable_bsp)",
        "EFER = 0x100 (LME = 1)",
        "CR0 = 0x80000011 (NW = 0, CD = 0, PG = 1)",
        "EFER = 0x500 (LMA = 1)",
        "CS = 0x10 (64-bit code)",
    ]
    told_lines = lines(stray)
    places = [told_lines.index(line) for line in wanted]
    assert places == sorted(places)


def test_table_entries_are_named_by_the_walk_that_reaches_them(
    far: tuple[StepRecord, ...],
) -> None:
    told_lines = lines(far)
    for line in (
        "PML4[0] = base + 0x3007 = 0x93007 (4 bytes at pgtable_bsp)",
        "PML4[0].PDPT[0] = base + 0x4007 = 0x94007 (4 bytes at pgtable_bsp+0x1000)",
        "PML4[0].PDPT[5] = base + 0x8007 = 0x98007 (8 bytes at pgtable_bsp+0x1028), a table in ",
        "PML4[0].PDPT[5].PD[511] = (kernel_phys_addr[63:30] << 30) + 0x3fe00183 = 0x17fe00183 (8 ",
    ):
        assert any(told.startswith(line) for told in told_lines), line


def test_the_stray_store_hits_a_directory_in_use_and_is_the_last_step_but_the_end(
    stray: tuple[StepRecord, ...],
) -> None:
    entry = "PML4[0].PDPT[0].PD[0] = base + 0x8007 = 0x98007 (8 bytes at pgtable_bsp+0x2000)"
    assert stray[-2].changes == (f"{entry}, a table in use; was 0x183",)
    end = stray[-1]
    assert end.count == 0
    assert end.instruction.startswith(f"end: {EndKind.TABLE_IN_USE.value}: a store changes")
    assert end.offset == stray[-2].offset
    assert f"violated: {GOAL} (kernel_phys_addr = 0x8000000000)" in end.changes


def test_summarised_loops_are_one_step_with_count_and_range(far: tuple[StepRecord, ...]) -> None:
    (fill,) = [step for step in far if ".rep" in step.instruction]
    assert fill.count == 6 * 4096 // 4
    assert any("6,143 stores of 4 bytes, 0x4 apart: each 0x0" in c for c in fill.changes)
    loops = [step for step in far if step.instruction == AT_ONCE]
    assert [step.count for step in loops] == [2, 2046, 510]
    assert loops[1].changes[0] == (
        "PML4[0].PDPT[0].PD[1] to PML4[0].PDPT[3].PD[510]: "
        "2,046 stores of 4 bytes, 0x8 apart: 0x200183 to 0xffc00183"
    )
    assert "ECX = 0x1" in loops[1].changes


def test_every_executed_instruction_is_there_once(
    rfc: Subject, far: tuple[StepRecord, ...]
) -> None:
    end = rfc.predictor.predict(given(5 * GIB)).end
    steps = [step for step in far if step.instruction != AT_ONCE][:-1]
    assert [int(step.offset, 16) for step in steps] == [offset for offset, _ in end.trace]
    assert [step.symbol for step in steps] == [symbol_before(rfc.image, o) for o, _ in end.trace]


def test_the_last_values_told_are_those_at_the_end(
    rfc: Subject, far: tuple[StepRecord, ...]
) -> None:
    at_end = rfc.predictor.predict(given(5 * GIB)).registers()
    last: dict[str, int] = {}
    for line in lines(far[:-1]):
        if match := re.match(r"([RE]?[A-Z][A-Z0-9]{1,3}) = (?:.* = )?(0x[0-9a-f]+)", line):
            name = match[1].lower()
            last[f"r{name[1:]}" if re.fullmatch("e..", name) else name] = int(match[2], 16)
    assert {"rax", "rcx", "rsi", "r14", "cs", "ds", "cr0", "cr3", "cr4", "efer"} <= last.keys()
    assert last == {name: at_end[name] for name in last}


def test_writes_outside_the_image_are_told_with_their_address(far: tuple[StepRecord, ...]) -> None:
    assert "0x11e8 (outside the image) = base + 0x104 = 0x90104 (4 bytes)" in lines(far)


def test_a_number_that_only_looks_like_an_address_gets_no_symbol(
    far: tuple[StepRecord, ...],
) -> None:
    assert "EAX = base + 0x5c = 0x9005c (startup_32_bsp)" in lines(far)
    assert "EAX = (base[19:16] << 16) + 0x1 = 0x90001" in lines(
        far
    )  # AX = 1 below an old upper half
    assert not any("not fixed" in line for line in lines(far) if line.startswith("EAX"))


@pytest.mark.parametrize("kernel", [16 * MIB, 5 * GIB, 520 * GIB])
@pytest.mark.parametrize("linear", [0, BASE, 16 * MIB, 4 * GIB, 5 * GIB + 1, 6 * GIB, 1 << 47])
def test_the_walk_told_agrees_with_the_prediction(rfc: Subject, kernel: int, linear: int) -> None:
    goal = {"mapped": linear_address == 0}
    chosen = witness(kernel, "mapped")
    chosen.values[str(linear_address)] = linear
    end = story(rfc.contract, rfc.predictor, chosen, Obligation("map", (), goal))[-1]
    (walk,) = [c for c in end.changes if c.startswith("translation of ")]
    mapped = rfc.predictor.predict(given(kernel)).mapped(linear, Access.READ)
    assert walk.startswith(f"translation of {linear:#x}: ")
    assert walk.endswith(f"mapped to {linear:#x}") is mapped


def test_the_probe_of_an_obligation_is_walked(rfc: Subject) -> None:
    probed = Obligation("k", (), {GOAL: z3.ULT(KERNEL, 4 * GIB)}, probe=KERNEL + GIB)
    end = told(rfc, 5 * GIB, probed)[-1]
    walk = "PML4[0] = 0x93007, PML4[0].PDPT[6] = 0x0, not present"
    assert f"translation of 0x180000000: {walk}" in end.changes
    assert any(c.startswith("RIP = 0x140000000, RSI = 0x200000, CS = 0x10") for c in end.changes)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (0x83, "mapped to 0x1000"),
        (0x81, "mapped to 0x1000, no write"),
        (0x83 | 1 << 63, "mapped to 0x1000, no fetch"),
        (0x83 | 1 << 45, "a reserved bit is set"),
        (0x3000 | 3, "through a table outside the image"),
        (0, "not present"),
    ],
)
def test_a_walk_says_how_it_ends(rfc: Subject, entry: int, said: str) -> None:
    data = bytearray(0x2000)
    data[:8] = (BASE + 0x1003).to_bytes(8, "little")
    data[0x1000:0x1008] = entry.to_bytes(8, "little")
    places = Places(rfc.image, BASE, bytes(data), [BASE])
    words = walk_words(places, 0x1000, BASE, efer=1 << 11, gib_pages=1, maxphyaddr=40)
    assert words.endswith(f", {said}")
    assert f"PML4[0].PDPT[0] = {entry:#x}" in words


def test_a_value_that_the_witness_leaves_open_is_marked(rfc: Subject) -> None:
    concrete = Concrete(rfc.predictor.predict(given(16 * MIB)))
    loose = z3.BitVec("r9_at_entry", 64)
    assert concrete.remark(loose + KERNEL) == NOT_FIXED
    assert concrete.remark(KERNEL + z3.ZeroExt(56, z3.BitVec(VECTOR, 8))) == ""
    assert concrete.value(loose + KERNEL) == 16 * MIB and concrete.value(const(7)) == 7


def test_registers_that_become_open_are_named_once(rfc: Subject) -> None:
    prediction = rfc.predictor.predict(given(16 * MIB))
    places = Places(rfc.image, BASE, prediction.image_after, [])
    at_entry = prediction.end.history[0].values
    registers = RegisterChanges(Concrete(prediction), places, at_entry)
    upper = z3.Concat(z3.BitVec("upper_half_1", 32), z3.BitVecVal(0, 32))
    written: Registers = {"rbx": upper, "rbp": upper, "rdx": at_entry["rdx"]}
    assert registers.update(written, Mode.PROTECTED32) == []  # EDX was open before
    said = "RBX, RBP: not fixed by the witness from here on"
    assert registers.update(written, Mode.LONG64) == [said]
    assert registers.update(written, Mode.LONG64) == []
    assert registers.update({"rbx": const(0), "rbp": upper + 1}, Mode.LONG64) == [
        f"RBP = (upper_half_1 << 32) + 0x1 = 0x1{NOT_FIXED}"
    ]


def test_a_refusal_ends_with_its_status_word() -> None:
    hardened = load(RFC.parents[1] / "multikernel/contract.toml")
    refused = hardened.contract.shared.status.refused
    assert refused is not None
    end = told(hardened, 1 << 47)[-1]
    assert end.instruction == f"end: {EndKind.PARKED.value}"
    word = hardened.contract.shared.status.word
    assert f"the status word {word} holds {refused.kernel:#x}" in end.changes


def test_a_story_is_told_in_less_than_a_second(rfc: Subject) -> None:
    started = time.perf_counter()
    told(rfc, 6 * GIB)
    assert time.perf_counter() - started < 1
