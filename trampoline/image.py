# SPDX-License-Identifier: GPL-2.0-only
"""An image: the bytes and symbols of one trampoline, as the host would copy them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from trampoline.assemble import assemble
from trampoline.contract import PAGE_SIZE, Contract, Scratch
from trampoline.elf import Part, read_part
from trampoline.errors import UserError

SIZE_MAX = 0x10000
"""In bytes. Real-mode code reaches offsets 0..0xFFFF of its segment (SDM vol. 3A 21.1.1)."""

MAILBOX_WORD_SIZE = 8
STATUS_WORD_SIZE = 4


class ImageError(UserError):
    """The image cannot be built or read, or lacks what its contract names."""


@dataclass(frozen=True)
class Image:
    """Bytes and symbols of one trampoline.

    `symbols` maps a name to its offset in bytes from the image's start; an end symbol may equal
    `len(data)`. `lines` holds (offset, source file, line) for the first byte of each instruction,
    in ascending order; empty if the object has no line table.
    """

    name: str
    data: bytes
    symbols: dict[str, int]
    lines: tuple[tuple[int, str, int], ...]


def load_image(contract: Contract) -> Image:
    """Assemble or read the image that `contract` names and check it against the contract.

    Raises ImageError.
    """
    folder = contract.path.parent
    image = contract.image
    if image.object is not None:
        part = _read(folder / image.object, contract, shown=folder / image.object)
    else:
        assert image.source is not None  # the contract's schema demands one of the two
        source = folder / image.source
        with tempfile.TemporaryDirectory(prefix="trampoline-") as work:
            target = Path(work) / "image.o"
            if (problem := assemble(source, target)) is not None:
                raise ImageError(problem)
            part = _read(target, contract, shown=source)
    _check(part, contract)
    return Image(contract.name, part.data, part.symbols, part.lines)


def _read(path: Path, contract: Contract, shown: Path) -> Part:
    part = read_part(path, contract.image.section, contract.image.symbols)
    if isinstance(part, str):
        raise ImageError(f"{shown}: {part}")
    if len(part.data) > SIZE_MAX:
        raise ImageError(
            f"{shown}: the image has {len(part.data)} bytes; real-mode code reaches {SIZE_MAX}, "
            "so make it smaller or name its part with [image] symbols."
        )
    return part


def _check(part: Part, contract: Contract) -> None:
    """Raise ImageError unless all that the contract names is in the image, aligned and in reach."""
    checked = _Checked(part, contract.path)
    entry = checked.offset("[entry] symbol", contract.entry.symbol)
    if entry != 0:
        checked.fail(
            "[entry] symbol",
            f"{contract.entry.symbol} is at offset {entry:#x} of the image; "
            "the CPU starts at offset 0, so the entry must be there",
        )
    mailbox = contract.mailbox
    for key, symbol in (("kernel", mailbox.kernel), ("boot_params", mailbox.boot_params)):
        checked.word(f"[mailbox] {key}", symbol, MAILBOX_WORD_SIZE, MAILBOX_WORD_SIZE)
    if mailbox.kernel == mailbox.boot_params:
        checked.fail("[mailbox] kernel", "boot_params has the same symbol; give two words")
    checked.word("[status] word", contract.status.word, STATUS_WORD_SIZE, 1)

    start = checked.aligned("[tables] start", contract.tables.start, PAGE_SIZE)
    end = checked.aligned("[tables] end", contract.tables.end, PAGE_SIZE)
    if start >= end:
        checked.fail("[tables] end", f"{contract.tables.end} is not behind {contract.tables.start}")
    status = checked.offset("[status] word", contract.status.word)
    mail = (checked.offset("[mailbox]", word) for word in (mailbox.kernel, mailbox.boot_params))
    private = [(start, end), *((at, at + MAILBOX_WORD_SIZE) for at in mail)]
    if any(first < status + STATUS_WORD_SIZE and status < last for first, last in private):
        checked.fail("[status] word", "it lies in [tables] or [mailbox]; the host writes it late")
    if contract.stack is not None:
        checked.part("[stack]", contract.stack.start, contract.stack.end)
    for number, gdt in enumerate(contract.gdt, start=1):
        checked.part(f"[[gdt]] no. {number}", gdt.start, gdt.end)
    for number, scratch in enumerate(contract.scratch, start=1):
        _check_scratch(checked, f"[[scratch]] no. {number}", scratch)

    base, pages = contract.base, -(-len(part.data) // PAGE_SIZE)
    if base.lowest + pages * PAGE_SIZE > base.limit:
        checked.fail(
            "[base] limit", f"no base from lowest on keeps the image's {pages} pages below it"
        )


def _check_scratch(checked: _Checked, key: str, scratch: Scratch) -> None:
    start = checked.offset(f"{key} start", scratch.start) + scratch.offset
    if scratch.end is not None:
        end, last_key = checked.offset(f"{key} end", scratch.end), "end"
    else:
        assert scratch.size is not None  # the contract's schema demands one of the two
        end, last_key = start + scratch.size, "size"
    if not start < end <= checked.size:
        checked.fail(
            f"{key} {last_key}",
            f"the bytes {start:#x} to {end:#x} are not a range inside the image's "
            f"{checked.size:#x} bytes",
        )


class _Checked:
    """Looks symbols up in an image and names file and key where one does not fit."""

    def __init__(self, part: Part, contract_path: Path) -> None:
        self._part = part
        self._path = contract_path
        self.size = len(part.data)

    def fail(self, key: str, problem: str) -> None:
        raise ImageError(f"{self._path}: {key}: {problem}.")

    def offset(self, key: str, symbol: str) -> int:
        """The symbol's offset in bytes from the image's start."""
        if symbol in self._part.ambiguous:
            self.fail(key, f"the object has more than one symbol {symbol}; rename all but one")
        if symbol not in self._part.symbols:
            self.fail(key, f"the image has no symbol {symbol}; define it or name another")
        return self._part.symbols[symbol]

    def aligned(self, key: str, symbol: str, alignment: int) -> int:
        offset = self.offset(key, symbol)
        if offset % alignment:
            self.fail(key, f"{symbol} is at offset {offset:#x}; align it to {alignment} bytes")
        return offset

    def part(self, key: str, start: str, end: str) -> None:
        if self.offset(f"{key} start", start) >= self.offset(f"{key} end", end):
            self.fail(f"{key} end", f"{end} is not behind {start}")

    def word(self, key: str, symbol: str, size: int, alignment: int) -> int:
        """The offset of a word of `size` bytes that must lie in the image as a whole."""
        offset = self.aligned(key, symbol, alignment)
        if offset + size > self.size:
            self.fail(key, f"{symbol} has no room for {size} bytes before the image's end")
        return offset
