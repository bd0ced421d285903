# SPDX-License-Identifier: GPL-2.0-only
"""What kick and load do under the lock, and what a kick may write."""

from __future__ import annotations

import pytest

from harness.host import kicking, locking
from harness.host.image import image_obligations
from harness.host.kicking import kick_obligations
from harness.host.refusal import Refusal
from tests.host.conftest import Change
from tests.host.judge import refuted
from tests.host.test_extract import contract_of

LOCK, KICK, LOAD = "include/lock.h", "multikernel/kick.c", "multikernel/load.c"
TRY = "compare_exchange(&host->lock, 0, 1)"
NO_LOCK = "\tif (!try_lock(host))\n\t\treturn -EBUSY;\n"
KICK_BEGINS = NO_LOCK + "\terror = -EINVAL;\n\tif (!host->image"
OWNER = "\thost->owner = host->offer;\n"
WAITED = "\twarm_reset_undo();\n\tunlock(host);\n\treturn verdict;"
KICK_MISTAKES = {
    "the lock is not taken": (LOCK, TRY, TRY.replace("1)", "0)"), locking.TAKEN_ONCE),
    "a lock that is held is taken": (LOCK, TRY, TRY.replace("0,", "1,"), locking.TAKEN_ONCE),
    "no locked instruction": (LOCK, TRY, "!host->lock && (host->lock = 1)", locking.GIVEN_BACK),
    "the offer is noted before": (
        *(KICK, KICK_BEGINS),
        "\thost->offer = STATUS_OFFERED + cpu_apic_id(cpu);\n" + KICK_BEGINS,
        locking.GUARDED,
    ),
    "the image is read before": (
        *(KICK, KICK_BEGINS),
        "\tconst struct image *image = *(const struct image *volatile *)&host->image;\n\n"
        + KICK_BEGINS.replace("!host->image", "!image"),
        locking.GUARDED,
    ),
    "the area is left open": (KICK, OWNER, "\tunlock(host);\n" + OWNER, locking.GUARDED),
    "INIT is sent behind the lock": (
        *(KICK, "\terror = wake_up("),
        "\tunlock(host);\n\terror = wake_up(",
        locking.ACTED,
    ),
    "somebody else's lock is given back": (
        *(KICK, KICK_BEGINS),
        "\terror = -EBUSY;\n" + KICK_BEGINS.replace("return -EBUSY", "goto out"),
        locking.GIVEN_BACK,
    ),
    "the lock is given back twice": (
        *(KICK, "out:\n\tunlock(host);"),
        "\tunlock(host);\nout:\n\tunlock(host);",
        locking.GIVEN_BACK,
    ),
    "a kick that worked gives it back": (
        *(KICK, "\t\treturn 0;\n\twarm"),
        "\t\tgoto out;\n\twarm",
        kicking.KEPT,
    ),
    "the wait does not give it back": (
        *(KICK, WAITED, WAITED.replace("\tunlock(host);\n", "")),
        kicking.KEPT,
    ),
    "no warm-reset vector": (KICK, "\twarm_reset_set(area->base);\n", "", kicking.WARM_SET),
    "the warm-reset vector comes late": (
        *(KICK, "\twarm_reset_set(area->base);\n\texchange(status_word(area), host->offer);"),
        "\texchange(status_word(area), host->offer);",
        kicking.WARM_SET,
    ),
    "an APIC id of 255": ("include/host.h", "APIC_IDS\t\t255", "APIC_IDS\t\t256", kicking.NAMED),
    "APIC ids of nine bits": (
        *("include/host.h", "APIC_IDS\t\t255", "APIC_IDS\t\t512"),
        kicking.NAMED,
    ),
    "the area's size is lost": (KICK, OWNER, OWNER + "\thost->area.size = 0;\n", kicking.OWN),
    "the image to start is changed": (
        *(KICK, OWNER, OWNER + "\t((struct image *)host->image)->nr_segments = 0;\n"),
        kicking.OWN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", KICK_MISTAKES)
def test_a_mistake_in_the_kick_is_refuted(mistake: str, changed: Change) -> None:
    file, old, new, goal = KICK_MISTAKES[mistake]
    host = changed("multikernel", file, old, new)
    assert refuted(kick_obligations(host, contract_of("multikernel")), goal)


def test_the_rfcs_kick_has_to_give_the_lock_back(changed: Change) -> None:
    host = changed("multikernel_rfc", "multikernel_rfc/kick.c", "out:\n\tunlock(host);", "out:")
    assert refuted(kick_obligations(host, contract_of("multikernel_rfc")), kicking.KEPT)


def test_a_lock_that_is_none_of_the_hosts_is_refused(changed: Change) -> None:
    host = changed("multikernel", LOCK, TRY, "compare_exchange(&host->offer, 0, 1)")
    with pytest.raises(Refusal, match="a locked instruction on something else than the lock"):
        kick_obligations(host, contract_of("multikernel"))


LOAD_CHECKS = "\terror = -EINVAL;\n\tif (image->type == TYPE_MULTIKERNEL)\n"
LOAD_BEGINS = NO_LOCK + LOAD_CHECKS + "\t\terror = check_segments(image);"
LOADS = "\t\t\terror = load_segment(&image->segment[i]);\n"
LOAD_MISTAKES = {
    "the lock is not taken": (LOCK, TRY, TRY.replace("1)", "0)"), locking.TAKEN_ONCE),
    "the old image is forgotten without the lock": (
        *(LOAD, "\t\thost->image = NULL;", "\t\tunlock(host);\n\t\thost->image = NULL;"),
        locking.GUARDED,
    ),
    "the list is checked before": (
        *(LOAD, LOAD_BEGINS),
        "\terror = check_segments(image);\n"
        + NO_LOCK
        + "\tif (image->type != TYPE_MULTIKERNEL)\n\t\terror = -EINVAL;",
        locking.ACTED,
    ),
    "other segments than the last are loaded without the lock": (
        *(LOAD, LOADS),
        "\t\t{\n" + LOADS + "\t\t\tif (!error && i + 1 < image->nr_segments)\n"
        "\t\t\t\thost->lock = 0;\n\t\t}\n",
        locking.ACTED,
    ),
}


@pytest.mark.parametrize("mistake", LOAD_MISTAKES)
def test_a_mistake_in_the_load_is_refuted(mistake: str, changed: Change) -> None:
    file, old, new, goal = LOAD_MISTAKES[mistake]
    assert refuted(image_obligations(changed("multikernel", file, old, new)), goal)
