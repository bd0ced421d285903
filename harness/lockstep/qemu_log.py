# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's log of one job, read: the CPU before each instruction, and what it stores, in order.

A record of registers begins with RAX (EAX outside of 64-bit mode) and ends with EFER; the stores
of an instruction come behind its record, a line each (harness/qemu/stores.c). Records of exceptions
and interrupts have a line with their vector before them. QEMU 7.2, target/i386: cpu-dump.c,
tcg/excp_helper.c, tcg/seg_helper.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from harness.lockstep.emulated import Emulation, Step, Write
from harness.lockstep.lazy import LazyRegisters
from harness.lockstep.unicorn_cpu import HIDDEN, SELECTORS
from harness.qemu.log import Logged
from models.modes import GENERAL_REGISTERS
from trampoline.errors import UserError

CONTROL = ("cr0", "cr2", "cr3", "cr4")
EXECUTE_READ_ACCESSED, READ_WRITE_ACCESSED = 0b1011, 0b0011
"""Types of segments: SDM 3A 3.4.5.1, table 3-1."""

_FIRST, _LAST = b"AX=", b"\nEFER="
_RAISED = re.compile(rb"check_exception old: 0x([0-9a-f]+) new 0x([0-9a-f]+)$")
_NONE = b"ffffffff"  # no exception was being delivered
_TAKEN = re.compile(rb" *\d+: v=([0-9a-f]{2}) ")
_TIMER = b"Servicing hardware INT"  # of CPU 0: on the target CPU interrupts are off
_NAMED = re.compile(rb"\b([A-Z][A-Z0-9]*) *= *([0-9a-f]+)\b")
_SEGMENT = re.compile(
    rb"^([CDEFGS]S) =([0-9a-f]{4}) ([0-9a-f]+) ([0-9a-f]{8}) ([0-9a-f]{8})", re.MULTILINE
)
_POINTER = re.compile(rb"^([GI]DT)= *([0-9a-f]+) ([0-9a-f]{8})", re.MULTILINE)


class Registers(LazyRegisters):
    """The registers of one record by name, worked out when somebody looks: of most nobody does.

    General registers as far as the mode shows them; of each segment register the selector (`cs`)
    and the hidden part (`cs_base`, `cs_limit` and HIDDEN); `rflags`, `cr0`, `cr2` to `cr4`, `efer`,
    base and limit of GDTR and IDTR.
    """

    __slots__ = ("_part", "_text")

    def __init__(self, text: bytes, part: slice) -> None:
        super().__init__()
        self._text, self._part = text, part

    def _work_out(self) -> dict[str, int]:
        return _as_the_manual_says(_registers(self._text[self._part]))


def read(logged: Logged) -> Emulation:
    """What the CPU did. `last` is the CPU at the exception that stopped it, if one did; else before
    the last instruction, but with all writes.

    Raises UserError for a log that ends within a record, or is another one.
    """
    text, done = logged.text, Emulation()
    if text and not text.endswith(b"\n"):
        raise UserError("QEMU's log ends in the middle of a line.")
    starts = [*_starts(text), len(text)]
    vector = _between(logged, text[: starts[0]], done)
    before = b""
    for start, stop in pairwise(starts):
        last = text.rfind(_LAST, start, stop)
        if last < 0:
            raise UserError(f"QEMU's log lacks part of the registers of step {len(done.steps)}.")
        end = text.find(b"\n", last + 1)
        step = _step(text, slice(start, end), len(done.writes))
        if vector is not None and vector == done.fault:
            return replace(done, last=step)
        if vector is None:
            # The same address: one more turn of a REP, which is one instruction.
            if not (done.steps and done.steps[-1].address == step.address):
                done.steps.append(step)
            done.in_vain = done.in_vain + 1 if text[start:end] == before else 0
            before = text[start:end]
        vector = _between(logged, text[end + 1 : stop], done)
    if done.steps:
        done.last = replace(done.steps[-1], writes=len(done.writes))
    return done


def shown(text: str) -> Step:
    """The CPU as QEMU's monitor shows it while it stands: the same record. Raises UserError."""
    dump = text.replace("\r", "").encode()
    start = next(_starts(dump), len(dump))
    end = dump.find(b"\n", dump.rfind(_LAST, start) + 1)
    if not 0 <= start < end:
        raise _not_understood(dump)
    return _step(dump, slice(start, end), 0)


def _starts(text: bytes) -> Iterator[int]:
    """Where records begin."""
    at = text.find(_FIRST)
    while at >= 0:
        yield at - 1
        at = text.find(_FIRST, at + 1)


def _between(logged: Logged, text: bytes, done: Emulation) -> int | None:
    """Take over what lies between two records. Returns the vector if the next record is that of an
    interrupt or exception, and not of an instruction."""
    vector, found = None, False
    for line in text.splitlines():
        if line.startswith(b"store "):
            if done.steps:  # those before come from the host image, of which no registers are shown
                done.writes.append(_write(logged, line))
        elif (raised := _RAISED.match(line)) is not None:
            if raised[1] == _NONE and not found:
                done.fault = int(raised[2], 16)
            found = True  # what follows comes of delivering it
        elif (taken := _TAKEN.match(line)) is not None:
            vector = int(taken[1], 16)
        elif not line.startswith(_TIMER):
            raise _not_understood(line)
    return vector


def _step(text: bytes, part: slice, writes: int) -> Step:
    """The CPU as a record shows it: general registers with 64 bits in 64-bit mode, all others with
    64 bits where long mode is active."""
    registers = Registers(text, part)
    start, stop = part.start, part.stop
    pointer = text.find(b"IP=", start, stop)
    code = text.find(b"\nCS =", pointer, stop)
    after = text.find(b" ", code + 10, stop)
    if min(pointer, code, after) < 0:
        raise _not_understood(text[part])
    base = text[code + 10 : after]
    bits, other = 64 if text[start : start + 1] == b"R" else 32, 4 * len(base)
    try:
        offset = int(text[pointer + 3 : text.find(b" ", pointer, stop)], 16)
        if bits == 64:  # CS.base counts as 0 (SDM 3A 3.4.4)
            return Step(offset, registers, writes, bits, other)
        return Step(int(base, 16) + offset & 0xFFFF_FFFF, registers, writes, bits, other)
    except ValueError:
        raise _not_understood(text[part]) from None


def _write(logged: Logged, line: bytes) -> Write:
    """Where a store went: to RAM, or if there is none, the address that the code has used."""
    try:
        _, linear, size, ram, value = line.split()
        where = int(linear, 16) if ram == b"-" else logged.physical(int(ram, 16))
        return where, int(size, 16), int(value, 16)
    except ValueError:
        raise _not_understood(line) from None


def _registers(text: bytes) -> dict[str, int]:
    named = {name.decode().lower(): int(value, 16) for name, value in _NAMED.findall(text)}
    found = {}
    for name in GENERAL_REGISTERS:
        if (shown := named.get(name, named.get(f"e{name[1:]}"))) is not None:
            found[name] = shown
    for segment, *parts in _SEGMENT.findall(text):
        name = segment.decode().lower()
        selector, base, limit, rights = (int(part, 16) for part in parts)
        found |= {name: selector, f"{name}_base": base, f"{name}_limit": limit}
        for field, (low, width) in HIDDEN.items():
            found[f"{name}_{field}"] = rights >> low & (1 << width) - 1
    for table, base, limit in _POINTER.findall(text):
        name = f"{table.decode().lower()}r"
        found |= {f"{name}_base": int(base, 16), f"{name}_limit": int(limit, 16)}
    try:
        found |= {name: named[name] for name in (*CONTROL, "efer")}
        found["rflags"] = named["rfl"] if "rfl" in named else named["efl"]
    except KeyError:
        raise _not_understood(text) from None
    if not all(name in found for name in (*GENERAL_REGISTERS[:8], *SELECTORS, "gdtr_base")):
        raise _not_understood(text)
    return found


def _as_the_manual_says(registers: dict[str, int]) -> dict[str, int]:
    """See limits.CODE_AFTER_INIT. A CS that was loaded in real mode is known by its base."""
    loaded = registers["cs_base"] != registers["cs"] << 4 or registers["cs_limit"] != 0xFFFF
    if loaded or registers["cs_type"] != EXECUTE_READ_ACCESSED:
        return registers
    return {**registers, "cs_type": READ_WRITE_ACCESSED}


def _not_understood(text: bytes) -> UserError:
    first = text[:60].split(b"\n")[0].decode(errors="replace")
    return UserError(f"QEMU's log is not that of QEMU 7.2, which alone is understood: {first!r}.")
