# SPDX-License-Identifier: GPL-2.0-only
"""Inputs of CPUs that lack a feature are replayed on such a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.cpu import FEATURES, lacking
from harness.replay.evidence import Machines
from harness.replay.replay import replay
from harness.solve.obligation import END
from harness.x86.run import EndKind
from tests.replay.conftest import Subject
from tests.replay.little import at_base, little

CHECK = """
    movl $0x80000001, %eax
    cpuid
    btl ${bit}, %edx
    jc 1f
    movl $0xbad, OFF(status)(%esi)
    cli
    hlt
1:  hlt
"""
WRITE_EFER = "movl $MSR_EFER, %ecx; movl ${value}, %eax; xorl %edx, %edx; wrmsr; hlt"


@pytest.fixture(scope="module")
def machines(machine: Machine) -> Iterator[Machines]:
    """`machine` says whether there is QEMU."""
    with Machines() as running:
        yield running


def replayed(subject: Subject, machines: Machines, **values: int) -> ReplayRecord:
    what = at_base(values)
    running = machines.get(what.values["maxphyaddr"], lacking(what.values))
    assert running is not None
    return replay(subject.contract, subject.predictor, running, what, (), [(END,)])


@pytest.mark.parametrize(
    ("name", "bit"), [("cpu_has_long_mode", 29), ("cpu_has_1gib_pages", 26), ("cpu_has_nx", 20)]
)
def test_a_refusal_for_a_missing_feature_is_seen(
    tmp_path: Path, machines: Machines, name: str, bit: int
) -> None:
    subject = little(tmp_path, CHECK.format(bit=bit))
    without = replayed(subject, machines, **{name: 0})
    assert (without.evidence, without.reason) == (Evidence.CONFIRMED, "")
    assert without.observed["status word"] == "0xbad"
    with_it = replayed(subject, machines)
    assert (with_it.evidence, with_it.observed["status word"]) == (Evidence.CONFIRMED, "0x0")


@pytest.mark.parametrize("access", ["rdmsr", "xorl %eax, %eax; xorl %edx, %edx; wrmsr"])
def test_qemu_has_efer_on_every_cpu(tmp_path: Path, machines: Machines, access: str) -> None:
    subject = little(tmp_path, f"movl $MSR_EFER, %ecx; {access}; hlt")
    neither = {"cpu_has_long_mode": 0, "cpu_has_nx": 0}
    assert subject.predictor.predict(at_base(neither)).end.kind is EndKind.SHUTDOWN
    record = replayed(subject, machines, **neither)
    assert record.evidence is Evidence.NOT_REPLAYABLE
    assert record.reason == "QEMU has IA32_EFER on every CPU"
    assert replayed(subject, machines).evidence is Evidence.CONFIRMED


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (WRITE_EFER.format(value="0x100"), "cpu_has_long_mode"),
        (WRITE_EFER.format(value="0x800"), "cpu_has_nx"),
        ("movl $0x1000, %eax; movl %eax, %cr4; hlt", "cpu_has_la57"),
    ],
)
def test_a_fault_that_qemu_does_not_raise_is_not_replayable(
    tmp_path: Path, machines: Machines, code: str, name: str
) -> None:
    subject = little(tmp_path, code)
    assert subject.predictor.predict(at_base({name: 0})).end.kind is EndKind.SHUTDOWN
    record = replayed(subject, machines, **{name: 0})
    assert record.evidence is Evidence.NOT_REPLAYABLE
    assert record.reason.startswith("QEMU ")
    assert replayed(subject, machines).evidence is Evidence.CONFIRMED


def test_qemu_uses_1_gib_pages_on_a_cpu_without(tmp_path: Path, machines: Machines) -> None:
    """The first PDPT entry maps 1 GiB to itself: reserved bits on a CPU without such pages."""
    way = "TO_32BIT\nTO_64BIT"
    subject = little(tmp_path, "hlt", 64, way=way.replace("TO_64BIT", GIB_PAGE))
    record = replayed(subject, machines, cpu_has_1gib_pages=0)
    assert record.evidence is Evidence.NOT_REPLAYABLE
    assert "without 1 GiB pages" in record.reason
    assert replayed(subject, machines).evidence is Evidence.CONFIRMED


GIB_PAGE = """
    leal OFF(tables)(%esi), %edi
    leal (PAGE_SIZE + TABLE_FLAGS)(%edi), %eax
    movl %eax, (%edi)
    movl $LARGE_PAGE_FLAGS, PAGE_SIZE(%edi)
    LEAVE_FOR_64BIT
"""


def test_a_machine_with_another_cpu_is_refused(tmp_path: Path, machine: Machine) -> None:
    subject = little(tmp_path, "hlt")
    without = at_base({"cpu_has_nx": 0})
    record = replay(subject.contract, subject.predictor, machine, without)
    assert (record.evidence, record.reason) == (
        Evidence.NOT_REPLAYABLE, "QEMU runs with a CPU of other features",
    )  # fmt: skip


def test_each_machine_is_started_once(machines: Machines) -> None:
    flags = frozenset({FEATURES["cpu_has_nx"]})
    assert machines.get(40, flags) is machines.get(40, flags)
    assert machines.get(40, flags) is not machines.get(40)
