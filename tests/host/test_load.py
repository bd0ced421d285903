# SPDX-License-Identifier: GPL-2.0-only
"""A segment's bytes, and only those, get into place; and each mistake in the loop is refuted."""

from __future__ import annotations

import pytest

from harness.host.loading import segment_obligations
from harness.host.refusal import Refusal
from harness.solve.obligation import Verdict
from tests.host.conftest import Change
from tests.host.judge import refuted, verdicts
from trampoline.host_object import HostObject

PLACED = "the piece is in place, nothing else is written"
SUCCESS = "success: [mem, mem + memsz) is the buffer, then zeros"
ELSEWHERE = "nothing else is written"
NEXT = "the next piece begins behind this one"
MAPPED = "what is written is mapped"


def test_any_segment_is_its_buffer_then_zeros_and_nothing_else(rfc: HostObject) -> None:
    found = verdicts(segment_obligations(rfc))
    assert set(found.values()) == {Verdict.PROVED}
    assert {PLACED, SUCCESS, ELSEWHERE, MAPPED, "the loop comes to an end"} <= set(found)


def test_both_hosts_share_the_loop(rfc: HostObject, hardened: HostObject) -> None:
    def code(host: HostObject) -> list[str]:
        return sorted(o.name for o in segment_obligations(host))

    assert code(rfc) == code(hardened)


MISTAKES = {
    "no zeros": ("zero_bytes(page + offset + copied, piece - copied)", "(void)0", SUCCESS),
    "zeros to the page's end": (
        *("piece - copied);", "PAGE_SIZE - offset - copied);"),
        ELSEWHERE,
    ),
    "the offset in the page is forgotten": (
        *("copy_from_user(page + offset,", "copy_from_user(page,"),
        SUCCESS,
    ),
    "a piece may cross the page's end": ("PAGE_SIZE - offset)", "PAGE_SIZE)", MAPPED),
    "the buffer's rest is not counted": ("progress->from_left -= copied;", "", NEXT),
    "the user's address stays": ("progress->from += copied;", "", NEXT),
    "the page after the next": (
        "progress->to += piece;",
        "progress->to += piece + PAGE_SIZE;",
        NEXT,
    ),
    "nothing is counted": ("progress->to_left -= piece;", "", "the loop comes to an end"),
    "a failed copy is success": ("return -EFAULT;", "return 0;", "an error ends the load"),
    "a page that cannot be mapped is EFAULT": (
        *("return -ENOMEM;", "return -EFAULT;"),
        "the result says what failed",
    ),
    "the page stays mapped after an error": (
        *(
            "\tunmap_page(page);\n\tif (missing)\n",
            "\tif (!missing)\n\t\tunmap_page(page);\n\telse\n",
        ),
        "no page stays mapped",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_loop_is_refuted(mistake: str, changed: Change) -> None:
    old, new, goal = MISTAKES[mistake]
    host = changed("multikernel_rfc", "segment.c", old, new)
    assert refuted(segment_obligations(host), goal)


def test_a_write_that_bypasses_the_platform_is_refused(changed: Change) -> None:
    host = changed(
        *("multikernel_rfc", "segment.c"),
        *("\tprogress->from += copied;", "\t*page = 1;\n\tprogress->from += copied;"),
    )
    with pytest.raises(Refusal, match="access in the load of a segment"):
        segment_obligations(host)
