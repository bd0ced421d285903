# SPDX-License-Identifier: GPL-2.0-only
"""What the set-up of the trampoline area reserves, copies and remembers."""

from __future__ import annotations

import pytest

from harness.host.area import FREE, RESERVED, setup_obligations
from harness.solve.obligation import Verdict
from tests.host.conftest import Change
from tests.host.judge import not_proved, refuted
from tests.host.test_extract import contract_of
from trampoline.host_object import HostObject


def test_only_the_hardened_host_reserves_exactly_the_area(
    rfc: HostObject, hardened: HostObject
) -> None:
    assert not not_proved(setup_obligations(hardened, contract_of("multikernel")))
    found = not_proved(setup_obligations(rfc, contract_of("multikernel_rfc")))
    assert found == {RESERVED: Verdict.REFUTED}


SETUP = "multikernel/setup.c"
MISTAKES = {
    "one page less": ("trampoline->size + PAGE_SIZE - 1)", "trampoline->size)"),
    "below 2 MiB": ("LOW_MEMORY_LIMIT)", "2 * LOW_MEMORY_LIMIT)"),
    "half of it is copied": ("image, trampoline->size)", "image, size / 2)"),
    "it goes on without memory": ("\t\tpanic();", "\t\tarea->size = 0;"),
    "the size is not remembered": ("\tarea->size = size;\n", ""),
    "the area is offered": ("= STATUS_FREE", "= STATUS_OFFERED + 3"),
    "another member is changed": ("area->size = size;", "area->size = size, host->again = 1;"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_set_up_is_refuted(mistake: str, changed: Change) -> None:
    host = changed("multikernel", SETUP, *MISTAKES[mistake])
    found = not_proved(setup_obligations(host, contract_of("multikernel")))
    assert Verdict.REFUTED in found.values()


COPY = "\tcopy_bytes(area->memory, trampoline->image, trampoline->size);\n"
FREED = "\t*status_word(area) = STATUS_FREE;\n"


def test_a_status_word_that_the_image_brings_along_counts(changed: Change) -> None:
    """It is 0 there: free."""
    host = changed("multikernel", SETUP, FREED, "")
    assert not not_proved(setup_obligations(host, contract_of("multikernel")))


@pytest.mark.parametrize("lost", [False, True])
def test_a_status_word_that_the_copy_overwrites_is_lost(lost: bool, changed: Change) -> None:
    """To a contract in which another value says that the area is free."""
    store = FREED.replace("FREE", "HELD")
    host = changed("multikernel", SETUP, COPY + FREED, store + COPY if lost else COPY + store)
    contract = contract_of("multikernel")
    assert contract.shared.status.handshake is not None
    held = {"free": host.constants["STATUS_HELD"]}
    handshake = contract.shared.status.handshake.model_copy(update=held)
    status = contract.shared.status.model_copy(update={"handshake": handshake})
    other = contract.model_copy(update={"status": status})
    assert refuted(setup_obligations(host, other), FREE) is lost
