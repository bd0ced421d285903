# SPDX-License-Identifier: GPL-2.0-only
"""Which outcomes in QEMU a prediction allows."""

from __future__ import annotations

from typing import NamedTuple

from harness.qemu.job import OutcomeKind
from harness.qemu.protocol import P
from harness.replay.predict import Prediction
from harness.x86.run import EndKind
from models.paging import Access

PAGE = 0x1000
PAYLOAD = 512  # bytes of the payload's code, at most
FAILED = frozenset(OutcomeKind) - {OutcomeKind.HAND_OFF}


class Expected(NamedTuple):
    """The outcomes that a prediction allows, and how many probes complete (None: not known).

    `open`: the run ends before what follows is known, such as at a store that may change a table.
    A failure is what it warns of; a success, if what was changed did not matter, contradicts
    nothing, and shows nothing.
    """

    kinds: frozenset[OutcomeKind]
    probes_done: int | None
    open: bool = False


def expected(prediction: Prediction, probes: tuple[int, ...]) -> Expected:
    """What QEMU may show. `probes` are linear addresses that the payload loads from, in order."""
    kind = prediction.end.kind
    if kind is not EndKind.HAND_OFF:
        simple = {
            EndKind.SHUTDOWN: frozenset({OutcomeKind.SHUTDOWN}),
            EndKind.PARKED: frozenset({OutcomeKind.PARKED}),
            EndKind.SPINNING: frozenset({OutcomeKind.HANG}),
            EndKind.WAITING: frozenset({OutcomeKind.HANG}),
        }
        return Expected(simple.get(kind, FAILED), None, open=kind not in simple)

    def mapped(start: int, length: int, access: Access) -> bool:
        return prediction.mapped(start, access) and prediction.mapped(start + length - 1, access)

    kernel = prediction.registers()["rip"]
    if kernel != prediction.kernel:
        return Expected(FAILED, None)  # the payload is not there
    if not prediction.mapped(kernel, Access.FETCH):
        return Expected(frozenset({OutcomeKind.SHUTDOWN}), None)
    own = mapped(P["CONTROL"], PAGE, Access.READ) and mapped(P["REPORT"], PAGE, Access.WRITE)
    if not own or not mapped(kernel, PAYLOAD, Access.FETCH):
        either = {OutcomeKind.SHUTDOWN, OutcomeKind.SHUTDOWN_AFTER_HAND_OFF}
        return Expected(frozenset(either), None)
    loads = (prediction.registers()["rsi"], *probes)
    for number, address in enumerate(loads):
        if not mapped(address, 8, Access.READ):
            after = frozenset({OutcomeKind.SHUTDOWN_AFTER_HAND_OFF})
            return Expected(after, max(number - 1, 0))
    return Expected(frozenset({OutcomeKind.HAND_OFF}), len(probes))
