# SPDX-License-Identifier: GPL-2.0-only
"""`contract.toml`: all that must be known of a trampoline to prove it.

The schema is described in trampoline/README.md. Every attribute has the name of its TOML key, but
`schema` is `schema_version` here: pydantic keeps the plain name for itself. Addresses and sizes
are in bytes, addresses are physical.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from trampoline.contract_errors import sentence_for
from trampoline.errors import UserError
from trampoline.sections import (
    FIRST_MIB,
    Area,
    Base,
    BootParams,
    Claim,
    Cpu,
    Entry,
    Expected,
    Gdt,
    HostMap,
    HostPart,
    HostWord,
    ImageClaim,
    ImagePart,
    JumpTo,
    Kernel,
    Lock,
    Mailbox,
    PairClaim,
    ParkReason,
    Patched,
    Pointer,
    Scratch,
    Section,
    Stack,
    Status,
    Tables,
    one_or_more,
    tuple_from_list,
)

__all__ = ["Claim", "Contract", "ContractError", "ImageClaim", "PairClaim", "Shared"]


class ContractError(UserError):
    """The contract cannot be read, or a key of it is missing, unknown or wrong."""


@dataclass(frozen=True)
class Shared:
    """What a trampoline shares with a host in C: all contracts with `[host]` have these parts."""

    status: Status
    tables: Tables
    kernel: str
    """The symbol of the mailbox word for the kernel's address."""
    boot_params: str
    """The same for boot_params."""


class Contract(Section):
    """What one trampoline promises and may assume."""

    schema_version: Literal[1] = Field(alias="schema", description="1, the version of this schema")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="the trampoline's name: letters, digits, _ and -",
    )
    summary: str = Field(min_length=1, description="one sentence about the trampoline")
    image: ImagePart = Field(description="where the image's bytes come from")
    entry: Annotated[tuple[Entry, ...], BeforeValidator(one_or_more)] = Field(
        description="where the CPU starts: a table, or a list of [[entry]] tables"
    )
    base: Base = Field(description="the addresses that the image may be copied to")
    mailbox: Mailbox = Field(
        default_factory=lambda: Mailbox.model_validate({}),
        description="the addresses that the host writes",
    )
    word: Annotated[tuple[HostWord, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description="a list of [[word]] tables"
    )
    map: HostMap | None = Field(None, description="page tables that the host has made")
    tables: Tables | None = Field(None, description="the image's page tables")
    stack: Stack | None = Field(None, description="the stack")
    gdt: Annotated[tuple[Gdt, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description="a list of [[gdt]] tables"
    )
    pointer: Annotated[tuple[Pointer, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description="a list of [[pointer]] tables"
    )
    scratch: Annotated[tuple[Scratch, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description="a list of [[scratch]] tables"
    )
    area: Annotated[tuple[Area, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description="a list of [[area]] tables"
    )
    patched: Annotated[tuple[Patched, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description="a list of [[patched]] tables"
    )
    status: Status | None = Field(None, description="the status word")
    lock: Lock | None = Field(None, description="the spin lock")
    parks: Annotated[tuple[ParkReason, ...], BeforeValidator(tuple_from_list)] = Field(
        (), description='for what a CPU may park without a word, known: "no-long-mode"'
    )
    hand_off: JumpTo = Field(
        default_factory=lambda: JumpTo.model_validate({}),
        description="the state in which the kernel is entered",
    )
    kernel: Kernel = Field(description="where the kernel is entered, and its size")
    boot_params: BootParams | None = Field(None, description="the size of boot_params")
    cpu: Cpu = Field(description="the CPUs that the claims speak of")
    host: HostPart | None = Field(None, description="the host's side")
    expected: dict[Claim, Expected] = Field(
        default_factory=dict, description="the golden verdict of each claim"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        """What the sections demand of each other."""
        if (problem := _misfit(self)) is not None:
            raise ValueError(problem)
        return self

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims that speak of this trampoline: each asks for certain parts."""
        first = [entry for entry in self.entry if entry.after is None]
        needs: dict[ImageClaim, bool] = dict.fromkeys(get_args(ImageClaim), True)
        needs |= {
            "kernel_identity_map": self.kernel.size_max is not None,
            "boot_params_identity_map": self.boot_params is not None,
            "untouched": self.kernel.size_max is not None or self.boot_params is not None,
            "status_word": self.status is not None,
            "table_switch": self.derives_tables,
            "entries_agree": len(first) > 1,
            "skip_is_safe": any(word.register_ is not None for word in self.word),
            "once": len(first) < len(self.entry),
            "one_at_a_time": self.cpu.at_once or self.lock is not None,
        }
        alone = [claim for claim, spoken_of in needs.items() if spoken_of]
        return (*alone, *(get_args(PairClaim) if self.host is not None else ()))

    @property
    def shared(self) -> Shared:
        """The parts that the contract has because it names a host."""
        kernel, boot_params = self.mailbox.kernel, self.mailbox.boot_params
        assert self.status is not None and self.tables is not None
        assert kernel is not None and boot_params is not None
        return Shared(self.status, self.tables, kernel, boot_params)

    @property
    def derives_tables(self) -> bool:
        """Its tables lead to those that a 64-bit entry finds."""
        found = any(entry.mode == "long64" for entry in self.entry)
        return found and self.tables is None and self.map is None

    _path: Path = Path()

    @property
    def path(self) -> Path:
        """The contract's file; the paths in `[image]` are relative to its folder."""
        return self._path


def _misfit(contract: Contract) -> str | None:
    """Why sections that are right alone do not go together; None if they do."""
    names = [entry.called for entry in contract.entry]
    real = any(entry.mode == "real" for entry in contract.entry)
    kernel, mailbox, boot_params = contract.kernel, contract.mailbox, contract.boot_params
    places = (mailbox.kernel, kernel.address, kernel.symbol)
    words = {word.symbol for word in contract.word}
    if not names:
        return "[entry]: missing; give the symbol of the first instruction"
    if len(set(names)) != len(names):
        return "[[entry]]: two entries have the same name; give each one of its own"
    for entry in contract.entry:
        if entry.after is not None and entry.after not in names:
            return f"[[entry]] after: there is no entry {entry.after}; known: {', '.join(names)}"
    for key in ("protocol", "assume"):
        if (
            len({getattr(e, key) for e in contract.entry if e.mode == "long64" or key == "assume"})
            > 1
        ):
            return f"[[entry]] {key}: it must be the same for all entries"
    if all(entry.after is not None for entry in contract.entry):
        return "[[entry]] after: one entry must be the first; remove its key after"
    if any(part.kept for part in contract.scratch) and (missing := _never_again(contract)):
        return (
            f"[[scratch]] kept: no [[entry]] is a start at {missing[1]} after {missing[0]}; add one"
        )
    if real and contract.base.limit > FIRST_MIB:
        return "[base] limit: a CPU starts in real mode below 0x100000; give no higher limit"
    if sum(place is not None for place in places) != 1:
        return "[kernel]: give exactly one of [mailbox] kernel, address and symbol"
    if boot_params is None and mailbox.boot_params is not None:
        return "[boot_params]: missing, though [mailbox] names its address"
    if boot_params is not None and (mailbox.boot_params is None) == (boot_params.register_ is None):
        return "[boot_params]: give exactly one of [mailbox] boot_params and register"
    if boot_params is not None and boot_params.register_ is not None and real:
        return "[boot_params] register: after INIT and SIPI no register holds an address"
    if contract.map is not None and not {contract.map.cr4, contract.map.efer} <= words:
        return "[map]: cr4 and efer must be symbols of [[word]] tables"
    if contract.map is not None and contract.tables is not None:
        return "[map]: the host makes the tables, or the image does; remove [map] or [tables]"
    if contract.stack is not None and contract.stack.below_rsp is not None and real:
        return "[stack] below_rsp: after INIT and SIPI, RSP points to no stack"
    if contract.parks and contract.status is not None:
        return "parks: a status word says why a CPU parks; remove parks or [status]"
    parts = (contract.status, contract.tables, mailbox.kernel, mailbox.boot_params)
    if contract.host is not None and any(part is None for part in parts):
        return "[host]: needs [status], [tables] and both words of [mailbox]"
    unspoken = contract.expected.keys() - set(contract.claims)
    if unspoken:
        claim = sorted(unspoken)[0]
        return f"[expected.{claim}]: the contract has not the parts that the claim speaks of"
    return None


def _never_again(contract: Contract) -> tuple[str, str] | None:
    """A first entry, and one of which no entry says what it finds after a start at the former."""
    first = [entry for entry in contract.entry if entry.after is None]
    later = {(entry.after, entry.symbol, entry.mode) for entry in contract.entry}
    for one, other in product(first, first):
        if (one.called, other.symbol, other.mode) not in later:
            return one.called, other.called
    return None


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
