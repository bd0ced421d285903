# SPDX-License-Identifier: GPL-2.0-only
"""What is replayed, and what came of it. Plain data; no process, no memory map."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True)
class Injection:
    """Values to put into the upper 32 bits of registers, when an instruction is first reached."""

    linear: int
    """Linear address of that instruction. It must be one of 64-bit code."""
    upper_halves: dict[str, int]
    """General register ("rsi") to 32 bits."""


@dataclass(frozen=True)
class Job:
    """One kick of the target CPU: the image as the host copies it, and where everything lies.

    All addresses but `probes` are physical; all lengths are bytes.
    """

    image: bytes
    """The whole image, mailbox words filled in, whatever scratch areas shall hold put in."""
    base: int
    """Where the image is copied to: page aligned, at least 0x1000, end at or below 0xA0000."""
    kernel: int
    """Where the payload is placed; any value, aligned or not, that has RAM (see place_payload)."""
    boot_params: int
    """Where 8 magic bytes are placed, if there is RAM that is free."""
    probes: tuple[int, ...] = ()
    """Up to 8 linear addresses that the payload loads 8 bytes from, in order."""
    before: tuple[tuple[int, bytes], ...] = ()
    """(address, bytes) of RAM outside the image: what it holds when the CPU starts."""
    dumps: tuple[tuple[int, int], ...] = ()
    """(address, length) of RAM to read back after the run."""
    place_payload: bool = True
    """False: put nothing at `kernel`; for kernel addresses where the machine has no RAM."""
    status_address: int | None = None
    """Address of the image's 4-byte status word, if it has one."""
    refusals: tuple[int, ...] = ()
    """Values of the status word with which the CPU parks: the wait may end early on them."""
    injection: Injection | None = None
    """What to change in the CPU on its way. It takes the debugger, and some milliseconds."""


class OutcomeKind(StrEnum):
    """How one kick ended."""

    HAND_OFF = "payload arrived, reported, and every load completed"
    SHUTDOWN = "triple fault before the payload arrived"
    SHUTDOWN_AFTER_HAND_OFF = "triple fault after the payload arrived"
    WRONG_MODE = "payload arrived, but not in 64-bit mode"
    PARKED = "CPU halted without arriving"
    HANG = "CPU runs on and neither arrives nor halts"
    DEAD = "machine stopped answering, twice"


@dataclass(frozen=True)
class Outcome:
    """What the machine showed of one job. A field is empty or None where nothing was seen."""

    kind: OutcomeKind
    arrived: bool = False
    """The payload's first instructions ran, in 64-bit mode."""
    registers: dict[str, int] = field(default_factory=dict)
    """As the payload found them: rax..r15, rip (where the payload started), rflags, cr0, cr2, cr3,
    cr4, efer; the selectors cs, ds, es, fs, gs, ss, tr, ldtr; gdtr_base, gdtr_limit, idtr_base,
    idtr_limit (linear address; bytes - 1)."""
    magic_seen: int | None = None
    """The 8 bytes that the load of [RSI] gave."""
    magic_expected: int | None = None
    """The 8 bytes at `boot_params`; None without RAM there, or if the run may change them."""
    probes_done: int = 0
    """How many probe loads completed. After a shutdown, probe number `probes_done` is what faulted,
    unless magic_seen is None: then it was the load of [RSI]."""
    probe_values: tuple[int, ...] = ()
    """What the completed probe loads gave, 8 bytes each."""
    probe_expected: tuple[int | None, ...] = ()
    """What each probe gives if its linear address is mapped to the same physical address; None if
    that is not known (no RAM, or bytes that the run may change)."""
    memory: tuple[bytes, ...] = ()
    """The job's dumps, in their order."""
    stopped_at: int | None = None
    """PARKED, HANG, WRONG_MODE: linear address of the next instruction (after `hlt`: behind it)."""
    injected: bool = False
    """The job's injection was made: its instruction was reached."""
    seconds: float = 0.0
    """Wall-clock time of the replay."""

    def loads_match(self) -> bool:
        """Whether every load that completed gave the bytes that the same physical address holds."""
        seen = (
            (self.magic_seen, self.magic_expected),
            *zip(self.probe_values, self.probe_expected, strict=False),
        )
        return all(got == want for got, want in seen if got is not None and want is not None)
