# SPDX-License-Identifier: GPL-2.0-only
"""A replay confirms the prediction, and contradicts one that is wrong in a single place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.predict import Input, Prediction
from harness.replay.replay import replay
from models.paging import Access
from tests.replay.conftest import BASE, GIB, MIB, Subject, given

Tamper = Callable[[Prediction], None]


class Tampered:
    """A predictor whose predictions are changed before they are compared."""

    def __init__(self, subject: Subject, tamper: Tamper) -> None:
        self._predictor = subject.predictor
        self._tamper = tamper
        self.image = subject.image
        self.run = subject.run
        self.contract = subject.contract
        self.entry_of = subject.predictor.entry_of

    def predict(self, what: Input) -> Prediction:
        prediction = self._predictor.predict(what)
        self._tamper(prediction)
        return prediction


def replayed(
    subject: Subject, machine: Machine, what: Input, tamper: Tamper | None = None
) -> ReplayRecord:
    predictor: Any = Tampered(subject, tamper) if tamper else subject.predictor
    return replay(subject.contract, predictor, machine, what, (MIB,))


@pytest.mark.parametrize(
    "what",
    [
        given(16 * MIB),
        given(5 * GIB, base=0x1000, garbage=b"\x01\x80\xff"),
        given(16 * MIB, 5 * GIB),
        given(520 * GIB),
    ],
    ids=["boots", "boots above 4 GiB", "boot_params not mapped", "kernel not mapped"],
)
def test_a_right_prediction_is_confirmed(rfc: Subject, machine: Machine, what: Input) -> None:
    record = replayed(rfc, machine, what)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, "")
    assert record.predicted == record.observed


def wrong_register(name: str) -> Tamper:
    def tamper(prediction: Prediction) -> None:
        right = prediction.registers()
        change: Any = prediction
        change.registers = lambda: {**right, name: right[name] ^ 1}

    return tamper


@pytest.mark.parametrize("name", ["rsi", "rbx", "cr4", "ss", "gdtr_limit"])
def test_a_wrong_register_is_noticed(rfc: Subject, machine: Machine, name: str) -> None:
    record = replayed(rfc, machine, given(16 * MIB), wrong_register(name))
    assert record.evidence is Evidence.CONTRADICTED
    assert f"{name}: " in record.reason
    assert record.predicted[name] != record.observed[name]


@pytest.mark.parametrize("symbol", ["pgtable_bsp", "pgtable_extra_bsp", "trampoline_status_bsp"])
def test_a_wrong_byte_of_the_image_is_noticed(rfc: Subject, machine: Machine, symbol: str) -> None:
    offset = rfc.image.symbols[symbol] + 1

    def tamper(prediction: Prediction) -> None:
        wrong = bytearray(prediction.image_after)
        wrong[offset] ^= 0x80
        prediction.__dict__["image_after"] = bytes(wrong)

    record = replayed(rfc, machine, given(5 * GIB), tamper)
    assert record.evidence is Evidence.CONTRADICTED
    assert f"image byte {offset:#x}" in record.reason


def test_a_wrong_outcome_is_noticed(rfc: Subject, machine: Machine) -> None:
    """boot_params is taken to be mapped, and is not."""

    def tamper(prediction: Prediction) -> None:
        right = prediction.mapped
        change: Any = prediction

        def wrong(linear: int, access: Access) -> bool:
            return 5 * GIB <= linear < 6 * GIB or right(linear, access)

        change.mapped = wrong

    record = replayed(rfc, machine, given(16 * MIB, 5 * GIB), tamper)
    assert record.evidence is Evidence.CONTRADICTED
    assert record.reason.startswith("outcome: ")


def test_a_failure_that_was_not_predicted_is_noticed(rfc: Subject, machine: Machine) -> None:
    """The other way round: boot_params is mapped, but is taken not to be."""

    def tamper(prediction: Prediction) -> None:
        right = prediction.mapped
        change: Any = prediction
        change.mapped = lambda linear, access: linear // MIB != 2 and right(linear, access)

    record = replayed(rfc, machine, given(16 * MIB), tamper)
    assert record.evidence is Evidence.CONTRADICTED


def test_what_cannot_be_set_up_is_not_replayable(rfc: Subject, machine: Machine) -> None:
    def reason(what: Input) -> str:
        record = replayed(rfc, machine, what)
        assert record.evidence is Evidence.NOT_REPLAYABLE
        return record.reason

    assert "no RAM for a kernel" in reason(given(0xE000_0000))
    assert "overwrite the image" in reason(given(BASE + 0x100))
    other = given(16 * MIB)
    assert "MAXPHYADDR" in reason(Input({**other.values, "maxphyaddr": 52}, {}))
