# SPDX-License-Identifier: GPL-2.0-only
"""Where a run ends before it is known what follows, a success of QEMU's contradicts nothing."""

from __future__ import annotations

import shutil

import pytest

from harness.qemu.machine import Machine
from harness.qemu.vm import QEMU
from harness.record import Evidence
from harness.replay.expect import FAILED, expected
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Predictor
from harness.replay.replay import GOES_ON, replay
from harness.x86.execute import execute
from harness.x86.run import EndKind
from trampoline.contract import load_contract
from trampoline.image import load_image
from trampoline.shipped import contract_of

INTO_IGNORED_BITS = 0x20_0000_700F
INTO_THE_ADDRESS = 0x20_0000_700B
"""RSP at hand-over: 32-bit code then pushes over bits 63:56 of entry 0 of the new table, of which
the CPU ignores those that the pushed byte sets (SDM vol. 3A table 4-14); or over its address."""


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} not found")
def test_a_store_into_ignored_bits_of_an_entry_is_not_called_a_contradiction() -> None:
    contract = load_contract(contract_of("la57_posted"))
    image = load_image(contract)
    predictor = Predictor(contract, image, execute(contract, image))
    values = {"sipi_vector": 0x2100001, "maxphyaddr": 40, "boot_params_phys_addr": 0x20_FFFC_6500}
    shown = {}
    with Machine() as machine:
        for rsp in (INTO_IGNORED_BITS, INTO_THE_ADDRESS):
            given = as_on_qemu(predictor, {**values, "rsp_at_hand_over": rsp}, {})
            prediction = predictor.predict(given)
            assert prediction.end.kind is EndKind.TABLE_IN_USE
            wanted = expected(prediction, ())
            assert (wanted.kinds, wanted.open) == (FAILED, True)
            shown[rsp] = replay(contract, predictor, machine, given)
    goes_on = shown[INTO_IGNORED_BITS]
    assert (goes_on.evidence, goes_on.reason) == (Evidence.NOT_REPLAYABLE, GOES_ON)
    assert shown[INTO_THE_ADDRESS].evidence is Evidence.CONFIRMED
