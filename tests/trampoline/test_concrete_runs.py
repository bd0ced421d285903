# SPDX-License-Identifier: GPL-2.0-only
"""The shipped images on an emulated CPU (unicorn, MAXPHYADDR 40), one input at a time.

The proofs speak of all inputs; these few say that the images do at all what their sources say.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import unicorn
from unicorn import x86_const

from trampoline.contract import load_contract
from trampoline.image import Image, load_image

GIB = 1 << 30
RAM = 0x200000
JUMP = b"\x41\xff\xe6"  # jmp *%r14
HLT = b"\xf4"
OFFERED, RUNNING = 0x10000000, 0xB0000001
REFUSED_KERNEL, REFUSED_BOOT_PARAMS, REFUSED_CPU = 0xE0000001, 0xE0000002, 0xE0000003
CPUID_EXTENDED, CPUID_FEATURES, LM = 0x80000000, 0x80000001, 1 << 29


@dataclass
class Outcome:
    """What one run did; `end` is "jump", "parked" or "fault"."""

    image: Image
    base: int
    memory: bytes = b""
    end: str = "fault"
    outside: list[int] = field(default_factory=list)  # addresses written outside the image

    def word(self, symbol: str) -> int:
        at = self.base + self.image.symbols[symbol]
        return int.from_bytes(self.memory[at : at + 4], "little")

    def maps_to_itself(self, address: int) -> bool:
        """A 4-level walk from pgtable_bsp, by hand; tables outside RAM count as empty."""
        table = self.base + self.image.symbols["pgtable_bsp"]
        for shift in (39, 30, 21):
            at = table + 8 * (address >> shift & 511)
            entry = int.from_bytes(self.memory[at : at + 8], "little")
            if not entry & 1:
                return False
            table = entry & ~0xFFF
        return entry & 0x80 != 0 and entry >> 21 == address >> 21


def run(
    name: str, base: int, kernel: int, boot_params: int, extended: int | None = None
) -> Outcome:
    """Start the image at `base`, with rubbish where an earlier start may have left it.

    `extended`: the CPU has no long mode; this is its highest extended leaf, all of CPUID that the
    image may then rely on.
    """
    image = load_image(load_contract(Path("trampoline") / name / "contract.toml"))
    at = image.symbols
    data = bytearray(image.data)
    data[at["trampoline_status_bsp"] : at["pgtable_bsp"]] = b"\xcc" * (
        at["pgtable_bsp"] - at["trampoline_status_bsp"]
    )
    offer = OFFERED if extended is None else OFFERED + 0xFF  # to the APIC id that CPUID tells
    struct.pack_into("<I", data, at["trampoline_status_bsp"], offer)
    data[at["pgtable_bsp"] :] = b"\xcd" * (len(data) - at["pgtable_bsp"])
    struct.pack_into("<QQ", data, at["boot_params_phys_addr"], boot_params, kernel)
    outcome = Outcome(image, base)

    def on_code(machine: unicorn.Uc, address: int, size: int, _: object) -> None:
        code = bytes(machine.mem_read(address, size))
        if code in (JUMP, HLT):
            outcome.end = "jump" if code == JUMP else "parked"
            machine.emu_stop()

    def on_write(
        _: unicorn.Uc, kind: int, address: int, size: int, value: int, user: object
    ) -> None:
        if not base <= address <= base + len(data) - size:
            outcome.outside.append(address)

    def on_cpuid(machine: unicorn.Uc, _: object) -> bool:
        leaf = machine.reg_read(x86_const.UC_X86_REG_EAX)
        exists = leaf == CPUID_FEATURES and extended is not None and extended >= leaf
        # Of a leaf that does not exist nothing is known, so that one may look like long mode.
        for name in ("EAX", "EBX", "ECX", "EDX"):
            answer = ~LM if exists else ~0
            if leaf == CPUID_EXTENDED and name == "EAX" and extended is not None:
                answer = extended
            machine.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), answer & 0xFFFF_FFFF)
        return True

    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
    if extended is not None:
        cpuid = x86_const.UC_X86_INS_CPUID
        machine.hook_add(unicorn.UC_HOOK_INSN, on_cpuid, aux1=cpuid)
    machine.mem_map(0, RAM)
    machine.mem_write(base, bytes(data))
    machine.reg_write(x86_const.UC_X86_REG_CS, base >> 4)
    machine.hook_add(unicorn.UC_HOOK_CODE, on_code)
    machine.hook_add(unicorn.UC_HOOK_MEM_WRITE, on_write)
    try:
        machine.emu_start(base, 0)
    except unicorn.UcError:
        outcome.end = "fault"
    outcome.memory = bytes(machine.mem_read(0, RAM))
    return outcome


@pytest.mark.parametrize("base", [0x1000, 0x10000, 0x90000])
@pytest.mark.parametrize(
    ("kernel", "boot_params"),
    [
        (16 << 20, 0x20000),
        (1 << 20, 0),
        (0xFFFF_FFFF, 0xFFFF_F800),  # both over 4 GiB at their end
        (5 * GIB, 6 * GIB),
        (5 * GIB + 0x1234567, 6 * GIB - 8),
        (512 * GIB - 4096, 256 * GIB - 1),  # the kernel into the next PML4 entry
        (512 * GIB, 512 * GIB),
        (600 * GIB, 0x20000),
        (1023 * GIB, 0x20000),
        (1024 * GIB - 4096, 1024 * GIB - 4096),  # the last page that the CPU can address
    ],
)
def test_the_hardened_image_maps_kernel_and_boot_params_and_stays_inside(
    base: int, kernel: int, boot_params: int
) -> None:
    outcome = run("multikernel", base, kernel, boot_params)
    assert outcome.end == "jump"
    assert outcome.word("trampoline_status_bsp") == RUNNING
    assert outcome.outside == []
    kernel_last = min(kernel + GIB, 1 << 40) - 1
    ends = [kernel, kernel_last, boot_params, boot_params + 4095, base, base + 0xFFFF]
    assert [a for a in ends if not outcome.maps_to_itself(a)] == []


@pytest.mark.parametrize(
    ("kernel", "boot_params", "status"),
    [
        (1 << 40, 0, REFUSED_KERNEL),
        ((1 << 64) - 1, 0, REFUSED_KERNEL),
        (1 << 40, 1 << 40, REFUSED_KERNEL),
        (16 << 20, 1 << 40, REFUSED_BOOT_PARAMS),
        (16 << 20, (1 << 64) - 1, REFUSED_BOOT_PARAMS),
    ],
)
def test_the_hardened_image_refuses_what_the_cpu_cannot_address(
    kernel: int, boot_params: int, status: int
) -> None:
    refuses(run("multikernel", 0x10000, kernel, boot_params), status)


@pytest.mark.parametrize(
    ("kernel", "boot_params", "status"),
    [
        (0, 0, REFUSED_KERNEL),  # its 1 GiB reaches over the image, wherever below it starts
        (0x10000, 0, REFUSED_KERNEL),
        (0x1FFFF, 0, REFUSED_KERNEL),
        (0x20000, 0, None),
        (0x20000, 0xF000, None),
        (0x20000, 0xF001, REFUSED_BOOT_PARAMS),
        (0x20000, 0x1FFFF, REFUSED_BOOT_PARAMS),
        (0x20000, 0x20000, None),  # kernel and boot_params may meet each other: the host's affair
    ],
)
def test_the_hardened_image_refuses_what_meets_it(
    kernel: int, boot_params: int, status: int | None
) -> None:
    outcome = run("multikernel", 0x10000, kernel, boot_params)
    if status is None:
        assert outcome.end == "jump"
        assert outcome.word("trampoline_status_bsp") == RUNNING
    else:
        refuses(outcome, status)


@pytest.mark.parametrize("extended", [0, 0x80000000, CPUID_FEATURES, 0x80000008])
def test_the_hardened_image_refuses_a_cpu_without_long_mode(extended: int) -> None:
    refuses(run("multikernel", 0x10000, 16 << 20, 0x20000, extended), REFUSED_CPU)


def refuses(outcome: Outcome, status: int) -> None:
    """The host is told, and what the kernel would need is not begun."""
    assert outcome.end == "parked"
    assert outcome.word("trampoline_status_bsp") == status
    assert outcome.outside == []
    extra = outcome.base + outcome.image.symbols["pgtable_extra_bsp"]
    tables = outcome.memory[extra : extra + 8 * 4096]
    assert set(tables) == ({0xCD} if status == REFUSED_CPU else {0})


@pytest.mark.parametrize("kernel", [16 << 20, 3 * GIB, 5 * GIB, 511 * GIB])
def test_the_posted_image_boots_a_kernel_below_512_gib(kernel: int) -> None:
    outcome = run("multikernel_rfc", 0x90000, kernel, 0x20000)
    assert outcome.end == "jump"
    assert outcome.maps_to_itself(kernel)
    assert outcome.maps_to_itself(0x20000)


def test_the_posted_image_shows_its_findings() -> None:
    high = run("multikernel_rfc", 0x10000, 600 * GIB, 0x20000)
    assert not high.maps_to_itself(600 * GIB)  # MKRFC-1
    crossing = run("multikernel_rfc", 0x10000, 6 * GIB - 4096, 0x20000)
    assert not crossing.maps_to_itself(6 * GIB)  # MKRFC-2
    apart = run("multikernel_rfc", 0x10000, 5 * GIB, 6 * GIB)
    assert not apart.maps_to_itself(6 * GIB)  # MKRFC-3
    # MKRFC-4: two pushes below the stack's end, taken from address 0 instead of the base
    stack_end = apart.image.symbols["trampoline_stack_bsp_end"]
    assert apart.outside == [stack_end - 4, stack_end - 8]
