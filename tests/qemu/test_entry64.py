# SPDX-License-Identifier: GPL-2.0-only
"""The target CPU is handed over in 64-bit mode, just as the job says, wherever things lie."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from harness.qemu import firmware
from harness.qemu.bench import replay_ms
from harness.qemu.debugger import GENERAL
from harness.qemu.entry64 import identity_tables, tables_of_small_pages
from harness.qemu.job import BadJob, Entry64, Injection, Job, OutcomeKind
from harness.qemu.machine import Machine
from harness.qemu.protocol import P
from tests.qemu.jobs import GIB, MIB, make_job, target

NOP, PARK = b"\x90", b"\xf4\xeb\xfd"  # hlt; jmp to it
HIGH = 5 * GIB + 0x123
HIGH_TABLES = 6 * GIB
VALUES = {name: (0xA5 + at) << 56 | 0x1234_5678 << at for at, name in enumerate(GENERAL)}
LA57 = 0x1000

LOW_CODE, LOW_TABLES = 0x8000, 0x20000
DOWN_UP = target("down_up")
DOWN_UP_HIGH = DOWN_UP.code[: DOWN_UP.labels["image_end"]]
DOWN_UP_LOW = DOWN_UP.code[DOWN_UP.labels["low"] :]


def arrives(entry: Entry64, **rest: Any) -> Job:
    """A job whose image is entered where the payload stands."""
    job = Job(NOP, entry.address, entry.address, None, entry=entry)
    return replace(job, **rest)


def down_up(levels: int, tables: int | None = None, new: bytes | None = None) -> Job:
    """A job that goes to 32-bit code and up to paging with the other number of levels.

    `new`: the tables that it then uses.
    """
    wanted = 9 - levels
    own = {"rbx": LOW_CODE, "rcx": LOW_TABLES, "rdx": 0x1020 if wanted == 5 else 0x20}
    entry = Entry64(HIGH, {**VALUES, **own}, levels, tables)
    new = new or identity_tables(LOW_TABLES, wanted, 40)
    before = (LOW_CODE, DOWN_UP_LOW), (LOW_TABLES, new)
    back = HIGH + DOWN_UP.labels["back"]
    return Job(DOWN_UP_HIGH, HIGH, back, None, before=before, entry=entry)


def low(label: str) -> int:
    """Where a label of the low part of down_up.S lies."""
    return LOW_CODE + DOWN_UP.labels[label] - DOWN_UP.labels["low"]


@pytest.mark.parametrize("address", [0, 0x9F001, 3 * GIB, HIGH, 800 * GIB])
@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("tables", [None, 0x40000, HIGH_TABLES])
def test_all_is_as_the_job_says(
    machine: Machine, address: int, levels: int, tables: int | None
) -> None:
    entry = Entry64(address, VALUES, levels, tables, cr0=0x10020, cr4=0x80, efer=0x800)
    outcome = machine.replay(arrives(entry, probes=(MIB, 4 * GIB, 899 * GIB)))
    assert outcome.kind is OutcomeKind.HAND_OFF
    expected = {
        **VALUES,
        **{"rip": address, "rflags": 2, "efer": 0xD00},
        **{"cr0": 0x80010031, "cr2": 0, "cr3": P["TABLES"] if tables is None else tables},
        **{"cr4": 0x10A0 if levels == 5 else 0xA0},
        **{"cs": 0x10, "ds": 0x18, "es": 0x18, "ss": 0x18, "fs": 0, "gs": 0, "tr": 0, "ldtr": 0},
        **{"gdtr_limit": 31, "idtr_base": 0, "idtr_limit": 0},
    }
    assert {name: outcome.registers[name] for name in expected} == expected
    assert outcome.probes_done == 3 and outcome.loads_match()


def test_registers_that_are_not_named_are_zero(machine: Machine) -> None:
    outcome = machine.replay(arrives(Entry64(HIGH, {"rsp": 0x80000})))
    assert outcome.registers["rsp"] == 0x80000
    assert {outcome.registers[name] for name in GENERAL if name != "rsp"} == {0}
    assert (outcome.registers["cr0"], outcome.registers["cr4"]) == (0x80000011, 0x20)


@pytest.mark.parametrize("start", range(0, 0xA0000, 0x28000))
def test_no_byte_below_640_kib_changes(machine: Machine, start: int) -> None:
    data = (bytes(range(1, 256)) * 0x300)[:0x28000]
    job = Job(PARK, HIGH, HIGH, None, place_payload=False, entry=Entry64(HIGH, levels=5))
    held = replace(job, before=((start, data),), dumps=((start, len(data)),))
    outcome = machine.replay(held)
    assert outcome.kind is OutcomeKind.PARKED
    assert outcome.memory == (data,)


@pytest.mark.parametrize(("selector", "kind"), [(8, "SHUTDOWN"), (0x10, "PARKED")])
def test_gdt_has_a_code_descriptor_at_16_and_none_at_8(
    machine: Machine, selector: int, kind: str
) -> None:
    far_jump = b"\xff\x2d" + bytes(4) + (0x3000).to_bytes(4, "little") + bytes([selector, 0])
    job = Job(far_jump, HIGH, MIB, None, before=((0x3000, PARK),), entry=Entry64(HIGH))
    assert machine.replay(job).kind is OutcomeKind[kind]


@pytest.mark.parametrize("phys_bits", [36, 46, 52])
def test_tables_map_no_more_than_maxphyaddr_allows(needs_qemu: None, phys_bits: int) -> None:
    end = min(1 << phys_bits, 2048 * GIB)
    entry = Entry64(HIGH, levels=5, tables=HIGH_TABLES)
    with Machine(phys_bits) as machine:
        outcome = machine.replay(arrives(entry, probes=(end - 8, end)))
    assert outcome.kind is OutcomeKind.SHUTDOWN_AFTER_HAND_OFF
    assert outcome.probes_done == 1


def test_tables_have_1_gib_pages_on_any_cpu(needs_qemu: None) -> None:
    with Machine(lacking=frozenset({"pdpe1gb", "la57", "nx"})) as machine:
        assert machine.replay(arrives(Entry64(HIGH))).kind is OutcomeKind.HAND_OFF
        assert machine.replay(make_job("boot")).kind is OutcomeKind.HAND_OFF
        for entry in (Entry64(HIGH, levels=5), Entry64(HIGH, efer=0x800)):
            with pytest.raises(BadJob, match="the CPU lacks"):
                machine.replay(arrives(entry))


# Other modes and back.


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("tables", [None, HIGH_TABLES])
def test_down_to_32_bit_code_and_up_with_other_paging(
    machine: Machine, levels: int, tables: int | None
) -> None:
    """A register's upper half stays, but goes where 32-bit code wrote: QEMU's choice."""
    outcome = machine.replay(down_up(levels, tables))
    assert outcome.kind is OutcomeKind.HAND_OFF
    assert outcome.registers["cr3"] == LOW_TABLES
    assert bool(outcome.registers["cr4"] & LA57) is (levels == 4)
    kept = ("rsi", *(f"r{number}" for number in range(8, 16)))
    assert {name: outcome.registers[name] for name in kept} == {n: VALUES[n] for n in kept}
    assert outcome.registers["rbp"] == low("tail")


def test_old_table_below_a_new_top_level_does_for_5_levels(machine: Machine) -> None:
    entry = (HIGH_TABLES | 7).to_bytes(8, "little")
    outcome = machine.replay(down_up(4, HIGH_TABLES, entry + b"\xa5" * (0x1000 - len(entry))))
    assert outcome.kind is OutcomeKind.HAND_OFF


@pytest.mark.parametrize("levels", [4, 5])
def test_tables_are_walked_with_the_levels_that_cr4_says(machine: Machine, levels: int) -> None:
    new = identity_tables(LOW_TABLES, levels, 40)
    assert machine.replay(down_up(levels, new=new)).kind is OutcomeKind.SHUTDOWN


def test_tables_of_2_mib_pages_map_memory_to_itself(machine: Machine) -> None:
    """They are CPU 0's where KVM gives no 1 GiB pages."""
    new = tables_of_small_pages(LOW_TABLES, 8 * GIB)
    assert machine.replay(down_up(5, new=new)).kind is OutcomeKind.HAND_OFF
    less = new[:-0x3000] + bytes(0x3000)
    assert machine.replay(down_up(5, new=less)).kind is OutcomeKind.SHUTDOWN


@pytest.mark.parametrize("levels", [4, 5])
def test_la57_does_not_change_under_paging(machine: Machine, levels: int) -> None:
    code = target("la57_under_paging").code
    job = Job(code, HIGH, 7 * GIB, None, entry=Entry64(HIGH, {"rbx": 7 * GIB}, levels))
    assert machine.replay(job).kind is OutcomeKind.SHUTDOWN


def test_registers_are_injected_where_64_bit_code_begins_again(machine: Machine) -> None:
    whole = {f"r{number}": 0xF0 - number << 56 | number for number in range(8, 16)}
    injection = Injection(low("tail"), {"rsi": 0x55}, whole)
    for _ in range(3):
        outcome = machine.replay(replace(down_up(4), injection=injection))
        assert outcome.injected and outcome.kind is OutcomeKind.HAND_OFF
        assert {name: outcome.registers[name] for name in whole} == whole
        assert outcome.registers["rsi"] == 0x55 << 32 | VALUES["rsi"] & 0xFFFF_FFFF


def test_compatibility_mode_is_not_changed(machine: Machine) -> None:
    job = replace(down_up(4), injection=Injection(low("to_64"), registers={"r8": 1}))
    outcome = machine.replay(job)
    assert (outcome.injected, outcome.kind) == (False, OutcomeKind.HAND_OFF)
    assert outcome.registers["r8"] == VALUES["r8"]


# What is asked for, and what cannot be.


def test_payload_takes_the_place_of_the_images_bytes(machine: Machine) -> None:
    image, kernel = bytes(0x1000), HIGH + 0x400
    job = Job(b"\xeb\x0e" + image, HIGH, HIGH + 0x10, None, entry=Entry64(HIGH))  # jmp to + 0x10
    assert machine.replay(job).kind is OutcomeKind.HAND_OFF
    outcome = machine.replay(
        Job(image, HIGH, kernel, None, entry=Entry64(kernel), dumps=((HIGH, 0x1000),))
    )
    assert outcome.kind is OutcomeKind.HAND_OFF
    assert outcome.memory[0][:0x400] == image[:0x400]
    assert outcome.memory[0][0x400:0x402] == firmware.payload(1)[:2]


@pytest.mark.parametrize("rsi", [0, 1 << 41, 1 << 63])
def test_rsi_is_no_pointer_without_boot_params(machine: Machine, rsi: int) -> None:
    outcome = machine.replay(arrives(Entry64(HIGH, {"rsi": rsi}), probes=(7 * GIB,)))
    assert outcome.kind is OutcomeKind.HAND_OFF
    assert (outcome.magic_seen, outcome.magic_expected) == (None, None)
    assert outcome.probe_values == outcome.probe_expected


def test_tables_are_erased_with_the_job(machine: Machine) -> None:
    entry = Entry64(HIGH, tables=HIGH_TABLES)
    assert machine.replay(arrives(entry)).kind is OutcomeKind.HAND_OFF
    later = arrives(Entry64(HIGH), dumps=((HIGH_TABLES, 0x6000),))
    assert machine.replay(later).memory == (bytes(0x6000),)


def test_sentence_for_what_cannot_be_handed_over(machine: Machine) -> None:
    good = Entry64(HIGH)
    bad = {
        "paging with 3 levels: 4 or 5": replace(good, levels=3),
        "cr0 0x20000000: NW needs CD": replace(good, cr0=1 << 29),
        "cr0 0x10: only bits of 0x6005002e can be added": replace(good, cr0=1 << 4),
        "cr4 0x2000: only bits of 0x770fdf can be added": replace(good, cr4=1 << 13),
        "efer 0x400: only bits of 0x801 can be added": replace(good, efer=1 << 10),
        "'eax' is no general register of 64 bits": replace(good, registers={"eax": 1}),
        "rax = 0x10000000000000000: not a value of 64 bits": replace(
            good, registers={"rax": 1 << 64}
        ),
        "rax = -0x1: not a value of 64 bits": replace(good, registers={"rax": -1}),
        "no RAM where the CPU shall start: 0xa0000": replace(good, address=0xA0000),
        "page tables at 0x180000800: not 12288 bytes of RAM, page aligned": replace(
            good, tables=HIGH_TABLES + 0x800
        ),
        "page tables at 0x9e000: not 16384 bytes of RAM, page aligned": replace(
            good, tables=0x9E000, levels=5
        ),
        "page tables at 0x13fffe000 would overwrite image or `before`": replace(
            good, tables=5 * GIB - 0x2000
        ),
    }
    for sentence, entry in bad.items():
        job = Job(NOP, HIGH - 0x123, 7 * GIB, None, entry=entry)
        with pytest.raises(BadJob, match=f"^{re.escape(sentence)}$"):
            machine.replay(job)


def test_sentence_for_what_lies_in_the_way(machine: Machine) -> None:
    good = Job(NOP, HIGH, HIGH, None, entry=Entry64(HIGH, tables=HIGH_TABLES))
    bad = {
        "no RAM for the image at 0x9ffff, 2 bytes": replace(good, base=0x9FFFF, image=NOP * 2),
        "payload at 0x140000122 would overwrite the image at 0x140000123": replace(
            good, kernel=HIGH - 1
        ),
        "payload at 0x180000ff8 would overwrite page tables at 0x180000000": replace(
            good, kernel=HIGH_TABLES + 0xFF8
        ),
        "page tables at 0x180000000 would overwrite image or `before`": replace(
            good, before=((HIGH_TABLES + 8, b"a"),)
        ),
        "rsi = 0x100000000: not a value of 32 bits": replace(
            good, injection=Injection(HIGH, {"rsi": 1 << 32})
        ),
    }
    for sentence, job in bad.items():
        with pytest.raises(BadJob, match=f"^{re.escape(sentence)}$"):
            machine.replay(job)
    assert machine.replay(good).kind is OutcomeKind.HAND_OFF


def test_every_bit_that_can_be_added_is_there(machine: Machine) -> None:
    entry = Entry64(HIGH, cr0=0x6005_002E, cr4=0x77_0FDF, efer=0x801, levels=5)
    outcome = machine.replay(arrives(entry))
    assert outcome.kind is OutcomeKind.HAND_OFF
    names = ("cr0", "cr4", "efer")
    assert [outcome.registers[n] for n in names] == [0xE005_003F, 0x77_1FFF, 0xD01]


def test_hand_over_takes_less_than_5_ms(needs_qemu: None) -> None:
    assert replay_ms([down_up(4, HIGH_TABLES)] * 50) < 5
