# SPDX-License-Identifier: GPL-2.0-only
"""Puts loader.S into a state's memory, with the state for it to load."""

from __future__ import annotations

import struct
from functools import cache, lru_cache
from pathlib import Path

from harness.lockstep.state import BASE, SIZE, Fields, State, raw
from harness.lockstep.unicorn_cpu import SELECTORS
from harness.qemu.firmware import Flat, assemble
from models.modes import EFER_LMA, GENERAL_REGISTERS, Mode

_SOURCE = Path(__file__).parent / "loader.S"
_FINAL = {
    Mode.PROTECTED32: "final32",
    Mode.COMPATIBILITY16: "final16",
    Mode.COMPATIBILITY32: "final32",
    Mode.LONG64: "final64",
}
"""Where the last part begins. In the other two modes it is the only one: no descriptor is loaded.
"""
_STACK = {"final16": 0x58, "final32": 0x68, "final64": 0x68}
"""The loader's own data segments."""
_JUMP = 3
"""Bytes of the jump to the loader, the first that a SIPI executes."""


def put(memory: bytearray, state: State) -> None:
    """Put it there. `memory`: the state's."""
    labels, code = _loader().labels, _loader().code
    start = labels["load"]
    memory[:_JUMP] = code[:_JUMP]
    memory[start : len(code)] = code[start:]

    def fill(label: str, value: bytes) -> None:
        memory[labels[label] : labels[label] + len(value)] = value

    for name in GENERAL_REGISTERS:
        fill(name, struct.pack("<Q", state.registers[name]))
    for name in ("rflags", "cr0", "cr3", "cr4"):
        fill(name, struct.pack("<Q", getattr(state, name)))
    fill("efer", struct.pack("<Q", state.efer & ~EFER_LMA))  # CR0.PG sets LMA
    for name in ("gdtr", "idtr"):
        base, limit = getattr(state, name)
        fill(name, struct.pack("<HQ", limit, base))
    for name in SELECTORS:
        if name != "cs":
            fill(name, struct.pack("<H", state.segments[name]["selector"]))
    final = _FINAL.get(state.mode)
    fill("switches", struct.pack("<I", int(final is not None)))
    if final is None:
        fill("stack", struct.pack("<H", BASE >> 4))
        return
    origin = 0 if final == "final16" else BASE
    cs = state.segments["cs"]["selector"]
    fill("final", struct.pack("<IH", origin + labels[final], cs))
    fill("stack", struct.pack("<H", _STACK[final]))
    table = tuple((name, tuple(one.items())) for name, one in state.segments.items())
    fill("descriptors", _descriptors(table))


def owns(at: int) -> bool:
    """Whether a byte of a state's memory is the loader's."""
    labels = _loader().labels
    return at < _JUMP or labels["load"] <= at < labels["end"]


def elsewhere() -> tuple[range, range]:
    """Linear addresses of all that a state's memory holds but the loader."""
    labels = _loader().labels
    return range(BASE + labels["load"]), range(BASE + labels["end"], BASE + SIZE)


@cache
def _loader() -> Flat:
    return assemble(_SOURCE)


@lru_cache(maxsize=64)
def _descriptors(segments: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]) -> bytes:
    """Those that the segment registers are loaded with, by their selectors."""
    labels = _loader().labels
    table = bytearray(labels["own_descriptors"] - labels["descriptors"])
    for _, parts in segments:
        one: Fields = dict(parts)
        at = one["selector"] & ~7
        table[at : at + 8] = raw(one)
    return bytes(table)
