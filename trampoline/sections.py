# SPDX-License-Identifier: GPL-2.0-only
"""The tables of `contract.toml`, one class each. Every attribute has the name of its TOML key.

Addresses and sizes are in bytes, addresses are physical.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

PAGE_SIZE = 0x1000
BASE_END = 1 << 47
"""Where the addresses end that 4-level paging can map to themselves (SDM vol. 1, 3.3.7.1)."""
FIRST_MIB = 0x100000
"""A SIPI vector is 8 bits wide and names a page: the CPU starts below this address
(SDM vol. 3A 9.4.4)."""

ImageClaim = Literal[
    "paths", "hand_off", "kernel_identity_map", "boot_params_identity_map", "image_identity_map",
    "no_stale_translation", "no_fault", "footprint", "untouched", "stack", "code", "determined",
    "descriptor_tables", "status_word", "table_switch", "entries_agree", "skip_is_safe", "once",
    "one_at_a_time",
]  # fmt: skip
PairClaim = Literal[
    "no_false_start", "no_lost_start", "own_mail", "own_tables", "honest_verdict", "progress",
    "load", "kick",
]  # fmt: skip
Claim = Literal[ImageClaim, PairClaim]
"""On a trampoline alone, and on a trampoline with its host."""
EntryAssumption = Literal["upper-halves-zero"]
CpuAssumption = Literal["long-mode"]
ParkReason = Literal["no-long-mode"]


def tuple_from_list(value: Any) -> Any:
    """TOML arrays arrive as lists; frozen models hold tuples."""
    return tuple(value) if isinstance(value, list) else value


def one_or_more(value: Any) -> Any:
    """A table, or an array of tables, as a tuple."""
    return (value,) if isinstance(value, dict) else tuple_from_list(value)


Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_.$][A-Za-z0-9_.$]*$")]
Word32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]


class Section(BaseModel):
    """A table of the contract: unknown keys and values of another type are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ImagePart(Section):
    """`[image]`: where the bytes come from. Paths are relative to the contract's folder."""

    source: str | None = Field(None, min_length=1, description="the assembly source's path")
    object: str | None = Field(None, min_length=1, description="the object or ELF file's path")
    section: str = Field(".text", min_length=1, description="the name of the image's section")
    symbols: Annotated[tuple[Symbol, Symbol] | None, BeforeValidator(tuple_from_list)] = Field(
        None, description='the image\'s first and end symbol, as ["first", "end"]'
    )
    carrier: str | None = Field(
        None,
        min_length=1,
        description="the path of the assembly source that carries the image as trampoline.bin, "
        "between its symbols",
    )
    fixups: str | None = Field(
        None,
        min_length=1,
        description="the prefix of the symbols for which the host fills in physical addresses, "
        'such as "pa_"',
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.object is None):
            raise ValueError("give exactly one of the keys source and object")
        if self.symbols is not None and "section" in self.model_fields_set:
            raise ValueError("give only one of the keys section and symbols")
        if self.carrier is not None and (self.source is None or self.symbols is None):
            raise ValueError("a carrier needs the keys source and symbols")
        return self


class Entry(Section):
    """`[entry]`, or `[[entry]]` where an image has several: where the CPU starts, and how.

    `real`: at offset 0, in the state after INIT and SIPI. `long64`: in 64-bit mode with interrupts
    off, on page tables of the host's that map the image, its areas, its stack and boot_params to
    themselves, and lie elsewhere; all else is unknown.
    """

    symbol: Symbol = Field(description="the symbol of the first instruction")
    name: str | None = Field(
        None, min_length=1, description="a name for the entry; without it, its symbol"
    )
    mode: Literal["real", "long64"] = Field("real", description='"real" or "long64"')
    protocol: Literal["linux-64"] | None = Field(
        None, description='"linux-64" if a 64-bit entry finds the segments of that boot protocol'
    )
    after: str | None = Field(
        None,
        min_length=1,
        description="the name of the entry of the earlier start that has left the image as it is",
    )
    assume: Annotated[tuple[EntryAssumption, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description='a list of entry assumptions, known: "upper-halves-zero"'
    )

    @property
    def called(self) -> str:
        """Its name, or its symbol."""
        return self.name or self.symbol

    @model_validator(mode="after")
    def _protocol_of_64_bit_code(self) -> Self:
        if self.mode == "real" and self.protocol is not None:
            raise ValueError("INIT and SIPI follow no other protocol; remove the key protocol")
        return self


class Base(Section):
    """`[base]`: the page-aligned physical addresses that the host may copy the image to."""

    lowest: int = Field(
        ge=0, lt=BASE_END, multiple_of=PAGE_SIZE,
        description="the lowest base: a multiple of 0x1000",
    )  # fmt: skip
    limit: int = Field(
        gt=0, le=BASE_END, multiple_of=PAGE_SIZE,
        description="the first byte that the image must not reach: a multiple of 0x1000, up to "
        "0x100000 for an image with a real-mode entry",
    )  # fmt: skip

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.limit:
            raise ValueError("lowest must be below limit")
        return self


class Mailbox(Section):
    """`[mailbox]`: the 8-byte words with addresses that the host writes before it starts a CPU."""

    kernel: Symbol | None = Field(
        None, description="the symbol of the word that holds the kernel's physical address"
    )
    boot_params: Symbol | None = Field(
        None, description="the symbol of the word that holds the physical address of boot_params"
    )


class HostWord(Section):
    """`[[word]]`: another word of the image that the host fills in before it starts a CPU."""

    symbol: Symbol = Field(description="the symbol of the word")
    size: Literal[4, 8] = Field(description="its size in bytes: 4 or 8")
    must: int = Field(0, ge=0, description="a mask of the bits that are 1")
    may: int = Field(ge=0, description="a mask of the bits that may be 1, those of must included")
    register_: Literal["cr4", "efer"] | None = Field(
        None,
        alias="register",
        description='the register that it is for, "cr4" or "efer": the CPU has what it sets beside '
        "the bits of must",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.must & ~self.may:
            raise ValueError("may must have all bits of must")
        if self.may >> 8 * self.size:
            raise ValueError(f"may has more bits than a word of {self.size} bytes")
        return self


class HostMap(Section):
    """`[map]`: page tables that the host has made, the first of them in the image. With CR4.LA57
    and EFER.NXE as in two of the host's words, they map all memory to itself."""

    root: Symbol = Field(description="the symbol of the page with the top-level table")
    cr4: Symbol = Field(description="the symbol of the [[word]] for CR4")
    efer: Symbol = Field(description="the symbol of the [[word]] for EFER")


class Area(Section):
    """`[[area]]`: bytes at a fixed physical address outside the image that its code writes.

    With `copy_of` these are a copy of part of the image, made by the code itself, and executed.
    """

    name: str = Field(min_length=1, description="a name for the area")
    address: int = Field(ge=0, lt=BASE_END, description="its physical address")
    size: int | None = Field(None, gt=0, description="its size in bytes")
    copy_of: Annotated[tuple[Symbol, Symbol] | None, BeforeValidator(tuple_from_list)] = Field(
        None, description='the first and end symbol of what is copied, as ["first", "end"]'
    )
    tables: bool = Field(
        False, description="true if it holds page-table entries, in which the CPU sets flags"
    )
    why: str = Field(min_length=1, description="one sentence: what is written there")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.size is None) == (self.copy_of is None):
            raise ValueError("give exactly one of the keys size and copy_of")
        return self


class Patched(Section):
    """`[[patched]]`: a 4-byte operand of an instruction that the image's own code writes."""

    symbol: Symbol = Field(description="the symbol of the operand's first byte")
    why: str = Field(min_length=1, description="one sentence: what is written there, and by whom")


class Lock(Section):
    """`[lock]`: a 4-byte spin lock, which CPUs wait for. The kernel that one hands over to stores 0
    there when it runs on tables of its own; nobody else writes it."""

    word: Symbol = Field(description="the symbol of the lock's 4-byte word")


class JumpTo(Section):
    """`[hand_off]`: the state in which the kernel wants to be entered."""

    protocol: Literal["linux-64", "long-64"] = Field(
        "linux-64",
        description='"linux-64" for the Linux 64-bit entry, or "long-64" for 64-bit mode with '
        "paging on, interrupts off",
    )


class Tables(Section):
    """`[tables]`: the part of the image that holds page tables; whole pages."""

    start: Symbol = Field(description="the symbol of the first page table")
    end: Symbol = Field(description="the symbol behind the last page table")


class Stack(Section):
    """`[stack]`: what pushes and calls may use; without it, none may be.

    That is part of the image, or else the `size` bytes below the address in RSP at the entry.
    """

    start: Symbol | None = Field(None, description="the symbol of the stack's lowest byte")
    end: Symbol | None = Field(None, description="the symbol behind the stack's highest byte")
    below_rsp: int | None = Field(
        None, gt=0, le=PAGE_SIZE, description="a number of bytes, at most a page"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        inside = (self.start is not None, self.end is not None)
        if inside not in ((True, True), (False, False)) or all(inside) == bool(self.below_rsp):
            raise ValueError("give start and end, or below_rsp")
        return self


class Gdt(Section):
    """`[[gdt]]`: one global descriptor table of the image, from its null entry on."""

    start: Symbol = Field(description="the symbol of the table's first byte")
    end: Symbol = Field(description="the symbol behind the table's last byte")


class Pointer(Section):
    """`[[pointer]]`: the operand of an LGDT or LIDT, limit and base."""

    start: Symbol = Field(description="the symbol of the pointer's first byte")
    end: Symbol = Field(description="the symbol behind the pointer's last byte")


class Scratch(Section):
    """`[[scratch]]`: image bytes of unknown content at entry; an earlier start may have written
    them. They begin `offset` bytes behind `start` and end at `end` or after `size` bytes."""

    start: Symbol = Field(description="the symbol at which the bytes begin")
    offset: int = Field(0, ge=0, description="a number of bytes, 0 or more, added to start")
    end: Symbol | None = Field(None, description="the symbol behind the last byte")
    size: int | None = Field(None, gt=0, description="the number of bytes, at least 1")
    why: str = Field(min_length=1, description="one sentence: who writes these bytes")
    kept: bool = Field(
        False,
        description="true if the first start finds them as assembled, and a later one as the one "
        "before has left them",
    )

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.end is None) == (self.size is None):
            raise ValueError("give exactly one of the keys end and size")
        return self


class Refused(Section):
    """`refused` in `[status]`: the value of the status word for each refusal."""

    kernel: Word32 = Field(description="the 32-bit value for a refused kernel address")
    boot_params: Word32 = Field(description="the 32-bit value for a refused boot_params address")
    cpu: Word32 | None = Field(None, description="the 32-bit value for a CPU without long mode")

    @property
    def values(self) -> tuple[int, ...]:
        """All values that say that the CPU refuses."""
        return tuple(v for v in (self.kernel, self.boot_params, self.cpu) if v is not None)


class Handshake(Section):
    """`handshake` in `[status]`: values of the status word where both sides change it by locked
    instructions only (trampoline/PROTOCOL.md)."""

    offered: Word32 = Field(
        multiple_of=0x100,
        description="the 32-bit value, its low 8 bits 0, to which the APIC id of the CPU that may "
        "start is added",
    )
    running: Word32 = Field(description='the 32-bit value that says "the CPU jumps to the kernel"')
    free: Word32 = Field(
        description="the 32-bit value that the kernel puts in place of running when it runs on "
        "page tables of its own"
    )

    @property
    def values(self) -> tuple[int, ...]:
        """All values that the CPU writes or waits for, one for each APIC id among them."""
        return (self.running, *range(self.offered, self.offered + 0x100))


class Status(Section):
    """`[status]`: the 4-byte word that tells the host how far the CPU got.

    Without `refused`, no path may end in a refusal. Without `handshake`, the CPU writes the word by
    plain stores and never reads it.
    """

    word: Symbol = Field(description="the symbol of the 4-byte status word")
    started: Word32 = Field(description='the 32-bit value that says "the CPU runs"')
    refused: Refused | None = Field(
        None, description="a table { kernel = value, boot_params = value, cpu = value }"
    )
    handshake: Handshake | None = Field(
        None,
        description="a table { offered = value, running = value, free = value }",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        values = [self.started]
        values += self.refused.values if self.refused is not None else ()
        if self.handshake is not None:
            values += (*self.handshake.values, self.handshake.free)
        if len(set(values)) != len(values):
            raise ValueError("started and the values in refused and handshake must differ")
        return self


class Kernel(Section):
    """`[kernel]`: where it is entered, if no mailbox word says so, and the bytes (`init_size`) that
    must be mapped from there on."""

    address: int | None = Field(
        None, ge=0, lt=BASE_END, description="the physical address of its entry"
    )
    symbol: Symbol | None = Field(
        None, description="the symbol of the place in the image at which the trampoline is done"
    )
    below: int | None = Field(
        None, gt=0, description="the address below which the host promises to put its entry"
    )
    apart: bool = Field(
        False, description="true if the host promises that it does not meet the image"
    )
    size_max: int | None = Field(
        None, gt=0, le=0xFFFF_FFFF, description="the largest kernel in bytes: 1 to 0xFFFFFFFF"
    )


class BootParams(Section):
    """`[boot_params]`: the bytes that must be mapped from the address of boot_params on."""

    size: int = Field(gt=0, le=0xFFFF_FFFF, description="the size in bytes: 1 to 0xFFFFFFFF")
    register_: Literal["rsi"] | None = Field(
        None, alias="register", description='"rsi" if a 64-bit entry finds its address there'
    )


class Cpu(Section):
    """`[cpu]`: the CPUs that the claims speak of."""

    maxphyaddr: Annotated[
        tuple[
            Annotated[int, Field(ge=36, le=52)],
            Annotated[int, Field(ge=36, le=52)],
        ],
        BeforeValidator(tuple_from_list),
    ] = Field(description="the range of MAXPHYADDR in bits, as [lowest, highest] within 36..52")
    assume: Annotated[tuple[CpuAssumption, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description='a list of CPU assumptions, known: "long-mode"'
    )

    at_once: bool = Field(
        False, description="true if several CPUs may be started in the same image at once"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maxphyaddr[0] > self.maxphyaddr[1]:
            raise ValueError("maxphyaddr must name the lowest value first")
        return self


class HostPart(Section):
    """`[host]`: the host's side in C, which the claims on protocol, load and kick speak of."""

    source: str = Field(
        min_length=1, description="the path of the folder with the host's C sources"
    )


class Expected(Section):
    """`[expected.<claim>]`: the golden verdict; a run that finds another one fails."""

    verdict: Literal["PROVED", "REFUTED"] = Field(description='"PROVED" or "REFUTED"')
    finding: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9]*-[0-9]+$",
        description='the stable id of the finding, such as "MKRFC-1"',
    )
    title: str | None = Field(None, min_length=1, description="the finding in one line")
    cause: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16}$",
        description="fingerprint of the finding's cause, as `tramp triage` prints it: a refutation "
        "by another one fails, too",
    )
    evidence: Literal["CONFIRMED", "NOT REPLAYABLE"] = Field(
        "CONFIRMED",
        description='what the replay of a refutation gives: "CONFIRMED" or "NOT REPLAYABLE"',
    )

    @model_validator(mode="after")
    def _finding_iff_refuted(self) -> Self:
        if self.verdict == "REFUTED" and self.finding is None:
            raise ValueError("a REFUTED verdict needs the key finding")
        if self.verdict == "PROVED" and self.finding is not None:
            raise ValueError("a PROVED verdict has no finding; remove the key")
        if self.verdict == "PROVED" and self.cause is not None:
            raise ValueError("a PROVED verdict has no cause; remove the key")
        return self
