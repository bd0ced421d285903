# SPDX-License-Identifier: GPL-2.0-only
"""`contract.toml`: all that must be known of a trampoline to prove it.

The schema is described in trampoline/README.md. Every attribute has the name of its TOML key, but
`schema` is `schema_version` here: pydantic keeps the plain name for itself. Addresses and sizes
are in bytes, addresses are physical.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from trampoline.contract_errors import sentence_for
from trampoline.errors import UserError

PAGE_SIZE = 0x1000
FIRST_MIB = 0x100000
"""A SIPI vector is 8 bits wide and names a page: the CPU starts below this address
(SDM vol. 3A 9.4.4)."""

ImageClaim = Literal[
    "paths", "hand_off", "kernel_identity_map", "boot_params_identity_map", "image_identity_map",
    "no_stale_translation", "no_fault", "footprint", "untouched", "stack", "code", "determined",
    "descriptor_tables", "status_word",
]  # fmt: skip
PairClaim = Literal[
    "no_false_start", "no_lost_start", "own_mail", "own_tables", "honest_verdict", "progress",
    "load", "kick",
]  # fmt: skip
Claim = Literal[ImageClaim, PairClaim]
"""On a trampoline alone, and on a trampoline with its host."""
EntryAssumption = Literal["upper-halves-zero"]
CpuAssumption = Literal["long-mode"]


class ContractError(UserError):
    """The contract cannot be read, or a key of it is missing, unknown or wrong."""


def _tuple_from_list(value: Any) -> Any:
    """TOML arrays arrive as lists; frozen models hold tuples."""
    return tuple(value) if isinstance(value, list) else value


Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_.$][A-Za-z0-9_.$]*$")]
Word32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ImagePart(_Section):
    """`[image]`: where the bytes come from. Paths are relative to the contract's folder."""

    source: str | None = Field(None, min_length=1, description="the assembly source's path")
    object: str | None = Field(None, min_length=1, description="the object or ELF file's path")
    section: str = Field(".text", min_length=1, description="the name of the image's section")
    symbols: Annotated[tuple[Symbol, Symbol] | None, BeforeValidator(_tuple_from_list)] = Field(
        None, description='the image\'s first and end symbol, as ["first", "end"]'
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.object is None):
            raise ValueError("give exactly one of the keys source and object")
        if self.symbols is not None and "section" in self.model_fields_set:
            raise ValueError("give only one of the keys section and symbols")
        return self


class Entry(_Section):
    """`[entry]`: where the CPU starts, and what is assumed of its state beyond INIT + SIPI."""

    symbol: Symbol = Field(description="the symbol of the first instruction, at offset 0")
    assume: Annotated[tuple[EntryAssumption, ...], BeforeValidator(_tuple_from_list)] = Field(
        (), description='a list of entry assumptions, known: "upper-halves-zero"'
    )


class Base(_Section):
    """`[base]`: the page-aligned physical addresses that the host may copy the image to."""

    lowest: int = Field(
        ge=0, lt=FIRST_MIB, multiple_of=PAGE_SIZE,
        description="the lowest base: a multiple of 0x1000 below 0x100000",
    )  # fmt: skip
    limit: int = Field(
        gt=0, le=FIRST_MIB, multiple_of=PAGE_SIZE,
        description="the first byte that the image must not reach: a multiple of 0x1000 up to "
        "0x100000",
    )  # fmt: skip

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.limit:
            raise ValueError("lowest must be below limit")
        return self


class Mailbox(_Section):
    """`[mailbox]`: the 8-byte words that the host writes before it starts the CPU."""

    kernel: Symbol = Field(
        description="the symbol of the word that holds the kernel's physical address"
    )
    boot_params: Symbol = Field(
        description="the symbol of the word that holds the physical address of boot_params"
    )


class Tables(_Section):
    """`[tables]`: the part of the image that holds page tables; whole pages."""

    start: Symbol = Field(description="the symbol of the first page table")
    end: Symbol = Field(description="the symbol behind the last page table")


class Stack(_Section):
    """`[stack]`: the part of the image that pushes and calls may use; without it, none may be."""

    start: Symbol = Field(description="the symbol of the stack's lowest byte")
    end: Symbol = Field(description="the symbol behind the stack's highest byte")


class Gdt(_Section):
    """`[[gdt]]`: one global descriptor table of the image, from its null entry on."""

    start: Symbol = Field(description="the symbol of the table's first byte")
    end: Symbol = Field(description="the symbol behind the table's last byte")


class Scratch(_Section):
    """`[[scratch]]`: image bytes of unknown content at entry; an earlier start may have written
    them. They begin `offset` bytes behind `start` and end at `end` or after `size` bytes."""

    start: Symbol = Field(description="the symbol at which the bytes begin")
    offset: int = Field(0, ge=0, description="a number of bytes, 0 or more, added to start")
    end: Symbol | None = Field(None, description="the symbol behind the last byte")
    size: int | None = Field(None, gt=0, description="the number of bytes, at least 1")
    why: str = Field(min_length=1, description="one sentence: who writes these bytes")

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.end is None) == (self.size is None):
            raise ValueError("give exactly one of the keys end and size")
        return self


class Refused(_Section):
    """`refused` in `[status]`: the value of the status word for each refusal."""

    kernel: Word32 = Field(description="the 32-bit value for a refused kernel address")
    boot_params: Word32 = Field(description="the 32-bit value for a refused boot_params address")
    cpu: Word32 | None = Field(None, description="the 32-bit value for a CPU without long mode")

    @property
    def values(self) -> tuple[int, ...]:
        """All values that say that the CPU refuses."""
        return tuple(v for v in (self.kernel, self.boot_params, self.cpu) if v is not None)


class Handshake(_Section):
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


class Status(_Section):
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


class Kernel(_Section):
    """`[kernel]`: `init_size`, the bytes that must be mapped from the kernel's address on."""

    size_max: int = Field(
        gt=0, le=0xFFFF_FFFF, description="the largest kernel in bytes: 1 to 0xFFFFFFFF"
    )


class BootParams(_Section):
    """`[boot_params]`: the bytes that must be mapped from the address of boot_params on."""

    size: int = Field(gt=0, le=0xFFFF_FFFF, description="the size in bytes: 1 to 0xFFFFFFFF")


class Cpu(_Section):
    """`[cpu]`: the CPUs that the claims speak of."""

    maxphyaddr: Annotated[
        tuple[
            Annotated[int, Field(ge=36, le=52)],
            Annotated[int, Field(ge=36, le=52)],
        ],
        BeforeValidator(_tuple_from_list),
    ] = Field(description="the range of MAXPHYADDR in bits, as [lowest, highest] within 36..52")
    assume: Annotated[tuple[CpuAssumption, ...], BeforeValidator(_tuple_from_list)] = Field(
        (), description='a list of CPU assumptions, known: "long-mode"'
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maxphyaddr[0] > self.maxphyaddr[1]:
            raise ValueError("maxphyaddr must name the lowest value first")
        return self


class HostPart(_Section):
    """`[host]`: the host's side in C, which the claims on protocol, load and kick speak of."""

    source: str = Field(
        min_length=1, description="the path of the folder with the host's C sources"
    )


class Expected(_Section):
    """`[expected.<claim>]`: the golden verdict; a run that finds another one fails."""

    verdict: Literal["PROVED", "REFUTED"] = Field(description='"PROVED" or "REFUTED"')
    finding: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9]*-[0-9]+$",
        description='the stable id of the finding, such as "MKRFC-1"',
    )
    title: str | None = Field(None, min_length=1, description="the finding in one line")
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
        return self


class Contract(_Section):
    """What one trampoline promises and may assume."""

    schema_version: Literal[1] = Field(alias="schema", description="1, the version of this schema")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="the trampoline's name: letters, digits, _ and -",
    )
    summary: str = Field(min_length=1, description="one sentence about the trampoline")
    image: ImagePart = Field(description="where the image's bytes come from")
    entry: Entry = Field(description="where the CPU starts")
    base: Base = Field(description="the addresses that the image may be copied to")
    mailbox: Mailbox = Field(description="the words that the host writes")
    tables: Tables = Field(description="the image's page tables")
    stack: Stack | None = Field(None, description="the image's stack")
    gdt: Annotated[tuple[Gdt, ...], BeforeValidator(_tuple_from_list)] = Field(
        (), description="a list of [[gdt]] tables"
    )
    scratch: Annotated[tuple[Scratch, ...], BeforeValidator(_tuple_from_list)] = Field(
        (), description="a list of [[scratch]] tables"
    )
    status: Status = Field(description="the status word")
    kernel: Kernel = Field(description="the kernel's size")
    boot_params: BootParams = Field(description="the size of boot_params")
    cpu: Cpu = Field(description="the CPUs that the claims speak of")
    host: HostPart | None = Field(None, description="the host's side")
    expected: dict[Claim, Expected] = Field(
        default_factory=dict, description="the golden verdict of each claim"
    )

    _path: Path = Path()

    @property
    def path(self) -> Path:
        """The contract's file; the paths in `[image]` are relative to its folder."""
        return self._path


def load_contract(path: Path) -> Contract:
    """Read and check the contract in `path`.

    Raises ContractError, which names file, key and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ContractError(
            f"{path}: cannot be read ({reason}); give the path of a contract.toml."
        ) from error
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{path}: not UTF-8 text (byte {error.start}); a contract is a TOML file."
        ) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{path}: not valid TOML: {error}.") from error
    try:
        contract = Contract.model_validate(data)
    except ValidationError as error:
        raise ContractError(f"{path}: {sentence_for(error, Contract)}") from error
    contract._path = path
    return contract
