# SPDX-License-Identifier: GPL-2.0-only
"""Which outcomes in QEMU a prediction allows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.qemu.job import OutcomeKind
from harness.replay.expect import FAILED, expected
from harness.x86.run import EndKind
from tests.replay.conftest import GIB, MIB, Subject, given

AFTER = frozenset({OutcomeKind.SHUTDOWN_AFTER_HAND_OFF})
BEFORE = frozenset({OutcomeKind.SHUTDOWN})
DONE = frozenset({OutcomeKind.HAND_OFF})


@pytest.mark.parametrize(
    ("kernel", "boot_params", "probes", "kinds", "completed"),
    [
        (16 * MIB, 2 * MIB, (), DONE, 0),
        (16 * MIB, 2 * MIB, (MIB, 3 * GIB), DONE, 2),
        (5 * GIB, 5 * GIB + MIB, (5 * GIB,), DONE, 1),
        (16 * MIB, 5 * GIB, (MIB,), AFTER, 0),  # the load of [RSI] faults
        (16 * MIB, 4 * GIB - 4, (MIB,), AFTER, 0),  # half of it
        (16 * MIB, 2 * MIB, (5 * GIB, MIB), AFTER, 0),
        (16 * MIB, 2 * MIB, (MIB, 2 * MIB, 5 * GIB), AFTER, 2),
        (520 * GIB, 2 * MIB, (), BEFORE, None),
    ],
)
def test_what_is_mapped_decides(
    rfc: Subject,
    kernel: int,
    boot_params: int,
    probes: tuple[int, ...],
    kinds: frozenset[OutcomeKind],
    completed: int | None,
) -> None:
    prediction = rfc.predictor.predict(given(kernel, boot_params))
    assert expected(prediction, probes) == (kinds, completed, False)


@pytest.mark.parametrize(
    ("end", "kinds", "known"),
    [
        (EndKind.SHUTDOWN, BEFORE, True),
        (EndKind.PARKED, frozenset({OutcomeKind.PARKED}), True),
        (EndKind.SPINNING, frozenset({OutcomeKind.HANG}), True),
        (EndKind.STRAY, FAILED, False),
        (EndKind.TABLE_IN_USE, FAILED, False),
        (EndKind.UNSUPPORTED, FAILED, False),
    ],
)
def test_a_path_that_does_not_jump_never_allows_success(
    end: EndKind, kinds: frozenset[OutcomeKind], known: bool
) -> None:
    prediction: Any = SimpleNamespace(end=SimpleNamespace(kind=end))
    assert expected(prediction, ()) == (kinds, None, not known)
    assert OutcomeKind.HAND_OFF not in kinds
