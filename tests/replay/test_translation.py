# SPDX-License-Identifier: GPL-2.0-only
"""The walk of tables in concrete memory."""

from __future__ import annotations

import pytest

from harness.replay.translation import PagingState, is_identity
from models.paging import Access

READ, WRITE, FETCH = Access.READ, Access.WRITE, Access.FETCH
STATE = PagingState(
    cr3=0x1000, five_levels=0, write_protect=1, no_execute=1, gib_pages=1, maxphyaddr=46
)
LARGE, XD = 1 << 7, 1 << 63


def tables(*entries: tuple[int, int]) -> dict[int, int]:
    """Bytes by address of 8-byte entries."""
    return {at + i: value >> 8 * i & 0xFF for at, value in entries for i in range(8)}


def ask(entries: dict[int, int], linear: int, access: Access, state: PagingState = STATE) -> bool:
    return is_identity(linear, access, state, lambda address: entries.get(address, 0))


GIB_2 = tables((0x1000, 0x2003), (0x2010, (2 << 30) | LARGE | 1 | XD))
"""Maps the third GiB to itself, read-only, not to be executed."""


@pytest.mark.parametrize(
    ("linear", "access", "state", "mapped"),
    [
        (0x8000_0000, READ, STATE, True),
        (0xBFFF_FFFF, READ, STATE, True),
        (0xC000_0000, READ, STATE, False),
        (0x7FFF_FFFF, READ, STATE, False),
        (0x8000_0000, WRITE, STATE, False),
        (0x8000_0000, WRITE, STATE._replace(write_protect=0), True),
        (0x8000_0000, FETCH, STATE, False),
        (0x8000_0000, READ, STATE._replace(no_execute=0), False),  # XD is reserved
        (0x8000_0000, READ, STATE._replace(gib_pages=0), False),  # so is PS
        (0x8000_0000, READ, STATE._replace(maxphyaddr=31), False),  # and bit 31
        (0x8000_0000, READ, STATE._replace(five_levels=1), False),
        (0x8000_8000_0000, READ, STATE, False),  # not canonical
    ],
)
def test_an_address_is_mapped_to_itself_as_entries_and_flags_say(
    linear: int, access: Access, state: PagingState, mapped: bool
) -> None:
    assert ask(GIB_2, linear, access, state) == mapped


def test_a_page_that_leads_elsewhere_is_no_identity() -> None:
    entries = tables((0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x9003))
    assert not ask(entries, 0, READ)
    assert ask(entries | tables((0x4000, 3)), 0, WRITE)


def test_five_levels_begin_one_table_higher() -> None:
    state = STATE._replace(five_levels=1, cr3=0x7000)
    assert ask(GIB_2 | tables((0x7000, 0x1003)), 0x8000_0000, READ, state)
