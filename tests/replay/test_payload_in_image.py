# SPDX-License-Identifier: GPL-2.0-only
"""Where the trampoline ends inside of its image, the payload stands there: what a path writes over
it is not held against the prediction."""

from __future__ import annotations

from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.cpu import QEMU_CPU
from harness.replay.expect import PAYLOAD
from harness.replay.platform import as_on_qemu
from harness.replay.replay import replay
from harness.x86.terms import VECTOR
from tests.replay.conftest import GIB, LA57_BASE, MIB, Subject

PUSHED = 24  # bytes below RSP of which 32-bit code writes the lowest 8, through ESP


def pushed_to(la57: Subject, machine: Machine, offset: int) -> ReplayRecord:
    """`la57_posted` pushes to the low half of what the boot loader left in RSP: here that writes 8
    bytes at `offset` of the image."""
    values = {
        **QEMU_CPU,
        "maxphyaddr": 40,
        VECTOR: LA57_BASE >> 12,
        "boot_params_phys_addr": 16 * MIB,
        "rsp_at_hand_over": 4 * GIB + LA57_BASE + offset + PUSHED - 16,
    }
    written = LA57_BASE + offset
    given = as_on_qemu(la57.predictor, values, {})
    assert la57.predictor.predict(given).writes_to(range(written, written + 8))
    return replay(la57.contract, la57.predictor, machine, given)


def payload(la57: Subject) -> range:
    start = la57.image.symbols["paging_enabled"]
    return range(start, start + PAYLOAD)


def test_a_push_into_the_payload_is_not_replayable(la57: Subject, machine: Machine) -> None:
    for offset in (payload(la57).start + 2, payload(la57).stop - 4):
        record = pushed_to(la57, machine, offset)
        assert record.evidence is Evidence.NOT_REPLAYABLE
        assert record.reason == "the path writes to the image where the payload lies"


def test_a_push_beside_the_payload_is_seen(la57: Subject, machine: Machine) -> None:
    record = pushed_to(la57, machine, -(-payload(la57).stop // 4) * 4 + 8)
    assert record.evidence is Evidence.CONFIRMED, record.reason
