# SPDX-License-Identifier: GPL-2.0-only
"""Chosen inputs, at borders, to a fault, and to a refusal, step by step beside unicorn's CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness.lockstep.compare import Agreement, Mismatch, against, beside, compare
from harness.lockstep.unicorn_cpu import PHYS_BITS
from harness.qemu.machine import Machine
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Prediction, Predictor
from harness.replay.sample import corners
from harness.x86.execute import APIC_ID, execute
from harness.x86.lift import lift
from harness.x86.run import EndKind
from harness.x86.terms import VECTOR
from models.modes import Mode
from tests.x86.test_shipped_runs import GIB
from trampoline.contract import load_contract
from trampoline.image import load_image

SHIPPED = Path(__file__).resolve().parents[2] / "trampoline"
INPUTS = [
    *((0x01, 16 << 20, 0x20000), (0x90, 5 * GIB + 0x1234567, 6 * GIB - 8)),
    *((0x33, 4 * GIB - 4096, 4 * GIB), (0x10, 600 * GIB, 5 * GIB), (0x80, 1 << 50, 0x3000)),
    *((0x10, 0x20000, 0xF000), (0x10, 0x20000, 0x1F000)),  # beside the image, and on it
]


@cache
def predictor(name: str) -> Predictor:
    contract = load_contract(SHIPPED / name / "contract.toml")
    image = load_image(contract)
    return Predictor(contract, image, execute(contract, image))


def predicted(name: str, vector: int, kernel: int, boot_params: int, **features: int) -> Prediction:
    values = {VECTOR: vector, "kernel_phys_addr": kernel, "boot_params_phys_addr": boot_params}
    given = as_on_qemu(predictor(name), {**values, "maxphyaddr": PHYS_BITS, **features}, {})
    return predictor(name).predict(replace(given, values={**given.values, APIC_ID: 0}))


@pytest.mark.parametrize(("vector", "kernel", "boot_params"), INPUTS)
@pytest.mark.parametrize("name", ["multikernel", "multikernel_rfc"])
def test_the_emulated_cpu_does_what_the_run_predicts(
    name: str, vector: int, kernel: int, boot_params: int
) -> None:
    prediction = predicted(name, vector, kernel, boot_params)
    found = compare(predictor(name), prediction)
    assert isinstance(found, Agreement), found
    if prediction.end.kind in (EndKind.HAND_OFF, EndKind.PARKED, EndKind.SHUTDOWN):
        assert found.end


@cache
def of_each_path(name: str) -> list[Prediction]:
    """Inputs that z3 has found for the paths of a trampoline."""
    found = []
    for given in corners(predictor(name), Machine(PHYS_BITS)):
        values = {**given.values, APIC_ID: 0}
        found.append(predictor(name).predict(replace(given, values=values)))
    return found


def test_each_path_that_the_cpu_can_take_is_foretold() -> None:
    predictions = of_each_path("multikernel_rfc")
    for prediction in predictions:
        found = compare(predictor("multikernel_rfc"), prediction)
        assert isinstance(found, Agreement), (dict(prediction.given.values), found)
    kinds = {prediction.end.kind for prediction in predictions}
    assert kinds == {EndKind.HAND_OFF, EndKind.SHUTDOWN, EndKind.TABLE_IN_USE}


def test_a_fault_that_does_not_come_is_found() -> None:
    """And one that is another, and one in another page."""
    name = "multikernel_rfc"
    prediction = next(p for p in of_each_path(name) if p.end.address is not None)
    seen = beside(predictor(name), prediction)
    assert isinstance(against(prediction, seen), Agreement)
    assert seen.fault == 14 and seen.last is not None
    for fault in (None, 13):
        seen.fault = fault
        found = against(prediction, seen)
        assert isinstance(found, Mismatch) and found.what == "fault"
    seen.fault = 14
    seen.last = replace(seen.last, registers={**seen.last.registers, "cr2": 0x5000})
    found = against(prediction, seen)
    assert isinstance(found, Mismatch) and found.what == "cr2"


def test_a_cpu_without_long_mode_is_refused_as_predicted() -> None:
    prediction = predicted("multikernel", 0x10, 16 << 20, 0x20000, cpu_has_long_mode=0)
    assert (prediction.end.kind, prediction.end.mode) == (EndKind.PARKED, Mode.REAL16)
    found = compare(predictor("multikernel"), prediction)
    assert isinstance(found, Agreement), found
    assert found.end and found.writes


def test_the_last_instruction_of_a_hand_off_is_a_jump() -> None:
    for name in ("multikernel", "multikernel_rfc"):
        for end in predictor(name).run.ends_of(EndKind.HAND_OFF):
            code = predictor(name).image.data[end.instruction : end.instruction + 15]
            assert lift(code, end.instruction, Mode.LONG64.bits).mnemonic == "JMP"
