# SPDX-License-Identifier: GPL-2.0-only
"""The trampolines that come with the project: one folder each, beside this file."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def contracts() -> list[Path]:
    """Their contracts, by name of the folder."""
    return sorted(FOLDER.glob("*/contract.toml"))


def contract_of(name: str) -> Path:
    """Where the contract of one of this name is, if there is one."""
    return FOLDER / name / "contract.toml"
