# SPDX-License-Identifier: GPL-2.0-only
"""Whole images on an emulated CPU (unicorn): the same instructions, stores and final registers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import unicorn
import z3
from unicorn import x86_const

from harness.x86.lift import lift
from harness.x86.run import Access, EndKind, PathEnd, Run
from harness.x86.terms import INDEX
from models.modes import Mode
from tests.x86.conftest import Execute
from tests.x86.test_shipped_runs import GIB, end_of
from tests.x86.values import OFFERED, Chosen, is_open, offered, value_of
from trampoline.image import Image

RAM = 0x1000000
MAXPHYADDR = 40  # of unicorn's CPU
ACCESSED_AND_DIRTY = 0x60  # the emulated CPU may set them in table entries that it uses
INPUTS = [
    *((0x01, 16 << 20, 0x20000), (0x90, 5 * GIB + 0x1234567, 6 * GIB - 8)),
    *((0x33, 4 * GIB - 4096, 4 * GIB), (0x10, 600 * GIB, 5 * GIB), (0x80, 1 << 50, 0x3000)),
    *((0x10, 0x20000, 0xF000), (0x10, 0x20000, 0x1F000)),  # beside the image, and on it
]
UNICORN = {
    "cpu_has_pae": 1,
    "cpu_has_long_mode": 1,
    "cpuid_max_basic": 1,
    "cpuid_max_extended": 0x8000_0008,
}
"""What unicorn's CPU has at least."""
Store = tuple[int, int, int]
"""Address, size in bytes, value."""


@dataclass
class Emulation:
    """What the emulated CPU did; `registers` are the lower halves of those that unicorn shows."""

    offsets: list[int] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    registers: dict[str, int] = field(default_factory=dict)


def emulate(image: Image, last: int, values: Chosen) -> Emulation:
    """Run until the instruction at offset `last`, which is not executed, or a fault."""
    base, done = values["sipi_vector"] << 12, Emulation()
    data = bytearray(image.data)
    for name in ("kernel_phys_addr", "boot_params_phys_addr"):
        at = image.symbols[name]
        data[at : at + 8] = values[name].to_bytes(8, "little")
    at = image.symbols["trampoline_status_bsp"]
    data[at : at + 4] = OFFERED.to_bytes(4, "little")  # unicorn's CPU has APIC id 0

    def on_code(machine: unicorn.Uc, address: int, size: int, _: object) -> None:
        if not done.offsets or done.offsets[-1] != address - base:  # rep stos is one instruction
            done.offsets.append(address - base)
        if address - base == last:
            machine.emu_stop()

    def on_write(
        _: unicorn.Uc, kind: int, address: int, size: int, value: int, user: object
    ) -> None:
        done.stores.append((address, size, value % (1 << 8 * size)))

    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
    machine.mem_map(0, RAM)
    machine.mem_write(base, bytes(data))
    machine.reg_write(x86_const.UC_X86_REG_CS, base >> 4)
    if not values["cpu_has_long_mode"]:
        machine.hook_add(unicorn.UC_HOOK_INSN, without_long_mode, aux1=x86_const.UC_X86_INS_CPUID)
    machine.hook_add(unicorn.UC_HOOK_CODE, on_code)
    machine.hook_add(unicorn.UC_HOOK_MEM_WRITE, on_write)
    # Whether there is a fault is the prediction's word; what led there is compared.
    with suppress(unicorn.UcError):
        machine.emu_start(base, 0)
    for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp"):
        number = getattr(x86_const, f"UC_X86_REG_E{name.upper()}")
        done.registers[f"r{name}"] = machine.reg_read(number)
    return done


def without_long_mode(machine: unicorn.Uc, _: object) -> bool:
    """CPUID of a CPU without features, whose highest extended leaf is the one that names them."""
    highest = machine.reg_read(x86_const.UC_X86_REG_EAX) == 0x8000_0000
    for name in ("EAX", "EBX", "ECX", "EDX"):
        answer = 0x8000_0001 if highest and name == "EAX" else 0
        machine.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), answer)
    return True


def stores(accesses: tuple[Access, ...], values: Chosen) -> list[Store]:
    """The predicted stores, those of summarised loops one by one."""
    found = []
    for access in accesses:
        first = value_of(access.linear, values)
        if access.kind == "locked":
            assert access.seen is not None
            held = value_of(access.seen, values)
            met = access.expected is None or held == value_of(access.expected, values)
            found.append((first, access.size, value_of(access.value, values) if met else held))
        if access.kind == "store":
            for index in range(access.count):
                stored = value_of(access.value, Chosen(values | {INDEX: index}))
                found.append((first + index * access.stride, access.size, stored))
    return found


def without_flags(stores: list[Store]) -> list[Store]:
    return [(at, size, value & ~ACCESSED_AND_DIRTY) for at, size, value in stores]


def once_per_loop(offsets: list[int]) -> list[int]:
    """Offsets in the order in which each is executed first: the same with and without summaries."""
    return list(dict.fromkeys(offsets))


@pytest.mark.parametrize(("vector", "kernel", "boot_params"), INPUTS)
@pytest.mark.parametrize("name", ["multikernel", "multikernel_rfc"])
def test_the_emulated_cpu_does_what_the_run_predicts(
    name: str, vector: int, kernel: int, boot_params: int, shipped: Execute
) -> None:
    values = Chosen(
        sipi_vector=vector,
        kernel_phys_addr=kernel,
        boot_params_phys_addr=boot_params,
        maxphyaddr=MAXPHYADDR,
        **UNICORN,
    )
    agree(*shipped(name), values)


def test_a_cpu_without_long_mode_is_refused_as_predicted(shipped: Execute) -> None:
    image, run = shipped("multikernel")
    values = Chosen(sipi_vector=0x10, maxphyaddr=36, cpuid_max_extended=0x8000_0001)
    values["cpu_has_long_mode"] = 0
    assert end_of(run, offered(run, values)).mode is Mode.REAL16
    agree(image, run, values, known=4)  # CPUID leaves EAX to EDX open


def agree(image: Image, run: Run, values: Chosen, known: int = 5) -> None:
    """The emulated CPU executes and stores what the run foretells, and ends with its registers.

    `known`: of so many registers at least the run must know the value.
    """
    end: PathEnd = end_of(run, offered(run, values))
    seen = emulate(image, end.instruction, values)
    executed = [offset for offset, _ in end.trace]
    assert once_per_loop(seen.offsets) == once_per_loop(executed)
    predicted = stores(end.accesses, values)
    if end.kind in (EndKind.HAND_OFF, EndKind.PARKED):
        assert without_flags(seen.stores) == without_flags(predicted)
        compared = {
            register: value_of(term, values) & 0xFFFF_FFFF
            for register, term in end.state.registers.items()
            if register in seen.registers and not is_open(z3.Extract(31, 0, term), values)
        }
        assert len(compared) >= known
        # The last instruction, a jump or a halt, changes no register.
        assert {register: seen.registers[register] for register in compared} == compared
    else:
        shared = len(predicted)
        assert without_flags(seen.stores)[:shared] == without_flags(predicted)


def test_the_last_instruction_of_a_hand_off_is_a_jump(shipped: Execute) -> None:
    for name in ("multikernel", "multikernel_rfc"):
        image, run = shipped(name)
        for end in run.ends_of(EndKind.HAND_OFF):
            code = image.data[end.instruction : end.instruction + 15]
            assert lift(code, end.instruction, Mode.LONG64.bits).mnemonic == "JMP"
