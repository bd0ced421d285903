# SPDX-License-Identifier: GPL-2.0-only
"""What is replayed, and what came of it. Plain data; no process, no memory map."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class BadJob(ValueError):
    """A job that this machine cannot set up: the caller's mistake, not the image's."""


@dataclass(frozen=True)
class Injection:
    """Values to put into general registers, when an instruction is first reached."""

    linear: int
    """Linear address of that instruction."""
    upper_halves: dict[str, int] = field(default_factory=dict)
    """Register ("rsi") to its upper 32 bits; the lower ones stay. Needs 64-bit code: nothing is
    changed if the instruction is another one."""
    registers: dict[str, int] = field(default_factory=dict)
    """Register to all its 64 bits. Outside of 64-bit code the eight registers that there are have
    32; the upper half is then 0."""
    rflags: int | None = None
    """CF, PF, AF, ZF, SF, DF and OF of RFLAGS; interrupts are off then."""


@dataclass(frozen=True)
class Entry64:
    """The target CPU as firmware that starts CPUs in 64-bit mode hands it over.

    Memory is mapped to itself, writable and executable, in 1 GiB pages: 0 .. 2 TiB, or what
    MAXPHYADDR allows if that is less. CS is 0x10; DS, ES and SS are 0x18; FS and GS are null. The
    GDT has these two descriptors and no other; the IDT is empty. Interrupts are off.
    """

    address: int
    """Linear and physical address of the first instruction, in RAM."""
    registers: dict[str, int] = field(default_factory=dict)
    """General register ("rsp") to 64 bits; those that are not named hold 0."""
    levels: int = 4
    """Levels of paging: 4, or 5 with CR4.LA57."""
    tables: int | None = None
    """Physical address of the page tables, the top-level one first: up to 6 pages of free RAM, page
    aligned. None: in the machine's own RAM, below 4 GiB."""
    rflags: int = 0
    """CF, PF, AF, ZF, SF, DF and OF of RFLAGS; interrupts are off."""
    cr3: int = 0
    """Bits 11:0 of CR3."""
    cr0: int = 0
    """More bits of CR0 than PG, ET and PE."""
    cr4: int = 0
    """More bits of CR4 than PAE and LA57."""
    efer: int = 0
    """More bits of EFER than LME and LMA."""


@dataclass(frozen=True)
class Job:
    """One kick of the target CPU: the image as the host copies it, and where everything lies.

    All addresses but `probes` are physical; all lengths are bytes.
    """

    image: bytes
    """The whole image, mailbox words filled in, whatever scratch areas shall hold put in."""
    base: int
    """Where the image is copied to. With `entry`: any RAM, aligned or not; else page aligned, at
    least 0x1000, end at or below 0xA0000."""
    kernel: int
    """Where the payload is placed; any value, aligned or not, that has RAM (see place_payload). It
    may begin inside the image: its bytes, 512 at most, are then there in place of the image's."""
    boot_params: int | None
    """Where 8 magic bytes are placed, if there is RAM that is free. None: RSI holds anything, and
    nothing is loaded from it."""
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
    entry: Entry64 | None = None
    """A hand-over in 64-bit mode; None: a SIPI to `base`, in real mode."""
    again: int = 0
    """How many more times to start the CPU after it was handed over or parked, with memory as the
    starts before left it. The outcome is that of the last start, and so is the injection."""


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
    """The 8 bytes at `boot_params`; None without it, without RAM there, or if the run may change
    them."""
    probes_done: int = 0
    """How many probe loads completed. After a shutdown, probe number `probes_done` is what faulted,
    unless the job has boot_params and magic_seen is None: then it was the load of [RSI]."""
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
    """The job's injection was made: its instruction was reached, in 64-bit mode."""
    starts: int = 1
    """How many starts there were. Fewer than the job asks for: this one was neither handed over nor
    parked."""
    seconds: float = 0.0
    """Wall-clock time of the replay."""

    def loads_match(self) -> bool:
        """Whether every load that completed gave the bytes that the same physical address holds."""
        seen = (
            (self.magic_seen, self.magic_expected),
            *zip(self.probe_values, self.probe_expected, strict=False),
        )
        return all(got == want for got, want in seen if got is not None and want is not None)
