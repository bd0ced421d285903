# SPDX-License-Identifier: GPL-2.0-only
"""Trampolines of a few instructions, replayed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.replay.cpu import on_qemu
from harness.replay.predict import Input, Predictor
from harness.x86.execute import execute
from harness.x86.terms import VECTOR
from tests.replay.conftest import MIB, Subject
from tests.x86.small import WAYS, build

BASE = 0x8000


def little(
    folder: Path,
    code: str,
    bits: int = 32,
    *,
    way: str | None = None,
    any_registers: bool = False,
) -> Subject:
    """The trampoline that executes `code` in a mode of so many bits, at one base.

    Nothing is assumed of its CPU, not even long mode.
    """
    contract, image = build(folder, code, way=WAYS[bits] if way is None else way)
    cpu = contract.cpu.model_copy(update={"assume": ()})
    contract = contract.model_copy(update={"cpu": cpu})
    run = execute(contract, image, BASE, any_registers)
    return Subject(contract, image, run, Predictor(contract, image, run))


def at_base(
    values: Mapping[str, int] | None = None,
    unknown: Mapping[int, int] | None = None,
    any_registers: bool = False,
) -> Input:
    """An input for it. `unknown`: bytes of memory at entry by physical address."""
    words = {"kernel_phys_addr": 16 * MIB, "boot_params_phys_addr": 2 * MIB, "maxphyaddr": 40}
    held = {**words, VECTOR: BASE >> 12, **(values or {})}
    return on_qemu(held, unknown or {}, any_registers=any_registers)
