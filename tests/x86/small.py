# SPDX-License-Identifier: GPL-2.0-only
"""Trampolines of a few instructions: targets/frame.h around a test's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness.x86 import execute as execution
from harness.x86.execute import execute
from harness.x86.memory import PAGE, Memory, Write
from harness.x86.path import Environment
from harness.x86.run import EndKind, PathEnd, Run
from harness.x86.static_tables import static_tables
from harness.x86.terms import low
from trampoline.contract import Contract, load_contract
from trampoline.image import Image, load_image

FRAME = Path(__file__).parent / "targets" / "frame.h"
BASE = 0x8000
"""The base of runs that need no symbolic one."""

WAYS = {16: "cli", 32: "TO_32BIT", 64: "TO_32BIT\nTO_64BIT"}
"""From the first instruction to code of so many bits."""

CONTRACT = """\
schema = 1
name = "small"
summary = "A test."
image = {{ source = "small.S" }}
entry = {{ symbol = "begin", assume = {assume} }}
base = {{ lowest = 0x1000, limit = 0xA0000 }}
mailbox = {{ kernel = "kernel", boot_params = "boot_params" }}
tables = {{ start = "tables", end = "tables_end" }}
status = {{ word = "status", started = 1 }}
kernel = {{ size_max = 0x1000 }}
boot_params = {{ size = 0x1000 }}
cpu = {{ maxphyaddr = [36, 52], assume = ["long-mode"] }}

[[scratch]]
start = "scratch"
size = 4
why = "A test."
"""


def build(
    folder: Path, code: str, *, way: str, descriptors: str = "", assume: str = "[]"
) -> tuple[Contract, Image]:
    """The contract and image of: BEGIN, `way`, `code`, DATA with further GDT entries."""
    entries = "\n".join([".macro EXTRA_DESCRIPTORS", descriptors, ".endm"])
    text = f'#include "{FRAME}"\n{entries}\nBEGIN\n{way}\n{code}\nDATA\n'
    (folder / "small.S").write_text(text, encoding="utf-8")
    path = folder / "contract.toml"
    path.write_text(CONTRACT.format(assume=assume), encoding="utf-8")
    contract = load_contract(path)
    return contract, load_image(contract)


def run(
    folder: Path,
    code: str,
    bits: int,
    *,
    way: str | None = None,
    base: int | None = BASE,
    descriptors: str = "",
    assume: str = "[]",
    any_registers: bool = False,
    fields: Mapping[str, str | None] | None = None,
    shared: Sequence[str] = (),
) -> Run:
    """Execute code of so many bits at one base, or at all of them if `base` is None.

    `any_registers`: registers and flags hold anything at entry. `fields`: symbols of 4-byte fields,
    each with the symbol whose address the host writes there, or None if it writes nothing.
    `shared`: symbols of further 4-byte words that others write.
    """
    way = WAYS[bits] if way is None else way
    contract, image = build(folder, code, way=way, descriptors=descriptors, assume=assume)
    symbols, fixups = image.symbols, fields or {}

    def environment(**given: Any) -> Environment:
        words = [range(symbols[name], symbols[name] + 4) for name in shared]
        given["shared"] = (*given["shared"], *words)
        given["fields"] = tuple(range(symbols[name], symbols[name] + 4) for name in fixups)
        return Environment(**given)

    def filled(memory: Memory, tables: range) -> Memory:
        memory, base = static_tables(memory, tables), memory.base
        for name, target in fixups.items():
            if target is not None:
                at = symbols[name]
                value = low(base.at(symbols[target]), 32)
                memory = memory.append(Write(base.at(at), 4, value, frozenset({at & -PAGE})))
        return memory

    with (
        patch.object(execution, "Environment", environment),
        patch.object(execution, "static_tables", filled),
    ):
        return execute(contract, image, base, any_registers=any_registers)


def only_end(result: Run) -> PathEnd:
    """The run's one path."""
    (end,) = result.ends
    return end


def refusal(result: Run) -> str:
    """What a run with one path was refused for."""
    end = only_end(result)
    assert end.kind is EndKind.UNSUPPORTED
    return end.detail
