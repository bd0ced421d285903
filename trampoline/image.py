# SPDX-License-Identifier: GPL-2.0-only
"""An image: the bytes and symbols of one trampoline, as the host would copy them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from trampoline.assemble import assemble, flatten
from trampoline.contract import Contract
from trampoline.elf import Part, defined_names, read_part
from trampoline.errors import UserError
from trampoline.sections import BASE_END, PAGE_SIZE, Scratch

SIZE_MAX = 0x10000
"""In bytes. Real-mode code reaches offsets 0..0xFFFF of its segment (SDM vol. 3A 21.1.1)."""

MAILBOX_WORD_SIZE = 8
STATUS_WORD_SIZE = 4
FIXUP_SIZE = 4
LOCK_WORD_SIZE = 4


class ImageError(UserError):
    """The image cannot be built or read, or lacks what its contract names."""


@dataclass(frozen=True)
class Image:
    """Bytes and symbols of one trampoline.

    `symbols` maps a name to its offset in bytes from the image's start; an end symbol may equal
    `len(data)`. `lines` holds (offset, source file, line) for the first byte of each instruction,
    in ascending order; empty if the object has no line table. `fixups`: offset of a 4-byte word to
    the offset of which the host fills in the physical address there.
    """

    name: str
    data: bytes
    symbols: dict[str, int]
    lines: tuple[tuple[int, str, int], ...]
    fixups: dict[int, int] = field(default_factory=dict)


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
            if image.carrier is None:
                part = _read(target, contract, shown=source)
            else:
                part = _carried(contract, source, folder / image.carrier, target)
    _check(part, contract)
    return Image(contract.name, part.data, part.symbols, part.lines, part.fixups)


def _carried(contract: Contract, source: Path, carrier: Path, target: Path) -> Part:
    """What lies between the two symbols of the carrier, with the names and lines of `target`."""
    own = defined_names(target)  # the linker adds more: __bss_start, _edata, _end
    if (problem := flatten(target, target.parent)) is not None:
        raise ImageError(f"{source}: {problem}")
    named = _part(target, contract.image.section, None, None, shown=source)
    carrying = target.parent / "carrier.o"
    if (problem := assemble(carrier, carrying, include=target.parent)) is not None:
        raise ImageError(problem)
    carried = _part(carrying, contract.image.section, contract.image.symbols, None, shown=carrier)
    if carried.data != named.data:
        raise ImageError(
            f"{carrier}: what it carries between its symbols is not {source.name} linked at "
            "address 0; include trampoline.bin between them, and nothing else."
        )
    symbols = {name: offset for name, offset in named.symbols.items() if name in own}
    return replace(named, data=carried.data, symbols=symbols)


def _read(path: Path, contract: Contract, shown: Path) -> Part:
    image = contract.image
    return _part(path, image.section, image.symbols, image.fixups, shown)


def _part(
    path: Path,
    section: str,
    symbols: tuple[str, str] | None,
    fixups: str | None,
    shown: Path,
) -> Part:
    part = read_part(path, section, symbols, fixups)
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
    for entry in contract.entry:
        several = f" of {entry.called}" if len(contract.entry) > 1 else ""
        key = f"[entry] symbol{several}"
        offset = checked.offset(key, entry.symbol)
        if entry.mode == "real" and offset != 0:
            checked.fail(
                key,
                f"{entry.symbol} is at offset {offset:#x} of the image; "
                "the CPU starts at offset 0, so the entry must be there",
            )
    words = _host_words(checked, contract)
    private = [(at, at + size) for _, _, at, size in words]
    if contract.tables is not None:
        tables = contract.tables
        start = checked.aligned("[tables] start", tables.start, PAGE_SIZE)
        end = checked.aligned("[tables] end", tables.end, PAGE_SIZE)
        if start >= end:
            checked.fail("[tables] end", f"{tables.end} is not behind {tables.start}")
        private.append((start, end))
    filled = [(key, at, size) for key, _, at, size in words]
    if contract.map is not None:
        root = checked.word("[map] root", contract.map.root, PAGE_SIZE, PAGE_SIZE)
        private.append((root, root + PAGE_SIZE))
        filled.append(("[map] root", root, PAGE_SIZE))
    if contract.status is not None:
        status = checked.word("[status] word", contract.status.word, STATUS_WORD_SIZE, 1)
        if any(first < status + STATUS_WORD_SIZE and status < last for first, last in private):
            checked.fail(
                "[status] word", "it lies in [tables] or [mailbox]; the host writes it late"
            )
        filled.append(("[status] word", status, STATUS_WORD_SIZE))
    if contract.lock is not None:
        lock = checked.word("[lock] word", contract.lock.word, LOCK_WORD_SIZE, LOCK_WORD_SIZE)
        filled.append(("[lock] word", lock, LOCK_WORD_SIZE))
    for key, at, size in filled:
        checked.no_fixup(key, at, size)
    stack = contract.stack
    if stack is not None and stack.start is not None and stack.end is not None:
        checked.part("[stack]", stack.start, stack.end)
    for number, gdt in enumerate(contract.gdt, start=1):
        checked.part(f"[[gdt]] no. {number}", gdt.start, gdt.end)
    for number, pointer in enumerate(contract.pointer, start=1):
        checked.part(f"[[pointer]] no. {number}", pointer.start, pointer.end)
    for number, scratch in enumerate(contract.scratch, start=1):
        _check_scratch(checked, f"[[scratch]] no. {number}", scratch)
    for number, area in enumerate(contract.area, start=1):
        if area.copy_of is not None:
            checked.part(f"[[area]] no. {number} copy_of", *area.copy_of)
    for number, patched in enumerate(contract.patched, start=1):
        checked.word(f"[[patched]] no. {number}", patched.symbol, FIXUP_SIZE, 1)
    if contract.kernel.symbol is not None:
        checked.offset("[kernel] symbol", contract.kernel.symbol)

    base, pages = contract.base, -(-len(part.data) // PAGE_SIZE)
    if base.lowest + pages * PAGE_SIZE > base.limit:
        checked.fail(
            "[base] limit", f"no base from lowest on keeps the image's {pages} pages below it"
        )
    _check_areas(checked, contract)


def _check_areas(checked: _Checked, contract: Contract) -> None:
    """No two areas overlap, they lie where addresses may, and leave room for the image."""
    found: list[tuple[str, range]] = []
    for number, area in enumerate(contract.area, start=1):
        key, size = f"[[area]] no. {number}", area.size
        if area.copy_of is not None:
            first, end = (checked.offset(f"{key} copy_of", symbol) for symbol in area.copy_of)
            size = end - first
        assert size is not None  # the contract's schema demands one of the two
        place = range(area.address, area.address + size)
        if place.stop > BASE_END:
            checked.fail(key, f"its {size:#x} bytes end above {BASE_END:#x}")
        for name, other in found:
            if place.start < other.stop and other.start < place.stop:
                checked.fail(key, f"it overlaps the area {name}; give one area, or two places")
        found.append((area.name, place))
    places = [place for _, place in found]
    behind = [-(-place.stop // PAGE_SIZE) * PAGE_SIZE for place in places]
    highest = contract.base.limit - -(-checked.size // PAGE_SIZE) * PAGE_SIZE
    bases = [base for base in (contract.base.lowest, *behind) if base >= contract.base.lowest]
    if not any(
        base <= highest
        and all(base >= place.stop or base + checked.size <= place.start for place in places)
        for base in bases
    ):
        checked.fail("[[area]]", "at every base of [base] the image would lie over an area")


def _host_words(checked: _Checked, contract: Contract) -> list[tuple[str, str, int, int]]:
    """Key, symbol, offset and size of each word that the host fills in; no two of them overlap."""
    mailbox, found = contract.mailbox, []
    for key, symbol in (("kernel", mailbox.kernel), ("boot_params", mailbox.boot_params)):
        if symbol is not None:
            at = checked.word(f"[mailbox] {key}", symbol, MAILBOX_WORD_SIZE, MAILBOX_WORD_SIZE)
            found.append((f"[mailbox] {key}", symbol, at, MAILBOX_WORD_SIZE))
    for number, word in enumerate(contract.word, start=1):
        key = f"[[word]] no. {number}"
        at = checked.word(key, word.symbol, word.size, word.size)
        found.append((key, word.symbol, at, word.size))
    for index, (key, symbol, at, size) in enumerate(found):
        for _, other, start, length in found[:index]:
            if at < start + length and start < at + size:
                checked.fail(key, f"{other} and {symbol} share bytes; give two words")
    return found


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

    def no_fixup(self, key: str, at: int, size: int) -> None:
        """Nobody fills in a physical address where the host puts something else."""
        for place in self._part.fixups:
            if place < at + size and at < place + FIXUP_SIZE:
                self.fail(key, f"[image] fixups fills in an address at {place:#x}, in its bytes")

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
