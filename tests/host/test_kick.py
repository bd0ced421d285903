# SPDX-License-Identifier: GPL-2.0-only
"""What a kick returns, and what stands before INIT and SIPI."""

from __future__ import annotations

import pytest

from harness.host.kicking import (
    CHECKED,
    KEPT,
    NAMED,
    OFFERED,
    OWN,
    RESULT,
    SENT,
    TAKEN,
    TYPE,
    UNLOCKED,
    VISIBLE,
    WARM_RESET,
    WARM_SET,
    kick_obligations,
)
from harness.host.locking import ACTED, GIVEN_BACK, GUARDED, TAKEN_ONCE
from harness.host.refusal import Refusal
from harness.solve.obligation import Verdict
from tests.host.conftest import Change
from tests.host.judge import not_proved, refuted, verdicts
from tests.host.test_extract import contract_of
from trampoline.host_object import HostObject


def test_the_hardened_kick_is_proved(hardened: HostObject) -> None:
    found = verdicts(kick_obligations(hardened, contract_of("multikernel")))
    expected = (RESULT, SENT, CHECKED, TYPE, TAKEN, VISIBLE, OFFERED, WARM_RESET, UNLOCKED)
    lock = (WARM_SET, KEPT, OWN, NAMED, TAKEN_ONCE, GUARDED, ACTED, GIVEN_BACK)
    assert found == dict.fromkeys((*expected, *lock), Verdict.PROVED)


def test_the_rfcs_kick_misses_checks_and_touches_the_word_too_late(rfc: HostObject) -> None:
    found = not_proved(kick_obligations(rfc, contract_of("multikernel_rfc")))
    assert found == dict.fromkeys((TYPE, TAKEN, OFFERED), Verdict.REFUTED)


MISTAKES = {
    "online is not asked first": (
        "\tif (cpu_online(cpu))\n\t\treturn -EBUSY;\n\tif (!try_lock(host))\n\t\treturn -EBUSY;\n",
        "\tif (!try_lock(host))\n\t\treturn -EINVAL;\n\tif (cpu_online(cpu)) {\n"
        "\t\tunlock(host);\n\t\treturn -EBUSY;\n\t}\n",
        RESULT,
    ),
    "no image is EBUSY": ("error = -EINVAL;", "error = -EBUSY;", RESULT),
    "any type": (" || host->image->type != TYPE_MULTIKERNEL", "", TYPE),
    "an absent CPU": (" || !apic_id_present(apic_id)", "", RESULT),
    "a CPU that runs another kernel": ("\tif (host->taken[apic_id])\n\t\tgoto out;\n", "", TAKEN),
    "another CPU is asked about": ("(host->taken[apic_id])", "(host->taken[apic_id / 2])", TAKEN),
    "the mailbox comes after the offer": (
        "\t*boot_params_word(area) = host->boot_params;\n\twarm_reset_set(area->base);\n"
        "\texchange(status_word(area), host->offer);",
        "\twarm_reset_set(area->base);\n\texchange(status_word(area), host->offer);\n"
        "\t*boot_params_word(area) = host->boot_params;",
        VISIBLE,
    ),
    "no offer": ("\texchange(status_word(area), host->offer);", "\t", OFFERED),
    "the warm-reset vector stays": ("return 0;\n\twarm_reset_undo();", "return 0;", WARM_RESET),
    "an error of the wake-up is lost": ("if (!error || !withdraw(host))", "if (1)", RESULT),
    "the lock stays": ("out:\n\tunlock(host);", "out:", UNLOCKED),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_kick_is_refuted(mistake: str, changed: Change) -> None:
    old, new, goal = MISTAKES[mistake]
    host = changed("multikernel", "multikernel/kick.c", old, new)
    assert refuted(kick_obligations(host, contract_of("multikernel")), goal)


def test_an_apic_id_beyond_the_table_is_refused(changed: Change) -> None:
    host = changed(
        *("multikernel", "multikernel/kick.c"), "apic_id >= APIC_IDS ||", "apic_id > APIC_IDS ||"
    )
    with pytest.raises(Refusal, match="an address that is not known"):
        kick_obligations(host, contract_of("multikernel"))


def test_sipis_without_init_are_refuted(changed: Change) -> None:
    init = "int error = send_init(apic_id);"
    host = changed("multikernel", "include/wake_up.h", init, "int error = 0;")
    assert refuted(kick_obligations(host, contract_of("multikernel")), SENT)


def test_one_sipi_alone_is_refuted(changed: Change) -> None:
    second = "\tif (!error)\n\t\terror = send_sipi(apic_id, base >> PAGE_SHIFT);\n\treturn error;"
    host = changed("multikernel", "include/wake_up.h", second, "\treturn error;")
    assert refuted(kick_obligations(host, contract_of("multikernel")), SENT)
