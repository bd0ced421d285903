# SPDX-License-Identifier: GPL-2.0-only
"""The shipped trampolines, executed once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from harness.x86.execute import execute
from harness.x86.run import Run
from trampoline.contract import load_contract
from trampoline.image import Image, load_image

SHIPPED = Path(__file__).parents[2] / "trampoline"

Execute = Callable[..., tuple[Image, Run]]


@pytest.fixture(scope="session")
def shipped() -> Execute:
    """shipped(name, base=None): image and run of a shipped trampoline, at all bases or at one."""

    @cache
    def run(name: str, base: int | None) -> tuple[Image, Run]:
        contract = load_contract(SHIPPED / name / "contract.toml")
        image = load_image(contract)
        return image, execute(contract, image, base)

    # One way to write the default, so that the cache has one entry for it.
    return lambda name, base=None: run(name, base)
