# SPDX-License-Identifier: GPL-2.0-only
"""What an image must be before its first byte is written, however many segments it has."""

from __future__ import annotations

import pytest

from harness.host import image, lists
from harness.host.checks import NO_BYTE_IN_AREA, NO_COMMON_BYTE, UNCHANGED, check_obligations
from harness.host.image import image_obligations
from harness.host.lists import list_obligations
from harness.host.refusal import Refusal
from harness.host.rounds import SHOWN, STEADY
from harness.solve.obligation import Verdict
from tests.host.conftest import Change
from tests.host.judge import not_proved, refuted, verdicts
from trampoline.host_object import HostObject


def test_the_hardened_host_checks_all(hardened: HostObject) -> None:
    assert not not_proved(check_obligations(hardened))
    assert not not_proved(list_obligations(hardened))
    found = verdicts(image_obligations(hardened))
    assert set(found.values()) == {Verdict.PROVED}
    assert {image.SET_ASIDE, image.AREA, image.ENTRY, image.TYPE, image.DAMAGED} <= set(found)


def test_the_rfc_lacks_the_checks_that_are_compiled_out(rfc: HostObject) -> None:
    assert not not_proved(check_obligations(rfc))
    assert not not_proved(list_obligations(rfc))
    missing = (image.SET_ASIDE, image.AREA, image.ENTRY, image.TYPE, image.DAMAGED)
    assert not_proved(image_obligations(rfc)) == dict.fromkeys(missing, Verdict.REFUTED)


def test_a_host_with_room_for_more_segments_is_proved_in_the_same_way(changed: Change) -> None:
    host = changed(
        *("multikernel", "include/host.h"), "SEGMENTS_MAX\t\t16", "SEGMENTS_MAX\t\t1000000"
    )
    assert host.constants["SEGMENTS_MAX"] == 1_000_000
    assert not not_proved([*list_obligations(host), *image_obligations(host)])


SOUND = "0 exactly for a sound segment"
CHECK_MISTAKES = {
    "a segment may wrap around": ("segment.c", "one->mem + one->memsz < one->mem", "0", SOUND),
    "half a page": ("segment.c", "% PAGE_SIZE)", "% (PAGE_SIZE / 2))", SOUND),
    "no room for the buffer": ("segment.c", "one->bufsz > one->memsz", "0", SOUND),
    "the last byte may be shared": (
        *("include/host.h", "address - start < size", "address - start + 1 < size"),
        NO_COMMON_BYTE,
    ),
    "a pair is compared in one order only": (
        *("segment.c", "\treturn meet(one->mem, one->memsz, other->mem, other->memsz)"),
        "\tif (one > other)\n\t\treturn 0;\n"
        "\treturn meet(one->mem, one->memsz, other->mem, other->memsz)",
        NO_COMMON_BYTE,
    ),
    "an empty one meets": (
        *("include/host.h", "return size && other_size && (", "return ("),
        "refused only if they meet",
    ),
    "the host's memory": (
        *("multikernel/load.c", "used_by_host(one->mem, one->memsz)", "0"),
        "0 exactly for a place that is set aside",
    ),
    "the area": (
        *("multikernel/load.c", "host->area.base, host->area.size)", "host->area.base, 1)"),
        NO_BYTE_IN_AREA,
    ),
    "a place that is checked for some segments only": (
        *("multikernel/load.c", "\tif (used_by_host(one->mem, one->memsz))"),
        "\tif ((u64)one & 0x100)\n\t\treturn 0;\n\tif (used_by_host(one->mem, one->memsz))",
        NO_BYTE_IN_AREA,
    ),
    "one byte is asked about": (
        *("multikernel/load.c", "!reserved_for_kernels(one->mem, one->memsz)"),
        *("!reserved_for_kernels(one->mem, 1)", "the platform is asked about this segment"),
    ),
    "the byte behind it": (
        *("multikernel/load.c", "lies_in(image->entry, one->mem, one->memsz)"),
        *(
            "lies_in(image->entry, one->mem, one->memsz + 1)",
            "true exactly if the entry lies in the segment",
        ),
    ),
    "a check that changes the segment": (
        *("segment.c", "\tif (one->bufsz > one->memsz)"),
        *("\t((struct segment *)one)->buf = NULL;\n\tif (one->bufsz > one->memsz)", UNCHANGED),
    ),
}


@pytest.mark.parametrize("mistake", CHECK_MISTAKES)
def test_a_mistake_in_a_check_is_refuted(mistake: str, changed: Change) -> None:
    file, old, new, goal = CHECK_MISTAKES[mistake]
    assert refuted(check_obligations(changed("multikernel", file, old, new)), goal)


IS_SOUND = "0: the segment is sound"
NTH = "for (u32 i = 0; !error && i < number; i++)"
ALL = "for (u32 i = 0; !error && i < image->nr_segments; i++)"
ENTRY_LOOP = "for (u32 i = 0; i < image->nr_segments; i++)"
LIST_MISTAKES = {
    "the last segment is not checked": (
        *("segment.c", ALL, ALL.replace("i <", "i + 1 <")),
        "0: every segment is sound, and no two meet",
    ),
    "the first segment is not checked": ("segment.c", ALL, ALL.replace("i = 0", "i = 1"), SHOWN),
    "every other segment is checked": ("segment.c", ALL, ALL.replace("i++", "i += 2"), lists.ABOUT),
    "one segment too many is checked": ("segment.c", ALL, ALL.replace("i <", "i <="), SHOWN),
    "neighbours are not compared": (
        *("segment.c", NTH, NTH.replace("i <", "i + 1 <")),
        "0: it meets none of those before it",
    ),
    "only neighbours are compared": (
        *("segment.c", NTH, "for (u32 i = number - 1; !error && i < number; i = number)"),
        lists.ABOUT,
    ),
    "an error is overwritten": ("segment.c", NTH, NTH.replace("!error && ", ""), IS_SOUND),
    "any number of segments": (
        *("segment.c", "nr_segments > SEGMENTS_MAX", "nr_segments == 1234567890"),
        lists.ROOM,
    ),
    "a segment more than there is room for": (
        *("segment.c", "nr_segments > SEGMENTS_MAX", "nr_segments > SEGMENTS_MAX + 1"),
        "0: there are no more segments than an image has room for",
    ),
    "a wrong error": (
        *("segment.c", "nr_segments > SEGMENTS_MAX)\n\t\treturn -EINVAL"),
        *("nr_segments > SEGMENTS_MAX)\n\t\treturn -EADDRNOTAVAIL", lists.RESULT),
    ),
    "the first segment is not entered": (
        *("multikernel/load.c", ENTRY_LOOP, ENTRY_LOOP.replace("i = 0", "i = 1")),
        SHOWN,
    ),
    "any entry will do": (
        *("multikernel/load.c", "\t\t\treturn 0;\n\treturn -EADDRNOTAVAIL;"),
        *("\t\t\treturn 0;\n\treturn 0;", lists.ENTERED),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", LIST_MISTAKES)
def test_a_mistake_in_the_loops_over_checks_is_refuted(mistake: str, changed: Change) -> None:
    file, old, new, goal = LIST_MISTAKES[mistake]
    assert refuted(list_obligations(changed("multikernel", file, old, new)), goal)


LOAD = "multikernel/load.c"
PLACES = ALL + "\n\t\terror = check_place"
LOADS = ALL + "\n\t\t\terror = load_segment"
LOAD_MISTAKES = {
    "the list is not checked": (LOAD, "error = check_segments(image);", "error = 0;", image.PAIRS),
    "the places are not checked": (
        *(LOAD, "\t\terror = check_place(host, &image->segment[i]);", "\t\t(void)host;"),
        image.AREA,
    ),
    "the last place is not checked": (
        *(LOAD, PLACES, PLACES.replace("i <", "i + 1 <")),
        image.SET_ASIDE,
    ),
    "the same place is checked each time": (
        *(LOAD, "check_place(host, &image->segment[i])", "check_place(host, &image->segment[0])"),
        lists.ABOUT,
    ),
    "the entry is not checked": (
        *(LOAD, "\t\terror = check_entry(image);", "\t\t(void)host;"),
        image.ENTRY,
    ),
    "any type": (LOAD, "if (image->type == TYPE_MULTIKERNEL)", "", image.TYPE),
    "the old image stays": (LOAD, "\t\thost->image = NULL;\n", "", image.DAMAGED),
    "the new image is not kept": (
        *(LOAD, "\t\t\thost->image = image;", "\t\t\t(void)image;"),
        image.KEPT,
    ),
    "an error is overwritten": (LOAD, LOADS, LOADS.replace("!error && ", ""), lists.ENDS),
    "the last segment is not loaded": (LOAD, LOADS, LOADS.replace("i <", "i + 1 <"), image.LOADED),
    "a segment is loaded twice": (LOAD, LOADS, LOADS.replace("i++", "i += i & 1"), lists.ABOUT),
    "an error is hidden": (
        *(LOAD, "\tunlock(host);\n\treturn error;", "\tunlock(host);\n\treturn 0;"),
        image.RESULT,
    ),
    "the lock stays": (LOAD, "\tunlock(host);\n", "", image.UNLOCKED),
    "the mail is changed": (
        *(LOAD, "\tunlock(host);\n", "\thost->boot_params = 0;\n\tunlock(host);\n"),
        image.OWN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", LOAD_MISTAKES)
def test_a_mistake_in_the_load_is_refuted(mistake: str, changed: Change) -> None:
    file, old, new, goal = LOAD_MISTAKES[mistake]
    assert refuted(image_obligations(changed("multikernel", file, old, new)), goal)


def test_rounds_that_grow_in_another_way_are_refuted(changed: Change) -> None:
    host = changed(
        *("multikernel", "segment.c"),
        *(ALL, "for (u32 i = 0; !error && i < image->nr_segments; i = 2 * i + 1)"),
    )
    assert refuted(list_obligations(host), STEADY)


def test_two_loops_over_the_same_check_are_refused(changed: Change) -> None:
    twice = "\tif (!error)\n\t\terror = check_entry(image);"
    host = changed("multikernel", LOAD, twice, twice + "\n\t" + PLACES + "(host, image->segment);")
    with pytest.raises(Refusal, match="calls check_place again, in another way"):
        image_obligations(host)


def test_a_segment_that_is_looked_at_without_a_check_is_refused(changed: Change) -> None:
    host = changed(
        *("multikernel", LOAD, "check_place(host, &image->segment[i]);"),
        "check_place(host, &image->segment[i]) + image->segment[i].memsz;",
    )
    with pytest.raises(Refusal, match=r"access .* in multikernel_load"):
        image_obligations(host)
