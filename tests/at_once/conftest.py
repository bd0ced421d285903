# SPDX-License-Identifier: GPL-2.0-only
"""Shipped trampolines at one base, and what is read off them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from harness.at_once.machine import Scene
from harness.at_once.process import Started, started
from harness.qemu.vm import QEMU
from harness.replay.predict import Predictor
from harness.x86.given import word_name
from harness.x86.terms import VECTOR
from proofs.at_once import scene
from tests.proofs.kills import ONE_BASE, shipped

BASE, KERNEL = 0x90000, 1 << 24


@dataclass(frozen=True)
class Read:
    """What CPUs do that are started in a trampoline's image, and the image in memory."""

    started: Started
    scene: Scene


@cache
def read(name: str) -> Read:
    ONE_BASE.setdefault(name, BASE)
    contract, image, run = shipped(name)
    words = {word_name(word.symbol): word.must for word in contract.word}
    values = {VECTOR: BASE >> 12, "kernel_phys_addr": KERNEL, **words}
    made = scene(Predictor(contract, image, run), values)
    assert made is not None
    return Read(started(contract, image, run), made)


@pytest.fixture(name="read")
def _read() -> Callable[[str], Read]:
    return read


@pytest.fixture
def needs_qemu() -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} not found")
