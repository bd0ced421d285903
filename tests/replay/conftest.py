# SPDX-License-Identifier: GPL-2.0-only
"""The RFC's trampoline, executed once, and machines to hold its prediction against."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.qemu.machine import Machine
from harness.qemu.vm import QEMU
from harness.replay.cpu import on_qemu
from harness.replay.predict import Input, Predictor
from harness.x86.execute import execute
from harness.x86.run import Run
from harness.x86.terms import VECTOR
from trampoline.contract import Contract, load_contract
from trampoline.image import Image, load_image

RFC = Path(__file__).resolve().parents[2] / "trampoline/multikernel_rfc/contract.toml"
BASE = 0x90000
MIB, GIB = 1 << 20, 1 << 30
LA57_BASE = 2 * MIB


@dataclass(frozen=True)
class Subject:
    """A trampoline and all that predictions about it need."""

    contract: Contract
    image: Image
    run: Run
    predictor: Predictor


def load(path: Path = RFC, only_base: int | None = None) -> Subject:
    """Assemble and execute it, for every base or for `only_base`."""
    contract = load_contract(path)
    image = load_image(contract)
    run = execute(contract, image, only_base)
    return Subject(contract, image, run, Predictor(contract, image, run))


@pytest.fixture(scope="session")
def rfc() -> Subject:
    return load()


@pytest.fixture(scope="session")
def la57() -> Subject:
    """As posted, at LA57_BASE: on page tables of a boot loader's, of which nothing is known."""
    return load(RFC.parents[1] / "la57_posted" / "contract.toml", LA57_BASE)


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} not found")
    with Machine() as running:
        yield running


def given(
    kernel: int, boot_params: int = 2 * MIB, base: int = BASE, garbage: bytes = b"\xa5\x5a\x77"
) -> Input:
    """An input as QEMU's CPU would meet it. Unknown bytes of the image hold garbage."""
    words = {"kernel_phys_addr": kernel, "boot_params_phys_addr": boot_params}
    return on_qemu({**words, VECTOR: base >> 12, "maxphyaddr": 40}, {}, garbage)
