# SPDX-License-Identifier: GPL-2.0-only
"""Each way that a kick can end is recognised, and what the payload reports is true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.qemu.job import BadJob, OutcomeKind
from harness.qemu.machine import Machine
from tests.qemu.jobs import GIB, MIB, REFUSED, make_job, target

LAST_BASE = 0xA0000 - 0x4000  # of boot.S, four pages


@pytest.mark.parametrize("base", [0x1000, 0x90000, LAST_BASE])
@pytest.mark.parametrize("kernel", [0x800, 16 * MIB + 3, 5 * GIB, 600 * GIB])
def test_hand_off_reports_what_the_image_left(machine: Machine, base: int, kernel: int) -> None:
    boot = target("boot").labels
    outcome = machine.replay(make_job("boot", base, kernel, 3 * MIB))
    assert outcome.kind is OutcomeKind.HAND_OFF
    assert outcome.magic_seen == outcome.magic_expected
    expected = {
        "rip": kernel,
        "r14": kernel,
        "rsi": 3 * MIB,
        "rax": 0x1111222233334444,
        "r15": 0x5555666677778888,
        "rcx": 0xC0000080,
        "r8": 0,
        "rsp": 0,
        "cr0": 0x80000011,
        "cr3": base + boot["pml4"],
        "cr4": 0x20,
        "efer": 0x500,
        "cs": 0x10,
        "ds": 0x18,
        "es": 0x18,
        "ss": 0x18,
        "fs": 0,
        "gdtr_base": base + boot["gdt"],
        "gdtr_limit": 31,
        "idtr_base": 0,
        "idtr_limit": 0,
    }
    assert {name: outcome.registers[name] for name in expected} == expected
    assert not outcome.registers["rflags"] & 0x200  # IF


def test_image_fits_into_the_last_page_below_640_kib(machine: Machine) -> None:
    assert machine.replay(make_job("fault", 0x9F000)).kind is OutcomeKind.SHUTDOWN


def test_triple_fault_in_the_image_is_a_shutdown(machine: Machine) -> None:
    outcome = machine.replay(make_job("fault"))
    assert outcome.kind is OutcomeKind.SHUTDOWN
    assert not outcome.arrived
    assert outcome.registers == {}


def test_unmapped_kernel_is_a_shutdown(machine: Machine) -> None:
    job = make_job("boot", kernel=1 << 41, place_payload=False)
    assert machine.replay(job).kind is OutcomeKind.SHUTDOWN


@pytest.mark.parametrize("boot_params", [1 << 41, 1 << 63])
def test_unmapped_boot_params_is_a_shutdown_after_the_hand_off(
    machine: Machine, boot_params: int
) -> None:
    outcome = machine.replay(make_job("boot", boot_params=boot_params, probes=(MIB,)))
    assert outcome.kind is OutcomeKind.SHUTDOWN_AFTER_HAND_OFF
    assert outcome.arrived
    assert outcome.registers["rip"] == 16 * MIB
    assert outcome.registers["rsi"] == boot_params
    assert outcome.magic_seen is None
    assert outcome.probes_done == 0


def test_faulting_probe_is_told_by_how_many_completed(machine: Machine) -> None:
    probes = (3 * GIB, 700 * GIB, 0x8000, 1 << 41, 4 * GIB)
    outcome = machine.replay(make_job("boot", probes=probes))
    assert outcome.kind is OutcomeKind.SHUTDOWN_AFTER_HAND_OFF
    assert outcome.magic_seen == outcome.magic_expected
    assert outcome.probes_done == 3
    assert outcome.probe_values == outcome.probe_expected[:3]
    assert None not in outcome.probe_values


def test_probe_mapped_elsewhere_does_not_match(machine: Machine) -> None:
    job = make_job("boot", probes=(5 * GIB,))
    image = bytearray(job.image)
    entry = target("boot").labels["pdpt"] + 5 * 8
    image[entry : entry + 8] = (6 * GIB + 0x83).to_bytes(8, "little")
    assert machine.replay(job).loads_match()
    outcome = machine.replay(replace(job, image=bytes(image)))
    assert outcome.kind is OutcomeKind.HAND_OFF
    assert not outcome.loads_match()


def test_payload_in_32_bit_code_is_the_wrong_mode(machine: Machine) -> None:
    assert machine.replay(make_job("wrong_mode")).kind is OutcomeKind.WRONG_MODE


def test_halted_cpu_is_parked(machine: Machine) -> None:
    outcome = machine.replay(make_job("park", base=0x5000))
    assert outcome.kind is OutcomeKind.PARKED
    assert outcome.stopped_at == 0x5000 + target("park").labels["parked"] + 1


def test_refusal_in_the_status_word_ends_the_wait(machine: Machine) -> None:
    job = make_job("park", refusals=(REFUSED,))
    assert job.status_address is not None
    outcome = machine.replay(replace(job, dumps=((job.status_address, 4),)))
    assert outcome.kind is OutcomeKind.PARKED
    assert outcome.seconds < 0.1  # the patience of this machine with a halted CPU
    assert outcome.memory == (REFUSED.to_bytes(4, "little"),)


def test_refusal_left_by_an_earlier_kick_is_not_believed(machine: Machine) -> None:
    job = make_job("boot")
    status = len(job.image)
    image = job.image + REFUSED.to_bytes(4, "little")
    job = replace(job, image=image, status_address=job.base + status, refusals=(REFUSED,))
    for _ in range(5):
        assert machine.replay(job).kind is OutcomeKind.HAND_OFF


def test_running_cpu_is_a_hang(machine: Machine) -> None:
    outcome = machine.replay(make_job("hang", base=0x7000))
    assert outcome.kind is OutcomeKind.HANG
    assert outcome.stopped_at == 0x7000


def test_payload_can_stand_inside_the_image(machine: Machine) -> None:
    kernel = 0x90000 + target("boot").labels["pml4"] + 0x800  # no entry of a table that is used
    outcome = machine.replay(make_job("boot", 0x90000, kernel))
    assert outcome.kind is OutcomeKind.HAND_OFF
    assert outcome.registers["rip"] == kernel


def test_old_payload_is_not_taken_for_a_new_one(machine: Machine) -> None:
    assert machine.replay(make_job("boot", kernel=9 * GIB)).kind is OutcomeKind.HAND_OFF
    outcome = machine.replay(make_job("boot", kernel=9 * GIB, place_payload=False))
    assert outcome.kind is OutcomeKind.SHUTDOWN


def test_boot_params_inside_the_payload_reads_the_payload(machine: Machine) -> None:
    outcome = machine.replay(make_job("boot", kernel=0, boot_params=0))
    assert outcome.kind is OutcomeKind.HAND_OFF
    assert outcome.magic_seen == outcome.magic_expected
    assert outcome.magic_seen is not None


def test_dumps_show_memory_after_the_run(machine: Machine) -> None:
    job = make_job("boot", base=0x3000, kernel=5 * GIB, boot_params=7 * GIB)
    pml4 = 0x3000 + target("boot").labels["pml4"]
    outcome = machine.replay(replace(job, dumps=((pml4, 16), (7 * GIB, 8))))
    table, magic = outcome.memory
    # The CPU sets the accessed bit in the entry that it used, and in no other.
    assert table == (pml4 + 0x1027).to_bytes(8, "little") + (pml4 + 0x2007).to_bytes(8, "little")
    assert int.from_bytes(magic, "little") == outcome.magic_expected


@pytest.mark.parametrize("phys_bits", [36, 46, 52])
def test_cpu_has_the_physical_address_bits_asked_for(needs_qemu: None, phys_bits: int) -> None:
    """A reserved bit in a page-table entry, or a good one, at bit 46 (SDM 3A 4.7)."""
    job = make_job("boot", probes=(900 * GIB,))
    image = bytearray(job.image)
    entry = target("boot").labels["pdpt"] + 900 * 8
    image[entry : entry + 8] = ((1 << 46) + 0x83).to_bytes(8, "little")
    with Machine(phys_bits) as machine:
        assert machine.has_ram(machine.ram[-1].stop - 8)
        outcome = machine.replay(replace(job, image=bytes(image)))
    faults = phys_bits <= 46
    assert outcome.probes_done == (0 if faults else 1)


def test_job_that_cannot_be_set_up_is_refused(machine: Machine) -> None:
    good = make_job("boot")
    bad = (
        replace(good, base=0x90800),
        replace(good, base=0),
        replace(good, base=0x9D000),
        replace(good, kernel=0x8FFF0),
        replace(good, kernel=0xD0000000),
        replace(good, kernel=1 << 45),
        replace(good, probes=(0,) * 9),
        replace(good, boot_params=1 << 64),
        replace(good, dumps=((0xB0000, 8),)),
        replace(good, refusals=(1,)),
        replace(good, again=-1),
    )
    for job in bad:
        with pytest.raises(BadJob):
            machine.replay(job)
    assert machine.replay(good).kind is OutcomeKind.HAND_OFF
