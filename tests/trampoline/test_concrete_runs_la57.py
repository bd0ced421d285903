# SPDX-License-Identifier: GPL-2.0-only
"""The la57 images on an emulated CPU, one input at a time: what they do, and their findings."""

from __future__ import annotations

import pytest
from unicorn.x86_const import UC_CPU_X86_SKYLAKE_SERVER

from tests.trampoline.emulated import (
    ALL,
    GIB,
    LA57,
    MIB,
    PAE,
    TABLES,
    Machine,
    payload,
    shipped,
)

TOP_TABLE, TRAMPOLINE, PAGE_END = 0x7000, 0x7C00, 0x8000
STACK = TABLES + 0x8000
HIGH = 5 * GIB
BOOT_PARAMS = 0x1_2345_6789
DF = 0x400
BOTH = ("la57", "la57_posted")
BASES = (2 * MIB + 0x123, HIGH)


def machine(name: str, base: int = HIGH, levels: int = 4) -> Machine:
    """The kernel at `base`, and rubbish where trampoline and top-level table go."""
    made = Machine(shipped(name), base, high=HIGH)
    made.place(TOP_TABLE, b"\xff" * (PAGE_END - TOP_TABLE))
    made.place(base + made.image.symbols["paging_enabled"], payload())
    made.map_to_itself(TABLES, TABLES + 0x1000, levels)
    return made


def enter(kernel: Machine, **words: int) -> str:
    return kernel.enter(kernel.base, **({"rsi": BOOT_PARAMS, "rsp": STACK} | words))


def goes_on_as_entered(kernel: Machine, rsp: int = STACK) -> None:
    found = kernel.noted
    assert found["rip"] == kernel.base + kernel.image.symbols["paging_enabled"]
    assert (found["rsi"], found["rsp"]) == (BOOT_PARAMS, rsp)
    assert (found["cs"], found["ds"], found["es"], found["ss"]) == (0x10, 0x18, 0x18, 0x18)
    assert found["gdt_base"] == kernel.base + kernel.image.symbols["gdt"]
    assert found["gdt_limit"] == 4 * 8 - 1


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", BOTH)
def test_the_kernel_goes_on_with_5_levels_that_translate_as_4_did(name: str, base: int) -> None:
    kernel = machine(name, base)
    assert enter(kernel) == "arrived"
    goes_on_as_entered(kernel)
    assert kernel.noted["cr4"] == PAE | LA57
    assert kernel.noted["cr3"] == TOP_TABLE
    assert [a for a in (0, TRAMPOLINE, base, 64 * GIB - 1) if kernel.walk(a) != a] == []
    assert [a for a in (64 * GIB, (1 << 47) - 1) if kernel.walk(a) is not None] == []


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", BOTH)
def test_the_switch_is_skipped_without_la57_or_with_it_on(name: str, base: int) -> None:
    without, already = machine(name, base), machine(name, base, levels=5)
    without.model = UC_CPU_X86_SKYLAKE_SERVER
    assert enter(without) == "arrived"
    assert enter(already, cr4=PAE | LA57) == "arrived"
    for kernel, cr4 in ((without, PAE), (already, PAE | LA57)):
        goes_on_as_entered(kernel)
        assert (kernel.noted["cr3"], kernel.noted["cr4"]) == (TABLES, cr4)
        assert kernel.outside == []


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "words",
    [
        {"rsp": HIGH + 0x8000},
        {"rsp": TOP_TABLE + 8},
        {"rflags": 2 | DF},
        {"cr3": TABLES + 0x98},
    ],
)
def test_the_hardened_image_takes_what_the_boot_loader_left(
    base: int, words: dict[str, int]
) -> None:
    kernel = machine("la57", base)
    assert enter(kernel, **words) == "arrived"
    goes_on_as_entered(kernel, rsp=words.get("rsp", STACK))
    assert kernel.noted["cr4"] == PAE | LA57
    assert kernel.noted["rflags"] & DF == 0
    size = kernel.image.symbols["trampoline_32bit_end"] - kernel.image.symbols["trampoline_32bit"]
    assert TRAMPOLINE + size <= PAGE_END
    assert set(kernel.outside) <= {TOP_TABLE, *range(TRAMPOLINE, TRAMPOLINE + size)}
    assert kernel.read(TOP_TABLE + 8) == (1 << 64) - 1


def few_leaves(leaf: int) -> tuple[int, int, int, int]:
    """A CPU whose highest basic leaf is 5, without LA57: of leaf 7 nothing is known."""
    return (5, ALL, ALL, ALL) if leaf == 0 else (ALL, ALL, ALL, ALL)


def test_the_hardened_image_asks_no_leaf_that_the_cpu_lacks() -> None:
    kernel = machine("la57")
    kernel.model, kernel.cpuid = UC_CPU_X86_SKYLAKE_SERVER, few_leaves
    assert enter(kernel) == "arrived"
    assert kernel.noted["cr4"] == PAE


def test_the_hardened_image_loads_the_same_segments_on_both_ways() -> None:
    for levels, cr4 in ((4, PAE), (5, PAE | LA57)):
        kernel = machine("la57", levels=levels)
        assert enter(kernel, cr4=cr4) == "arrived"
        assert (kernel.noted["fs"], kernel.noted["gs"]) == (0x18, 0x18)


def test_the_posted_image_shows_its_findings() -> None:
    kernel = machine("la57_posted")
    assert enter(kernel, rsp=HIGH + 0x8000) == "fault"  # LA57-2: no RAM at 1 GiB + 0x8000
    assert kernel.outside[-1] == GIB + 0x8000 - 4
    assert enter(machine("la57_posted"), rsp=TOP_TABLE + 8) != "arrived"  # LA57-2
    assert enter(machine("la57_posted"), cr3=TABLES + 0x80) == "fault"  # LA57-4
    old = machine("la57_posted")
    old.model, old.cpuid = UC_CPU_X86_SKYLAKE_SERVER, few_leaves
    enter(old)
    assert old.noted["cr4"] & LA57  # LA57-5: unicorn lets it pass, a CPU does not
    assert enter(machine("la57_posted"), rflags=2 | DF) == "fault"  # LA57-6
    left = machine("la57_posted")
    assert enter(left) == "arrived"
    assert (left.noted["fs"], left.noted["gs"]) == (0, 0)  # LA57-8: the boot loader's
