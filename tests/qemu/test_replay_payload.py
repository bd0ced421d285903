# SPDX-License-Identifier: GPL-2.0-only
"""The host image and the payload are what the protocol says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from harness.qemu import firmware
from harness.qemu.placing import UD2, plan
from harness.qemu.protocol import REGISTERS, P
from tests.qemu.jobs import GIB, make_job

RAM = (range(0, 0xA0000), range(4 * GIB, 8 * GIB))


def test_rom_ends_at_4_gib_with_a_jump_at_the_reset_vector() -> None:
    rom = firmware.rom()
    assert P["ROM_BASE"] + len(rom) == 4 * GIB
    assert rom[0xFFF0] in (0xE9, 0xEB)


def test_payload_is_small_and_names_its_job() -> None:
    one, other = firmware.payload(1), firmware.payload(2)
    assert len(one) == len(other) <= 512
    changed = {offset for offset in range(len(one)) if one[offset] != other[offset]}
    labels = firmware.assemble(Path(firmware.__file__).with_name("payload.S")).labels
    assert changed == {labels["arrival"], labels["sequence"]}


def test_arrival_byte_is_never_a_special_value() -> None:
    bytes_ = {firmware.arrival_byte(number) for number in range(1, 1000)}
    assert not bytes_ & {P["NOT_ARRIVED"], P["WRONG_MODE"]}
    assert max(bytes_) < 256


def test_missing_assembler_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(firmware.AssemblerMissing):
        firmware.assemble(tmp_path / "any.S")


def test_report_has_room_for_each_register_once() -> None:
    offsets = sorted(REGISTERS.values())
    assert all(after - before == 8 for before, after in pairwise(offsets))
    assert offsets[-1] + 8 <= P["TABLE_GDTR"]
    assert P["REPORT_VALUES"] + 8 * P["PROBES_MAX"] <= offsets[0]


def test_payload_and_magic_are_erased_but_not_the_image() -> None:
    placing = plan(make_job("boot", kernel=5 * GIB, boot_params=6 * GIB), 7, RAM)
    code, magic = placing.leftovers()
    assert (code.address, code.data[:2], len(code.data)) == (5 * GIB, UD2, len(firmware.payload(7)))
    assert (magic.address, magic.data) == (6 * GIB, bytes(8))


def test_contents_are_expected_only_where_nothing_else_writes() -> None:
    base = 0x90000
    probes = (5 * GIB + 8, 7 * GIB, base, 5 * GIB - 4, 9 * GIB, 7 * GIB + 4)
    job = make_job("boot", base, 5 * GIB, 7 * GIB, probes=probes)
    placing = plan(job, 7, RAM)
    inside, same, image, across, nowhere, straddling = placing.probes
    assert inside == int.from_bytes(firmware.payload(7)[8:16], "little")
    assert same == placing.magic is not None
    assert (image, across, nowhere, straddling) == (None, None, None, None)
