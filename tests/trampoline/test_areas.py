# SPDX-License-Identifier: GPL-2.0-only
"""Bytes at fixed addresses outside the image: two areas, and areas and image, lie apart."""

from __future__ import annotations

import pytest

from tests.trampoline.conftest import Folder

SIZE = 0x2000
"""Of the small image, whose lowest base is 0x1000."""


def area(name: str, address: int, extent: str = "size = 8") -> str:
    return f'[[area]]\nname = "{name}"\naddress = {address:#x}\n{extent}\nwhy = "A test."\n'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (area("a", 0x7000), area("b", 0x7007)),
        (area("a", 0x7007), area("b", 0x7000)),
        (area("a", 0x7000, "size = 64"), area("b", 0x7010)),
        (area("a", 0x7FFF, 'copy_of = ["entry", "status"]'), area("b", 0x8000)),
    ],
)
def test_areas_that_overlap_are_refused(one: str, other: str, folder: Folder) -> None:
    folder.source()
    assert folder.refusal(scratch=one + other) == (
        "contract.toml: [[area]] no. 2: it overlaps the area a; give one area, or two places."
    )


def test_areas_side_by_side_are_fine(folder: Folder) -> None:
    folder.source()
    copied = area("b", 0x7008, 'copy_of = ["kernel_word", "status"]')
    folder.load(scratch=area("a", 0x7000) + copied + area("c", 0x7018))


def test_an_area_that_ends_beyond_all_addresses_is_refused(folder: Folder) -> None:
    folder.source()
    assert folder.refusal(scratch=area("a", (1 << 47) - 7)) == (
        "contract.toml: [[area]] no. 1: its 0x8 bytes end above 0x800000000000."
    )


@pytest.mark.parametrize(
    ("areas", "limit"),
    [
        (area("a", 0x1000 + SIZE - 8), 0x1000 + SIZE),
        (area("a", 0x1800), 0x1000 + SIZE),
        (area("a", 0, "size = 0x10000"), 0x10000 + SIZE - 0x1000),
        (area("a", 0x2FFF) + area("b", 0x4FFF), 0x6000),
    ],
)
def test_areas_that_leave_no_base_are_refused(areas: str, limit: int, folder: Folder) -> None:
    folder.source()
    assert folder.refusal(scratch=areas, limit=f"{limit:#x}") == (
        "contract.toml: [[area]]: at every base of [base] the image would lie over an area."
    )


@pytest.mark.parametrize(
    ("areas", "limit"),
    [
        (area("a", 0x1000 + SIZE), 0x1000 + SIZE),  # behind the only base
        (area("a", 0xFF8), 0x1000 + SIZE),  # before it
        (area("a", 0x1800), 0x2000 + SIZE),
        (area("a", 0, "size = 0x10000"), 0x10000 + SIZE),
        (area("a", 0x2FF8) + area("b", 0x5000), 0x6000),
    ],
)
def test_one_base_that_is_left_is_enough(areas: str, limit: int, folder: Folder) -> None:
    folder.source()
    folder.load(scratch=areas, limit=f"{limit:#x}")
