# SPDX-License-Identifier: GPL-2.0-only
"""The layout of the shipped images, which hosts rely on."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

import pytest

from trampoline.contract import load_contract
from trampoline.image import Image, load_image

NAMES = ("multikernel_rfc", "multikernel")

ORDER = (
    "trampoline_data_bsp",
    "startup_32_bsp",
    "startup_64_bsp",
    "boot_params_phys_addr",
    "kernel_phys_addr",
    "tidt_bsp",
    "tgdt_bsp",
    "gdt_bsp_64",
    "startup_32_vector_bsp",
    "startup_64_vector_bsp",
    "trampoline_status_bsp",
    "trampoline_location",
    "trampoline_stack_bsp",
    "trampoline_stack_bsp_end",
    "pgtable_bsp",
    "pgtable_extra_bsp",
    "pgtable_extra_bsp_end",
)


@cache
def shipped(name: str) -> Image:
    return load_image(load_contract(Path("trampoline") / name / "contract.toml"))


@pytest.fixture(params=NAMES)
def image(request: pytest.FixtureRequest) -> Image:
    return shipped(request.param)


def between(image: Image, first: str, end: str) -> bytes:
    return image.data[image.symbols[first] : image.symbols[end]]


def test_the_posted_trampoline_has_9_pages_and_the_hardened_one_16() -> None:
    assert len(shipped("multikernel_rfc").data) == 9 * 4096
    assert len(shipped("multikernel").data) == 16 * 4096


def test_the_parts_are_in_the_order_that_hosts_know(image: Image) -> None:
    offsets = [image.symbols[name] for name in ORDER]
    assert offsets == sorted(offsets)
    assert len(set(offsets)) == len(offsets)
    assert offsets[0] == 0
    assert offsets[-1] == len(image.data)


def test_the_parts_have_their_sizes_and_alignments(image: Image) -> None:
    at = image.symbols
    assert at["startup_32_bsp"] % 4 == at["startup_64_bsp"] % 4 == 0
    assert at["boot_params_phys_addr"] % 8 == 0
    assert at["kernel_phys_addr"] == at["boot_params_phys_addr"] + 8
    assert at["trampoline_stack_bsp"] == at["trampoline_location"] + 8
    assert at["trampoline_stack_bsp_end"] == at["trampoline_stack_bsp"] + 4096
    assert at["pgtable_bsp"] == 2 * 4096
    assert at["pgtable_extra_bsp"] == at["pgtable_bsp"] + 6 * 4096


def test_mailbox_status_stack_and_tables_are_empty(image: Image) -> None:
    assert not any(between(image, "boot_params_phys_addr", "tidt_bsp"))
    assert not any(between(image, "trampoline_status_bsp", "pgtable_extra_bsp_end"))


# A GDT's limit is the offset of its last byte: MKRFC-7 is that the posted ones are one too large.
LIMITS = {"multikernel_rfc": (32, 48), "multikernel": (31, 47)}
# The CPU sets bit 0 of a descriptor's type, accessed, when it loads one that has it clear.
FRESH, ACCESSED = 0, 1 << 40


def test_the_first_gdt_holds_flat_32_bit_64_bit_and_data_segments(image: Image) -> None:
    limit, _ = LIMITS[image.name]
    assert between(image, "tgdt_bsp", "tgdt_bsp_end") == struct.pack(
        "<HIH3Q", limit, 0, 0, 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    )


def test_the_second_gdt_holds_what_the_kernel_is_entered_with(image: Image) -> None:
    _, limit = LIMITS[image.name]
    flag = {"multikernel_rfc": FRESH, "multikernel": ACCESSED}[image.name]
    code, data, tss = 0x00AF9A000000FFFF | flag, 0x00CF92000000FFFF | flag, 0x0080890000000000
    assert between(image, "gdt_bsp_64", "gdt_bsp_64_end") == struct.pack(
        "<HIH5Q", limit, 0, 0, 0, code, data, tss, 0
    )


def test_the_idt_is_empty_and_the_far_pointers_hold_their_selectors(image: Image) -> None:
    at = image.symbols
    assert image.data[at["tidt_bsp"] :][:6] == bytes(6)
    assert image.data[at["startup_32_vector_bsp"] :][:8] == struct.pack("<IHH", 0, 0x08, 0)
    assert image.data[at["startup_64_vector_bsp"] :][:8] == struct.pack("<IHH", 0, 0x10, 0)


def test_each_instruction_has_its_source_line(image: Image) -> None:
    source = Path("trampoline") / image.name / "trampoline.S"
    text = source.read_text(encoding="utf-8").splitlines()
    by_offset = {offset: text[line - 1] for offset, _, line in image.lines}
    assert by_offset[0].split() == ["cli"]
    assert by_offset[1].split() == ["wbinvd"]
    assert "boot_params_phys_addr" in "".join(
        by_offset[o] for o in by_offset if image.symbols["startup_64_bsp"] <= o
    )
    assert {file for _, file, _ in image.lines} == {"trampoline.S"}


def test_the_status_values_in_the_contract_are_those_in_the_source() -> None:
    header = Path("trampoline/include/multikernel.h").read_text(encoding="utf-8")
    defined = {
        words[1]: int(words[2], 16)
        for words in (line.split() for line in header.splitlines())
        if words[:1] == ["#define"] and len(words) > 2
    }
    contract = load_contract(Path("trampoline/multikernel/contract.toml"))
    assert contract.shared.status.started == defined["STATUS_STARTED"]
    assert contract.shared.status.refused is not None
    assert contract.shared.status.refused.kernel == defined["STATUS_REFUSED_KERNEL"]
    assert contract.shared.status.refused.boot_params == defined["STATUS_REFUSED_BOOT_PARAMS"]
    assert contract.shared.status.refused.cpu == defined["STATUS_REFUSED_CPU"]
    shake = contract.shared.status.handshake
    assert shake is not None
    assert shake.offered == defined["STATUS_OFFERED"]
    assert shake.running == defined["STATUS_RUNNING"]
    assert contract.kernel.size_max == defined["KERNEL_SIZE_MAX"]
    assert contract.boot_params is not None
    assert contract.boot_params.size == defined["BOOT_PARAMS_SIZE"]
