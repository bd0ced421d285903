# SPDX-License-Identifier: GPL-2.0-only
"""The numbers of protocol.h for Python: addresses and offsets that all three sides agree on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent

_DEFINE = re.compile(r"^#define\s+(\w+)\s+(0x[0-9A-Fa-f]+|\d+)(?:\s|$)", re.MULTILINE)


def _read(header: Path) -> dict[str, int]:
    return {name: int(value, 0) for name, value in _DEFINE.findall(header.read_text())}


P: Final[dict[str, int]] = _read(HERE / "protocol.h")
"""Every constant of protocol.h by its name. Addresses are physical; sizes and offsets are bytes."""

REGISTERS: Final[dict[str, int]] = {
    name.removeprefix("REGISTER_").lower(): offset
    for name, offset in P.items()
    if name.startswith("REGISTER_")
}
"""Register name (lower case, the manual's) -> offset in the report, bytes."""
