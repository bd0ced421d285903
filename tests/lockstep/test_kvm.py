# SPDX-License-Identifier: GPL-2.0-only
"""A run beside the CPU that the host's KVM gives: real, where /dev/kvm opens; else it is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.lockstep import kvm, qemu
from harness.lockstep.__main__ import main
from harness.lockstep.alone import ElsewhereError
from harness.lockstep.compare import Agreement, Mismatch, against
from harness.lockstep.emulated import Emulation, Step
from harness.lockstep.guards import of_whole
from harness.lockstep.inputs import predictions
from harness.lockstep.record import WholeRecord
from harness.lockstep.unicorn_cpu import PHYS_BITS
from harness.qemu.job import Job
from harness.qemu.machine import OPTIONAL, Machine
from harness.replay.cpu import FEATURES
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Prediction
from harness.x86.run import EndKind
from harness.x86.terms import VECTOR
from tests.lockstep.test_whole_images import predictor
from tests.x86.test_shipped_runs import GIB

NEEDS_KVM = pytest.mark.skipif(not kvm.opens(), reason=f"{kvm.DEVICE} does not open")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine(PHYS_BITS, accel="kvm") as running:
        yield running


@pytest.fixture
def prediction(machine: Machine) -> Prediction:
    return next(qemu.suitable(predictor("legoos"), machine, 1))


@NEEDS_KVM
def test_kvm_s_cpu_does_what_the_run_foretells(machine: Machine, prediction: Prediction) -> None:
    found = kvm.observed(predictor("legoos"), machine, prediction)
    assert isinstance(found, Agreement) and found.end
    assert found.steps > 50 and found.registers > 1000


@NEEDS_KVM
def test_memory_that_is_not_as_foretold_is_a_mismatch(
    machine: Machine, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = qemu.job_for(predictor("legoos"), machine, prediction)
    assert isinstance(made, Job)
    (image, size), *outside = made.dumps
    elsewhere = replace(made, dumps=((image + 1, size), *outside))
    monkeypatch.setattr("harness.lockstep.kvm.job_for", lambda *_: elsewhere)
    found = kvm.observed(predictor("legoos"), machine, prediction)
    assert isinstance(found, Mismatch) and found.what == "memory"
    assert found.observed.startswith("image byte 0x")


@NEEDS_KVM
def test_a_shutdown_or_halt_that_is_foretold_is_seen_and_the_machine_serves_again(
    machine: Machine,
) -> None:
    features = {name: int(flag not in machine.lacking) for name, flag in FEATURES.items()}
    refused = ("multikernel", 1 << 50, EndKind.PARKED)
    for name, kernel, kind in (
        refused,
        ("multikernel_rfc", 1 << 47, EndKind.SHUTDOWN),
        refused,
    ):
        own, values = predictor(name), {VECTOR: 0x90, "maxphyaddr": PHYS_BITS, **features}
        values |= {"kernel_phys_addr": kernel, "boot_params_phys_addr": 5 * GIB}
        prediction = own.predict(as_on_qemu(own, values, {}))
        assert prediction.end.kind is kind
        found = kvm.observed(own, machine, prediction)
        assert isinstance(found, Agreement) and found.end


def test_what_kvm_may_lack_is_what_a_run_speaks_of() -> None:
    assert set(OPTIONAL) == set(FEATURES.values())


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
