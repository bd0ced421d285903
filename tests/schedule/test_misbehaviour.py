# SPDX-License-Identifier: GPL-2.0-only
"""A machine that does what the explorer does not know is noticed: other code, same pair."""

from __future__ import annotations

from dataclasses import replace

import pytest
from capstone import CS_ARCH_X86, CS_MODE_16, CS_MODE_64, Cs

from harness.protocol.history import Schedule
from harness.schedule.machine import Machine
from harness.schedule.replay import Replayer, plan_for
from harness.schedule.subject import Subject
from harness.schedule.walks import add, walk_all
from models.process import Kind

UD2 = b"\x0f\x0b"
LOOP = b"\xeb\xfe"  # jmp to itself
SEEDS = range(8)


def patched_image(subject: Subject, offset: int, code: bytes) -> Subject:
    data = bytearray(subject.parts.image.data)
    data[offset : offset + len(code)] = code
    image = replace(subject.parts.image, data=bytes(data))
    return replace(subject, parts=replace(subject.parts, image=image))


def patched_host(subject: Subject, old: bytes, new: bytes) -> Subject:
    elf = subject.parts.host.elf
    assert elf.count(old) == 1
    host = replace(subject.parts.host, elf=elf.replace(old, new))
    return replace(subject, parts=replace(subject.parts, host=host))


def difference(subject: Subject, schedule: Schedule, breaks: str) -> str:
    with Machine(subject, patience=1.0) as machine:
        planned = plan_for(subject, schedule.events, breaks)
        return Replayer(machine).replay(planned).difference


@pytest.fixture
def lost_start(needs_qemu: None, schedules: dict[str, Schedule]) -> Schedule:
    return schedules["no_lost_start"]


def test_other_marker(rfc: Subject, lost_start: Schedule) -> None:
    marker = next(one for one in rfc.pair.cpu.locations if one.word == "status")
    at = rfc.parts.image.data.index(b"\xa5\xa5\xa5\xa5", marker.addresses[0])
    found = difference(patched_image(rfc, at, b"\xa6"), lost_start, "no_lost_start")
    assert found == (
        "step 10 (CPU 0 at 1, store status): the status word is 0xa5a5a5a6 instead of 0xa5a5a5a5"
    )


def test_cpu_that_faults(needs_qemu: None, rfc: Subject, schedules: dict[str, Schedule]) -> None:
    number, fence = max(
        (n, x) for n, x in enumerate(rfc.pair.cpu.locations) if x.kind is Kind.FENCE
    )
    broken = patched_image(rfc, fence.addresses[0], UD2)
    found = difference(broken, schedules["own_mail"], "own_mail")
    assert found.endswith(f"(CPU 0 at {number}, fence): CPU 0 is lost: it shuts the machine down")


def test_cpu_that_hangs(rfc: Subject, lost_start: Schedule) -> None:
    found = difference(patched_image(rfc, 3, LOOP), lost_start, "no_lost_start")
    assert found.startswith("step 9 (CPU 0 at 0, fence): CPU 0 is lost: it runs on")


def test_host_that_clears_with_another_value(rfc: Subject, lost_start: Schedule) -> None:
    clears = [one for one in rfc.pair.host.locations if one.kind is Kind.STORE]
    clear = next(one for one in clears if one.word == "status").addresses[0]
    text = rfc.parts.host.text
    code = next(Cs(CS_ARCH_X86, CS_MODE_64).disasm(text[clear : clear + 15], 0))
    old = text[clear : clear + code.size + 8]
    new = old[: code.size - 4] + b"\x01" + old[code.size - 3 :]
    found = difference(patched_host(rfc, old, new), lost_start, "no_lost_start")
    assert found == ("step 11 (host at 9, store status): the status word is 0x1 instead of 0x0")


def test_cpu_that_starts_without_an_offer(needs_qemu: None, hardened: Subject) -> None:
    claim = hardened.pair.cpu.locations[1]
    assert claim.kind is Kind.COMPARE_EXCHANGE
    decoded = Cs(CS_ARCH_X86, CS_MODE_16).disasm(
        hardened.parts.image.data[claim.addresses[0] :], claim.addresses[0]
    )
    next(decoded)
    branch = next(decoded)
    assert branch.mnemonic == "jne"
    careless = patched_image(hardened, branch.address, b"\x90" * branch.size)
    with Machine(careless) as machine:
        found = add(walk_all(machine, SEEDS))
    assert found.differences
    for sentence in found.differences.values():
        assert "stands at trampoline_data_bsp+0x34 instead of park" in sentence
