# SPDX-License-Identifier: GPL-2.0-only
"""What the set-up of the trampoline area reserves, copies and remembers."""

from __future__ import annotations

import pytest

from harness.host.area import RESERVED, setup_obligations
from harness.solve.obligation import Verdict
from tests.host.conftest import Change
from tests.host.judge import not_proved
from trampoline.host_object import HostObject


def test_only_the_hardened_host_reserves_exactly_the_area(
    rfc: HostObject, hardened: HostObject
) -> None:
    assert not not_proved(setup_obligations(hardened))
    assert not_proved(setup_obligations(rfc)) == {RESERVED: Verdict.REFUTED}


SETUP = "multikernel/setup.c"
MISTAKES = {
    "one page less": ("trampoline->size + PAGE_SIZE - 1)", "trampoline->size)"),
    "below 2 MiB": ("LOW_MEMORY_LIMIT)", "2 * LOW_MEMORY_LIMIT)"),
    "half of it is copied": ("image, trampoline->size)", "image, size / 2)"),
    "it goes on without memory": ("\t\tpanic();", "\t\tarea->size = 0;"),
    "the size is not remembered": ("\tarea->size = size;\n", ""),
    "another member is changed": ("area->size = size;", "area->size = size, host->again = 1;"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_set_up_is_refuted(mistake: str, changed: Change) -> None:
    host = changed("multikernel", SETUP, *MISTAKES[mistake])
    assert Verdict.REFUTED in not_proved(setup_obligations(host)).values()
