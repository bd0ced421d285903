# SPDX-License-Identifier: GPL-2.0-only
"""Registers and flags that a real-mode entry finds, set by the debugger where INIT clears them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.qemu.job import Injection
from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.cpu import injection
from harness.replay.replay import INJECTED_AT_ENTRY, replay
from models.mode_switches import LEGACY_REGISTERS
from tests.replay.conftest import Subject
from tests.replay.little import BASE, at_base, little

DF = 0x400
FILL = """
    leal OFF(area)(%esi), %edi
    movl $0x5a5a5a5a, %eax
    movl $64, %ecx
    rep stosl
    hlt
"""
"""Fills upwards from `area`, or downwards if DF is set."""
STORE = "".join(
    f"movl %e{name[1:]}, %cs:{4 * number} + OFF(area)\n"
    for number, name in enumerate(LEGACY_REGISTERS)
)


def replayed(subject: Subject, machine: Machine, **values: int) -> ReplayRecord:
    what = at_base(values, any_registers=True)
    return replay(subject.contract, subject.predictor, machine, what)


@pytest.fixture
def fills(tmp_path: Path) -> Subject:
    return little(tmp_path, FILL, any_registers=True)


@pytest.mark.parametrize(("rflags", "how"), [(DF, INJECTED_AT_ENTRY), (0, "")])
def test_a_fill_goes_where_the_direction_flag_says(
    fills: Subject, machine: Machine, rflags: int, how: str
) -> None:
    record = replayed(fills, machine, rflags_at_entry=rflags)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, how)


def test_a_flag_that_is_not_injected_contradicts(
    fills: Subject, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.replay.replay.injection", lambda prediction: None)
    record = replayed(fills, machine, rflags_at_entry=DF)
    assert record.evidence is Evidence.CONTRADICTED


def test_a_flag_that_is_injected_nowhere_contradicts(
    fills: Subject, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Injection(BASE + 0x800, rflags=DF)
    monkeypatch.setattr("harness.replay.replay.injection", lambda prediction: nowhere)
    record = replayed(fills, machine, rflags_at_entry=DF)
    assert record.evidence is Evidence.CONTRADICTED
    assert "the entry is not reached" in record.reason


def test_all_registers_that_16_bit_code_has_are_set(tmp_path: Path, machine: Machine) -> None:
    subject = little(tmp_path, f"{STORE} hlt", 16, any_registers=True)
    held = {f"{name}_at_entry": 0x8765_4320 + n for n, name in enumerate(LEGACY_REGISTERS)}
    record = replayed(subject, machine, **held)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, INJECTED_AT_ENTRY)


def test_what_the_debugger_cannot_set_is_as_init_leaves_it() -> None:
    values = {"rax_at_entry": 1 << 40 | 7, "rflags_at_entry": DF | 0x200, "ds_at_entry": 5}
    held = at_base({**values, "r9_at_entry": 3, "gdtr_limit_at_entry": 0}, any_registers=True)
    assert held.values["rax_at_entry"] == 7
    assert held.values["rflags_at_entry"] == DF
    assert held.values["ds_at_entry"] == held.values["r9_at_entry"] == 0
    assert held.values["gdtr_limit_at_entry"] == 0xFFFF


def test_a_run_from_init_has_nothing_to_inject(tmp_path: Path) -> None:
    subject = little(tmp_path, "hlt", 16)
    what = at_base({"rdx_at_entry": 5, "rflags_at_entry": DF})
    assert injection(subject.predictor.predict(what)) is None
