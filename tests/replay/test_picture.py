# SPDX-License-Identifier: GPL-2.0-only
"""The picture of one start: its modes, what it touches, what its tables map."""

from __future__ import annotations

from functools import cache

from harness.record import PictureRecord
from harness.replay.picture import _Leaf, _leaves, _mappings, picture
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Predictor
from harness.x86.execute import execute
from trampoline.contract import load_contract
from trampoline.image import load_image
from trampoline.shipped import contract_of

VALUES = {
    "kernel_phys_addr": 0x100_0000,
    "boot_params_phys_addr": 0x20000,
    "sipi_vector": 0x90,
    "maxphyaddr": 40,
}


@cache
def of_multikernel() -> tuple[Predictor, PictureRecord]:
    contract = load_contract(contract_of("multikernel"))
    image = load_image(contract)
    predictor = Predictor(contract, image, execute(contract, image, 0x90000))
    given = as_on_qemu(predictor, VALUES, {})
    return predictor, picture(
        predictor, predictor.predict(given), {"kernel_phys_addr": "0x1000000"}
    )


def test_the_modes_come_in_the_order_of_the_path() -> None:
    _, found = of_multikernel()
    assert [one.mode for one in found.modes] == [
        "real-address mode",
        "16-bit protected mode",
        "32-bit protected mode",
        "32-bit compatibility mode",
        "64-bit mode",
    ]
    assert all(one.instructions for one in found.modes)


def test_what_is_touched_lies_in_the_image_and_a_loop_is_whole() -> None:
    predictor, found = of_multikernel()
    base, size = 0x90000, len(predictor.image.data)
    assert (found.base, found.size) == ("0x90000", size)
    assert found.own_tables
    named = {one.start: one.where for one in found.pages}
    assert named["0x90000"] == "trampoline_data_bsp" and named["0x98000"] == "pgtable_extra_bsp"
    for one in found.stretches:
        assert base <= int(one.start, 16) < int(one.end, 16) <= base + size
        assert one.where
    tables = base + predictor.image.symbols["pgtable_bsp"]
    end = base + predictor.image.symbols["pgtable_extra_bsp_end"]
    zeroed = {
        address
        for one in found.stretches
        if one.what == "written"
        for address in range(int(one.start, 16), int(one.end, 16))
    }
    assert zeroed >= set(range(tables, end))


def test_all_below_4_gib_is_mapped_to_itself() -> None:
    (one,) = of_multikernel()[1].mappings
    assert (one.start, one.end, one.physical) == ("0x0", "0x100000000", "0x0")
    assert (one.page, one.rights) == (1 << 21, "rwx")
    assert one.entries == "PML4[0].PDPT[0].PD[0] to PDPT[3].PD[511]"


def leaves(entries: dict[int, int], levels: int = 4) -> list[tuple[int, int, int, str]]:
    """Of tables from 0x1000 on, given by the entries that are not 0."""

    def byte(address: int) -> int:
        return entries.get(address & -8, 0) >> 8 * (address % 8) & 0xFF

    found, _ = _leaves(0x1000, levels, byte)
    return [(one.start, one.size, one.physical, one.rights) for one in found]


def test_rights_are_those_of_all_levels() -> None:
    way = {0x1000: 0x2001, 0x2000: 0x3003, 0x3000: 0x4003}
    assert leaves({**way, 0x4000: 0x7003}) == [(0, 0x1000, 0x7000, "rx")]
    no_execute = 1 << 63 | 0x7003
    assert leaves({**way, 0x1000: 0x2003, 0x4000: no_execute}) == [(0, 0x1000, 0x7000, "rw")]


def test_the_upper_half_is_canonical_and_a_large_page_is_no_table() -> None:
    found = leaves({0x1800: 0x2003, 0x2008: 0x4000_0083})
    assert found == [(0xFFFF_8000_4000_0000, 1 << 30, 0x4000_0000, "rwx")]
    found = leaves({0x1000: 0x2003, 0x2000: 0x3003, 0x3800: 0x4000_0083}, levels=5)
    assert found == [(256 << 30, 1 << 30, 0x4000_0000, "rwx")]


def test_tables_that_lead_to_themselves_are_given_up() -> None:
    assert len(leaves({0x1000: 0x1003})) == 1  # the entry is a PTE at last


def test_what_is_cut_off_is_said_and_lies_above_what_is_shown() -> None:
    """A PDPT whose entries all name one page directory, with one large page."""
    tables = {0x1000: 0x2003, 0x3000: 0x83, **{0x2000 + 8 * n: 0x3003 for n in range(512)}}

    def byte(address: int) -> int:
        return tables.get(address & -8, 0) >> 8 * (address % 8) & 0xFF

    found, cut_off = _leaves(0x1000, 4, byte)
    assert cut_off
    assert [one.start for one in found] == [n << 30 for n in range(len(found))]
    assert not _leaves(0x3000, 2, byte)[1]


def test_entries_are_named_from_the_first_to_the_last() -> None:
    two, gib = 1 << 21, 1 << 30

    def leaf(linear: int) -> _Leaf:
        return _Leaf(linear, two, linear, 2, (0, linear // gib, linear % gib // two), "rwx")

    across = [leaf(gib - 2 * two + n * two) for n in range(4)]
    assert [one.entries for one in _mappings(across)] == [
        "PML4[0].PDPT[0].PD[510] to PDPT[1].PD[1]"
    ]
    assert [one.entries for one in _mappings(across[:1])] == ["PML4[0].PDPT[0].PD[510]"]
