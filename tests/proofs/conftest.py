# SPDX-License-Identifier: GPL-2.0-only
"""`pytest proofs/` as a user calls it, in a copy of the checkout: no run touches the real reports.

The copy's PATH may lack QEMU; the shipped trampolines are there, but only `tiny` is proved.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.qemu.vm import QEMU

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("harness", "models", "proofs", "reports", "trampoline")
PROOFS = (sys.executable, "-m", "pytest", "proofs/", "-p", "no:cacheprovider", "-k", "tiny")

Proofs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private copy of what a run needs, without anything that earlier runs left."""
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for part in PARTS:
        shutil.copytree(
            ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "out")
        )
    return copy


@pytest.fixture(scope="session")
def proofs(checkout: Path) -> Proofs:
    """`proofs(contract, "paths")` proves the claims of `tiny` that match."""

    def run(
        contract: Path,
        claims: str = "",
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        chosen = f"tiny and ({claims})" if claims else "tiny"
        return subprocess.run(
            [*PROOFS[:-1], chosen, "--trampoline", str(contract), *options],
            cwd=checkout,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def needs_qemu() -> None:
    """Skip where nothing can be replayed."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} not found")


@pytest.fixture(scope="session")
def without_qemu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose PATH holds the assembler and no QEMU."""
    folder = tmp_path_factory.mktemp("bin")
    for tool in ("gcc", "as", "ld", "objcopy"):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return {"PATH": str(folder)}
