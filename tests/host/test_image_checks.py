# SPDX-License-Identifier: GPL-2.0-only
"""What an image must be before its first byte is written, and what the set-up reserves."""

from __future__ import annotations

import pytest

from harness.host.area import setup_obligations
from harness.host.checks import check_obligations
from harness.host.image import image_obligations
from harness.solve.obligation import Verdict
from tests.host.conftest import Change
from tests.host.judge import not_proved, refuted, verdicts
from trampoline.host_object import HostObject

SET_ASIDE = "every segment lies in memory reserved for other kernels, none in the host's"
AREA = "no segment meets the trampoline area"
ENTRY = "the entry point lies in a segment"
TYPE = "the image is one for a multikernel"
DAMAGED = "failure: no image whose memory may be written is left to start"


def test_the_hardened_host_checks_all(hardened: HostObject) -> None:
    assert not not_proved(check_obligations(hardened))
    found = verdicts(image_obligations(hardened, segments_max=2))
    assert set(found.values()) == {Verdict.PROVED}
    assert {SET_ASIDE, AREA, ENTRY, TYPE, DAMAGED} <= set(found)


def test_the_rfc_lacks_the_checks_that_are_compiled_out(rfc: HostObject) -> None:
    assert not not_proved(check_obligations(rfc))
    found = not_proved(image_obligations(rfc, segments_max=2))
    assert found == dict.fromkeys((SET_ASIDE, AREA, ENTRY, TYPE, DAMAGED), Verdict.REFUTED)


def test_only_the_hardened_host_reserves_exactly_the_area(
    rfc: HostObject, hardened: HostObject
) -> None:
    assert not not_proved(setup_obligations(hardened))
    assert not_proved(setup_obligations(rfc)) == {"exactly the area is reserved": Verdict.REFUTED}


SOUND = "0 exactly for a sound segment"
CHECK_MISTAKES = {
    "a segment may wrap around": ("segment.c", "one->mem + one->memsz < one->mem", "0", SOUND),
    "half a page": ("segment.c", "% PAGE_SIZE)", "% (PAGE_SIZE / 2))", SOUND),
    "no room for the buffer": ("segment.c", "one->bufsz > one->memsz", "0", SOUND),
    "the last byte may be shared": (
        *("include/host.h", "address - start < size", "address - start + 1 < size"),
        "0: no byte is in both segments",
    ),
    "an empty one meets": (
        *("include/host.h", "return size && other_size && (", "return ("),
        "refused only if they meet",
    ),
    "the host's memory": (
        *("multikernel/load.c", "used_by_host(one->mem, one->memsz)", "0"),
        "0 exactly for a place that is set aside",
    ),
    "one byte is asked about": (
        *("multikernel/load.c", "!reserved_for_kernels(one->mem, one->memsz)"),
        *("!reserved_for_kernels(one->mem, 1)", "the platform is asked about this segment"),
    ),
    "the first segment is not entered": (
        *("multikernel/load.c", "for (u32 i = 0; i < image", "for (u32 i = 1; i < image"),
        "0 exactly if the entry lies in a segment",
    ),
}


@pytest.mark.parametrize("mistake", CHECK_MISTAKES)
def test_a_mistake_in_a_check_is_refuted(mistake: str, changed: Change) -> None:
    file, old, new, goal = CHECK_MISTAKES[mistake]
    assert refuted(check_obligations(changed("multikernel", file, old, new)), goal)


LOAD = "multikernel/load.c"
LOAD_MISTAKES = {
    "the last segment is not checked": (
        *("segment.c", "!error && i < image->nr_segments", "!error && i + 1 < image->nr_segments"),
        "every segment is sound",
    ),
    "neighbours are not compared": (
        *("segment.c", "for (u32 j = 0; !error && j < i;", "for (u32 j = 0; !error && j + 1 < i;"),
        "no two segments meet",
    ),
    "the places are not checked": (
        *(LOAD, "\t\terror = check_place(host, &image->segment[i]);", "\t\t(void)host;"),
        AREA,
    ),
    "the entry is not checked": (LOAD, "\t\terror = check_entry(image);", "\t\t(void)host;", ENTRY),
    "any type": (LOAD, "if (image->type == TYPE_MULTIKERNEL)", "", TYPE),
    "the old image stays": (LOAD, "\t\thost->image = NULL;\n", "", DAMAGED),
    "the new image is not kept": (
        *(LOAD, "\t\t\thost->image = image;", "\t\t\t(void)image;"),
        "success: this image is the one to start",
    ),
    "an error is overwritten": (
        *(LOAD, "\t\tfor (u32 i = 0; !error && i", "\t\tfor (u32 i = 0; i"),
        "success: nothing failed",
    ),
    "the lock stays": (LOAD, "\tunlock(host);\n", "", "the lock is free again"),
}


@pytest.mark.parametrize("mistake", LOAD_MISTAKES)
def test_a_mistake_in_the_load_is_refuted(mistake: str, changed: Change) -> None:
    file, old, new, goal = LOAD_MISTAKES[mistake]
    host = changed("multikernel", file, old, new)
    assert refuted(image_obligations(host, segments_max=2), goal)


SETUP = "multikernel/setup.c"
SETUP_MISTAKES = {
    "one page less": ("trampoline->size + PAGE_SIZE - 1)", "trampoline->size)"),
    "below 2 MiB": ("LOW_MEMORY_LIMIT)", "2 * LOW_MEMORY_LIMIT)"),
    "half of it is copied": ("image, trampoline->size)", "image, size / 2)"),
    "it goes on without memory": ("\t\tpanic();", "\t\tarea->size = 0;"),
    "the size is not remembered": ("\tarea->size = size;\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("mistake", SETUP_MISTAKES)
def test_a_mistake_in_the_set_up_is_refuted(mistake: str, changed: Change) -> None:
    host = changed("multikernel", SETUP, *SETUP_MISTAKES[mistake])
    assert Verdict.REFUTED in not_proved(setup_obligations(host)).values()
