# SPDX-License-Identifier: GPL-2.0-only
"""What the machine logs of the target CPU."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from harness.qemu.job import Entry64, Job, OutcomeKind
from harness.qemu.log import EVERYWHERE, Log, Logged
from harness.qemu.machine import Machine

GIB = 1 << 30
CLI_HLT = "faf4"
STORE_AND_LOAD = "c70600013412a10001"  # movw $0x1234, 0x100; mov 0x100, %ax
STORE_BEHIND = "48c7050900000078563412"  # movq $0x12345678, 9(%rip): behind `cli; hlt`
NULL_IDT_UD2 = "2e660f011e08000f0b" + "00" * 16  # lidtl %cs:8; ud2


@pytest.fixture(scope="module")
def logging(needs_qemu: None) -> Iterator[Machine]:
    with Machine(logs=EVERYWHERE) as running:
        yield running


def real_mode(code: str) -> Job:
    return Job(bytes.fromhex(code), 0x1000, 1 << 24, None)


def stores(logged: Logged, behind: bytes) -> list[tuple[int, int, int, int]]:
    """Linear address, size, physical address and value, from there on."""
    lines = logged.text[logged.text.index(behind) :].splitlines()
    fields = [[int(f, 16) for f in line.split()[1:]] for line in lines if line.startswith(b"store")]
    return [(linear, size, logged.physical(ram), value) for linear, size, ram, value in fields]


def test_a_store_is_logged_with_its_value_behind_the_registers_before_it(logging: Machine) -> None:
    assert logging.replay(real_mode(STORE_AND_LOAD + CLI_HLT)).kind is OutcomeKind.PARKED
    logged = logging.logged()
    assert stores(logged, b"EIP=00000000 ") == [(0x100, 2, 0x100, 0x1234)]  # and not the load
    first, second, third, *_ = logged.text[logged.text.index(b"EAX=") :].split(b"EAX=")[1:]
    assert b"EIP=00000000" in first and b"store" in first
    assert b"EIP=00000006" in second and b"store" not in second
    assert third.startswith(b"00001234") and b"EIP=00000009" in third


def test_the_physical_address_of_a_store_above_4_gib_is_told(logging: Machine) -> None:
    base = 5 * GIB
    code = bytes.fromhex(STORE_BEHIND + CLI_HLT)
    job = Job(code + bytes(16), base, 1 << 24, None, entry=Entry64(base))
    assert logging.replay(job).kind is OutcomeKind.PARKED
    where = base + 11 + 9
    assert stores(logging.logged(), b"RIP=%016x" % base) == [(where, 8, where, 0x12345678)]


def test_each_job_has_its_own_log(logging: Machine) -> None:
    for _ in range(3):
        logging.replay(real_mode(STORE_AND_LOAD + CLI_HLT))
        assert logging.logged().text.count(b"EIP=00000000 ") == 1


def test_a_log_goes_on_behind_what_was_taken_also_across_resets(logging: Machine) -> None:
    assert logging.replay(real_mode(NULL_IDT_UD2)).kind is OutcomeKind.SHUTDOWN
    assert b"check_exception old: 0xffffffff new 0x6" in logging.logged().text
    logging.replay(real_mode(STORE_AND_LOAD + CLI_HLT))
    again = logging.logged().text
    assert b"check_exception" not in again and b"\0" not in again
    assert again.count(b"EIP=00000000 ") == 1


def test_what_was_taken_takes_no_memory() -> None:
    log = Log(EVERYWHERE)
    try:
        with open(f"/proc/self/fd/{log.descriptors[1]}", "wb", buffering=0) as file:
            for size in (5000, 1, 9000, 4096):
                file.write(bytes([size % 251]) * size)
                assert log.take() == bytes([size % 251]) * size
                assert 512 * os.fstat(file.fileno()).st_blocks <= mmap.PAGESIZE
        assert log.take() == b""
    finally:
        log.close()


def test_a_log_never_ends_within_what_cpu_0_logs_of_its_timer(logging: Machine) -> None:
    logged = [logging.logged().text for _ in range(1000)]
    assert any(logged)
    for text in logged:
        assert text.count(b": v=20 ") == text.count(b"\nEFER=")
        assert not text or text[:-17].endswith(b"\nEFER=")
