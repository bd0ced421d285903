# SPDX-License-Identifier: GPL-2.0-only
"""What pytest keeps of a run of the proofs: the trampolines, and what was found of them."""

from __future__ import annotations

import pytest

from harness.record import ClaimRecord
from trampoline.contract import Contract
from trampoline.image import Image

LOADED: pytest.StashKey[dict[str, tuple[Contract, Image]]] = pytest.StashKey()
"""Contract and image of each trampoline, by name."""
RECORDS: pytest.StashKey[list[ClaimRecord]] = pytest.StashKey()
"""What the claims have become, so far, in this process."""
