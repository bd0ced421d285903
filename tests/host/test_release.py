# SPDX-License-Identifier: GPL-2.0-only
"""What a release of a CPU changes."""

from __future__ import annotations

import pytest

from harness.host import locking, release
from harness.host.release import release_obligations
from tests.host.conftest import Change
from tests.host.judge import not_proved, refuted
from tests.host.test_extract import contract_of
from trampoline.host_object import HostObject


def test_only_the_hardened_host_has_a_release(rfc: HostObject, hardened: HostObject) -> None:
    found = release_obligations(hardened, contract_of("multikernel"))
    assert found and not not_proved(found)
    assert not release_obligations(rfc, contract_of("multikernel_rfc"))


CLEAR = "\thost->taken[apic_id] = false;\n"
RELEASE_MISTAKES = {
    "the area is declared free": (
        CLEAR + "\t*status_word(&host->area) = STATUS_FREE;\n",
        release.OWN,
    ),
    "the mark stays": ("", release.RELEASED),
    "the CPU is marked": (CLEAR.replace("false", "true"), release.ITS_OWN),
    "another CPU": (CLEAR.replace("[apic_id]", "[apic_id / 2]"), release.ITS_OWN),
    "the lock is given back before": ("\tunlock(host);\n" + CLEAR, locking.GUARDED),
    "the lock is taken again": (CLEAR + "\tunlock(host);\n\ttry_lock(host);\n", locking.TAKEN_ONCE),
    "the lock stays": (CLEAR + "\treturn 0;\n", release.UNLOCKED),
}


@pytest.mark.parametrize("mistake", RELEASE_MISTAKES)
def test_a_mistake_in_the_release_is_refuted(mistake: str, changed: Change) -> None:
    new, goal = RELEASE_MISTAKES[mistake]
    host = changed("multikernel", "multikernel/kick.c", CLEAR, new)
    assert refuted(release_obligations(host, contract_of("multikernel")), goal)
