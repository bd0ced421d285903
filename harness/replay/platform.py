# SPDX-License-Identifier: GPL-2.0-only
"""Inputs as QEMU's platform can set them up: the CPU, the page tables of a host, the hand-over."""

from __future__ import annotations

from collections.abc import Mapping

import z3

from harness.qemu import entry64
from harness.qemu.job import Entry64
from harness.qemu.machine import Machine
from harness.qemu.protocol import P
from harness.replay.cpu import AFTER_INIT, AT_ENTRY, KEPT, QEMU_CPU, SETTABLE, on_qemu
from harness.replay.predict import Input, Prediction, Predictor
from harness.x86.given import HAND_OVER, word_name
from harness.x86.terms import OTHER
from models.modes import CR4_LA57, GENERAL_REGISTERS

PAGE = 0x1000
FLAGS_OF_CR3 = 0xFFF
"""Bits 11:0, which address no table."""
HOST_MAP = 0xCF00_0000
"""Physical address of the tables that a host's map in the image leads to."""
CR4_MORE = 0xFDF & ~0x20
"""The bits of CR4 that a hand-over may have beside PAE and LA57: no rule here reads them."""


def as_on_qemu(
    predictor: Predictor,
    values: Mapping[str, int],
    unknown: Mapping[int, int],
    garbage: bytes = b"\0",
) -> Input:
    """The input with CPU, page tables and hand-over as they are in QEMU.

    The host's tables map all memory to itself. Those of a 64-bit entry lie where the platform puts
    them; of CR3 only bits 11:0 are as the input has them.
    """
    given = on_qemu(values, unknown, garbage, predictor.run.any_registers)
    held = dict(given.values)
    blocks: list[tuple[int, bytes]] = []
    if predictor.entry_of(held).mode == "long64":
        cr3 = _name("cr3")
        held[cr3] = P["TABLES"] | held.get(cr3, 0) & FLAGS_OF_CR3
        tables = entry64.identity_tables(P["TABLES"], _levels(held), held["maxphyaddr"])
        blocks.append((P["TABLES"], tables))
    if (host_map := predictor.contract.map) is not None:
        levels = 5 if held.get(word_name(host_map.cr4), 0) & CR4_LA57 else 4
        tables = entry64.identity_tables(HOST_MAP, levels, held["maxphyaddr"])
        root = given.base + predictor.image.symbols[host_map.root]
        blocks += [(HOST_MAP, tables), (root, tables[:PAGE])]
    return Input(held, unknown, garbage, tuple(blocks))


def conditions(
    predictor: Predictor, machine: Machine, symbols: Mapping[str, z3.ExprRef]
) -> list[z3.BoolRef]:
    """Conditions on these symbols under which `as_on_qemu` leaves an input as it is: on a CPU that
    has all features, on page tables of 4 levels, with RAM for the image."""
    base, size = predictor.run.inputs["base"], len(predictor.image.data)
    windows = [w for w in machine.ram if len(w) >= size]
    found = [z3.Or(*(z3.And(z3.UGE(base, w.start), z3.ULE(base, w.stop - size)) for w in windows))]
    tables = [word_name(predictor.contract.map.cr4)] if predictor.contract.map is not None else []
    settable = SETTABLE if predictor.run.any_registers else {}
    for name, symbol in symbols.items():
        plain = name.removesuffix(f"_{OTHER}")
        if plain in QEMU_CPU:
            value = QEMU_CPU[plain]
            found.append(symbol == (bool(value) if z3.is_bool(symbol) else value))
        elif plain.startswith(KEPT):
            found.append(symbol == 0)
        elif plain == "maxphyaddr":
            found.append(symbol == machine.phys_bits)
        elif plain.endswith(AT_ENTRY):
            found.append(symbol & ~settable.get(plain, 0) == AFTER_INIT.get(plain, 0))
        elif plain == _name("cr3"):
            found.append(symbol & ~FLAGS_OF_CR3 == P["TABLES"])
        elif plain in (_name("cr4"), *tables):
            found.append(symbol & CR4_LA57 == 0)
    return found


def hand_over(predictor: Predictor, prediction: Prediction) -> Entry64 | None:
    """How the platform starts the CPU of a prediction in 64-bit mode; None in real mode."""
    values = prediction.values
    entry = predictor.entry_of(values)
    if entry.mode != "long64":
        return None
    registers = {
        name: values[_name(name)] for name in GENERAL_REGISTERS if values.get(_name(name), 0)
    }
    boot_params = predictor.contract.boot_params
    if boot_params is not None and boot_params.register_ is not None:
        registers[boot_params.register_] = values["boot_params_phys_addr"]
    return Entry64(
        address=prediction.given.base + predictor.image.symbols[entry.symbol],
        registers=registers,
        levels=_levels(values),
        rflags=values.get(_name("rflags"), 0) & entry64.FLAGS,
        cr3=values.get(_name("cr3"), 0) & FLAGS_OF_CR3,
        cr0=values.get(_name("cr0"), 0) & entry64.CR0_MORE,
        cr4=values.get(_name("cr4"), 0) & CR4_MORE,
        efer=values.get(_name("efer"), 0) & entry64.EFER_MORE,
    )


def _levels(values: Mapping[str, int]) -> int:
    return 5 if values.get(_name("cr4"), 0) & CR4_LA57 else 4


def _name(register: str) -> str:
    return f"{register}_at_{HAND_OVER}"
