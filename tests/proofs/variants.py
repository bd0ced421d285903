# SPDX-License-Identifier: GPL-2.0-only
"""Trampolines that differ from one in the tree by a few words of source or contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

TINY = Path(__file__).parent / "targets"
MULTIKERNEL = Path(__file__).resolve().parents[2] / "trampoline" / "multikernel"

Edits = Mapping[str, str]
ONE_BASE: Edits = {"lowest = 0x1000": "lowest = 0x90000"}
"""For the contract: `multikernel` at its highest base only. What is refuted there, is."""


def variant(
    folder: Path, original: Path, source: Edits | None = None, contract: Edits | None = None
) -> Path:
    """Write the trampoline of folder `original` to `folder`, edited; return its contract.

    Each edit replaces a text that occurs exactly once, so none can silently do nothing.
    """
    for suffix, edits in ((".S", source or {}), (".toml", contract or {})):
        texts = {path: path.read_text() for path in original.glob(f"*{suffix}")}
        for old, new in edits.items():
            count = sum(text.count(old) for text in texts.values())
            assert count == 1, f"{old!r} occurs {count} times in {original}/*{suffix}"
            texts = {path: text.replace(old, new) for path, text in texts.items()}
        for path, text in texts.items():
            (folder / path.name).write_text(text)
    return folder / "contract.toml"


def tiny(folder: Path, source: Edits | None = None, contract: Edits | None = None) -> Path:
    """A variant of targets/tiny.S."""
    return variant(folder, TINY, source, contract)
