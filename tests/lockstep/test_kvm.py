# SPDX-License-Identifier: GPL-2.0-only
"""A run beside the CPU that the host's KVM gives: real, where /dev/kvm opens; else it is said."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.lockstep import kvm
from harness.lockstep.__main__ import main
from harness.lockstep.alone import ElsewhereError
from harness.lockstep.compare import Agreement, Mismatch, against
from harness.lockstep.emulated import Emulation, Step
from harness.lockstep.guards import of_whole
from harness.lockstep.inputs import predictions
from harness.lockstep.record import WholeRecord
from harness.lockstep.unicorn_cpu import PHYS_BITS
from harness.qemu.machine import Machine
from harness.replay.compare import dumps
from harness.replay.predict import Prediction, Predictor
from harness.x86.execute import execute
from reports.fingerprint import ROOT
from trampoline.contract import load_contract
from trampoline.image import load_image

NEEDS_KVM = pytest.mark.skipif(not kvm.opens(), reason=f"{kvm.DEVICE} does not open")


@cache
def predictor(name: str) -> Predictor:
    contract = load_contract(ROOT / f"trampoline/{name}/contract.toml")
    image = load_image(contract)
    return Predictor(contract, image, execute(contract, image))


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine(PHYS_BITS, accel="kvm") as running:
        yield running


@pytest.fixture
def prediction(machine: Machine) -> Prediction:
    return next(kvm.suitable(predictor("legoos"), machine, 1))


@NEEDS_KVM
def test_kvm_s_cpu_does_what_the_run_foretells(machine: Machine, prediction: Prediction) -> None:
    found = kvm.observed(predictor("legoos"), machine, prediction)
    assert isinstance(found, Agreement) and found.end
    assert found.steps > 50 and found.registers > 1000


@NEEDS_KVM
def test_memory_that_is_not_as_foretold_is_a_mismatch(
    machine: Machine, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = dumps(prediction)
    elsewhere = (right[0][0] + 1, right[0][1])
    monkeypatch.setattr("harness.lockstep.kvm.dumps", lambda _: (elsewhere, *right[1:]))
    found = kvm.observed(predictor("legoos"), machine, prediction)
    assert isinstance(found, Mismatch) and found.what == "memory"
    assert found.observed.startswith("image byte 0x")


def test_a_trampoline_with_tables_of_1_gib_pages_is_not_compared_without_them() -> None:
    lacks = Machine(PHYS_BITS, lacking=frozenset({"pdpe1gb"}))
    with pytest.raises(ElsewhereError, match="no 1 GiB pages"):
        kvm.check(predictor("start64"), lacks)
    kvm.check(predictor("start64"), Machine(PHYS_BITS))
    kvm.check(predictor("legoos"), lacks)


def test_where_writes_are_not_seen_registers_and_the_end_are_compared_all_the_same() -> None:
    one = next(predictions(predictor("legoos"), 1))
    nothing = Emulation(shows_writes=False)
    found = against(one, nothing)
    assert isinstance(found, Mismatch) and found.observed == "the CPU stopped"
    wrong = Emulation([Step(one.given.base + 1, {}, 0)], shows_writes=False)
    found = against(one, wrong)
    assert isinstance(found, Mismatch) and found.what == "address"


def test_a_host_without_kvm_is_told_in_a_sentence(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")
    assert main(["--kvm", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said == f"{tmp_path}/kvm does not open: this host gives no KVM, or not to you.\n"
    assert main(["--kvm", "--single", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("leave out --kvm.\n")


def test_what_kvm_s_cpu_lacks_is_open_and_all_of_it_a_problem() -> None:
    done = WholeRecord(
        trampoline="legoos",
        beside="KVM of Linux 6",
        of="",
        asked=3,
        inputs={"first": 3},
        ends=3,
        steps=9,
        registers=9,
        writes=9,
        seconds=1.0,
    )
    lacks = done.model_copy(
        update={"trampoline": "la57", "inputs": {}, "not_compared": "no 1 GiB pages"}
    )
    guard = of_whole([done, lacks], "mark")
    assert (guard.name, guard.complete, guard.problems) == ("lock-step-kvm", True, ())
    assert guard.open == ("la57: not compared: no 1 GiB pages",)
    assert of_whole([lacks], "mark").problems == ("nothing was compared",)
