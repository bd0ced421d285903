# SPDX-License-Identifier: GPL-2.0-only
"""What is replayed: a trampoline and a host, with the pair of processes that was read off them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from harness.protocol.pair import pair_of
from harness.x86.execute import execute
from models.protocol import Pair
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError
from trampoline.host_object import HostObject, host_of
from trampoline.image import Image, load_image
from trampoline.shipped import contract_of, contracts

BASE = 0x90000
"""Where the area lies: physical, page aligned."""


@dataclass(frozen=True)
class Parts:
    """What is executed."""

    contract: Contract
    image: Image
    host: HostObject

    def digest(self) -> str:
        """Of the image's bytes and the host's code."""
        return hashlib.sha256(self.image.data + self.host.text).hexdigest()

    def pair(self) -> Pair:
        """Read the two processes off the image and the host. Raises UserError, Refusal."""
        run = execute(self.contract, self.image, BASE)
        return pair_of(self.contract, self.image, run, self.host)


@dataclass(frozen=True)
class Subject:
    """`pair` was read off `parts`."""

    parts: Parts
    pair: Pair


def load_parts(name: str) -> Parts:
    """The shipped trampoline of this name, and its host. Raises UserError."""
    path = contract_of(name)
    if not path.is_file():
        found = [load_contract(one) for one in contracts()]
        known = ", ".join(contract.name for contract in found if contract.host is not None)
        raise UserError(f"{name}: no such trampoline; name one of {known}.")
    contract = load_contract(path)
    return Parts(contract, load_image(contract), host_of(contract))


def load_subject(name: str) -> Subject:
    """A shipped pair, by the name of its trampoline. Raises UserError, Refusal."""
    parts = load_parts(name)
    return Subject(parts, parts.pair())
