# SPDX-License-Identifier: GPL-2.0-only
"""Trampolines of a few instructions: targets/frame.h around a test's own code."""

from __future__ import annotations

from pathlib import Path

from harness.x86.execute import execute
from harness.x86.run import EndKind, PathEnd, Run
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
) -> Run:
    """Execute code of so many bits at one base, or at all of them if `base` is None.

    `any_registers`: registers and flags hold anything at entry.
    """
    way = WAYS[bits] if way is None else way
    contract, image = build(folder, code, way=way, descriptors=descriptors, assume=assume)
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
