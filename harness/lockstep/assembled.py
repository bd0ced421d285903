# SPDX-License-Identifier: GPL-2.0-only
"""Single instructions from their assembly text."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path

from trampoline.assemble import assemble
from trampoline.elf import read_part
from trampoline.errors import UserError


@cache
def assembled(bits: int, *instructions: str) -> tuple[bytes, ...]:
    """The bytes of each instruction in 16-, 32- or 64-bit code. Raises UserError."""
    lines = [f"n{number}: {text}" for number, text in enumerate(instructions)]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "code.S", Path(folder) / "code.o"
        end = f"n{len(lines)}:"
        source.write_text("\n".join([f".code{bits}", *lines, end, ""]), encoding="utf-8")
        if (why := assemble(source, target)) is not None:
            raise UserError(why)
        part = read_part(target, ".text", None)
    assert not isinstance(part, str), part
    places = [part.symbols[f"n{number}"] for number in range(len(lines) + 1)]
    return tuple(part.data[a:b] for a, b in pairwise(places))
