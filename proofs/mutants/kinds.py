# SPDX-License-Identifier: GPL-2.0-only
"""All mutants of an image: what is changed, in one place at a time.

Of each executed instruction: it is dropped, duplicated, or swapped with the one after it; its
immediate, displacement, width, operation, condition or a register is another one. Of what the
CPU reads as a descriptor or table pointer: each bit is turned round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import z3
from capstone import CS_ARCH_X86, CS_GRP_JUMP, CS_MODE_16, CS_MODE_32, CS_MODE_64, Cs, CsInsn
from capstone.x86 import X86_INS_LJMP

from harness.replay.places import source_of, symbol_before
from harness.x86.lift import MAX_LENGTH
from harness.x86.run import Run
from harness.x86.terms import simplify
from models.modes import Mode
from trampoline.contract import Contract
from trampoline.image import Image

NOP = b"\x90"
WORD = 0x66
"""Prefix: the operand size is the other one of 16 and 32 bits (SDM vol. 2A 2.1.1)."""
ENDS_STRAIGHT_CODE = {"jmp", "ljmp", "call", "lcall", "ret", "retf", "retfq", "iret", "hlt"}
_MODES = {16: CS_MODE_16, 32: CS_MODE_32, 64: CS_MODE_64}


@dataclass(frozen=True)
class Change:
    """One change of an image. `at`: offset of the bytes that `data` replaces; without `data` the
    source line of the instruction at `at` is written twice."""

    kind: str
    offset: int  # of the instruction, or of the byte of data, in the image
    at: int
    length: int  # of the instruction, or 1, in bytes
    data: bytes
    was: str
    becomes: str
    source: str  # file:line
    symbol: str  # the symbol before it

    @property
    def name(self) -> str:
        """Tells it from all other changes of the same image."""
        return f"{self.kind}@{self.at:#x}:{self.data.hex()}"


@dataclass(frozen=True)
class _Code:
    """An executed instruction, as capstone decodes it."""

    offset: int
    bits: int  # of its mode
    data: bytes
    decoded: CsInsn

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    def __str__(self) -> str:
        return _text(self.decoded)


def changes(contract: Contract, image: Image, run: Run) -> tuple[Change, ...]:
    """All mutants, in the image's order, each once. `run`: of the image as it is."""
    codes = _executed(image, run)
    targets = {after for end in run.ends for (_, after) in _jumps(end.trace, codes)}
    found: dict[tuple[int, bytes], Change] = {}

    def add(kind: str, code: _Code, data: bytes, becomes: str) -> None:
        if data != image.data[code.offset : code.offset + len(data)] or not data:
            place = source_of(image, code.offset), symbol_before(image, code.offset)
            change = Change(
                kind, code.offset, code.offset, len(code.data), data, str(code), becomes, *place
            )  # fmt: skip
            found.setdefault((code.offset, data), change)

    for code in codes.values():
        add("dropped", code, NOP * len(code.data), "nothing")
        if contract.image.source is not None:
            add("duplicated", code, b"", "twice")
        after = codes.get(code.end)
        if after is not None and after.offset not in targets and _can_swap(code, after):
            moved = _moved(after, -len(code.data)) + _moved(code, len(after.data))
            add("swapped", code, moved, f"{after}; {code}")
        for kind, data in _other_instructions(code):
            decoded = _decode(data, code.offset, code.bits)
            if decoded is None or decoded.size > len(code.data):
                continue  # it would be another instruction's bytes as well
            data = data[: decoded.size]
            add(kind, code, data + NOP * (len(code.data) - len(data)), _text(decoded))
    for offset in _constants(contract, image, run):
        for bit in range(8):
            data = bytes([image.data[offset] ^ 1 << bit])
            change = Change(
                "bit of a table", offset, offset, 1, data, f"{image.data[offset]:#04x}",
                f"{data[0]:#04x}", source_of(image, offset), symbol_before(image, offset),
            )  # fmt: skip
            found.setdefault((offset, data), change)
    return tuple(sorted(found.values(), key=lambda change: (change.offset, change.kind)))


def _executed(image: Image, run: Run) -> dict[int, _Code]:
    """By offset. What capstone cannot decode has no mutants but in the image's data."""
    modes: dict[int, int] = {}
    for end in run.ends:
        for offset, name in end.trace:
            modes.setdefault(offset, Mode[name].bits)
    codes = {}
    for offset, bits in sorted(modes.items()):
        decoded = _decode(image.data[offset : offset + MAX_LENGTH], offset, bits)
        if decoded is None:
            raise ValueError(f"capstone does not decode the instruction at {offset:#x}")
        codes[offset] = _Code(offset, bits, bytes(decoded.bytes), decoded)
    return codes


def _decode(data: bytes, offset: int, bits: int) -> CsInsn | None:
    decoder = Cs(CS_ARCH_X86, _MODES[bits])
    decoder.detail = True
    return next(decoder.disasm(data, offset), None)


def _text(decoded: CsInsn) -> str:
    return f"{decoded.mnemonic} {decoded.op_str}".strip()


def _jumps(
    trace: tuple[tuple[int, str], ...], codes: dict[int, _Code]
) -> Iterator[tuple[int, int]]:
    for (here, _), (after, _) in pairwise(trace):
        if after != codes[here].end:
            yield here, after


def _can_swap(first: _Code, second: _Code) -> bool:
    """Neither leaves the straight line."""
    return first.bits == second.bits and not any(
        code.decoded.group(CS_GRP_JUMP) or code.decoded.mnemonic in ENDS_STRAIGHT_CODE
        for code in (first, second)
    )


def _moved(code: _Code, distance: int) -> bytes:
    """The instruction's bytes for another place, `distance` bytes further on."""
    decoded, data = code.decoded, bytearray(code.data)
    if code.bits == 64 and decoded.modrm_offset and decoded.modrm & 0xC7 == 0x05:  # relative to RIP
        where = slice(decoded.disp_offset, decoded.disp_offset + 4)
        data[where] = _less(bytes(data[where]), distance)
    return bytes(data)


def _less(field: bytes, amount: int) -> bytes:
    value = int.from_bytes(field, "little") - amount
    return (value % (1 << 8 * len(field))).to_bytes(len(field), "little")


def _other_instructions(code: _Code) -> Iterator[tuple[str, bytes]]:
    """The bytes of instructions that differ from this one in one field."""
    decoded, data = code.decoded, code.data
    if decoded.disp_offset and decoded.disp_size:
        yield "displacement", _with(data, decoded.disp_offset, decoded.disp_size, 1)
    if decoded.id == X86_INS_LJMP and not decoded.modrm_offset:
        yield "immediate", _with(data, len(data) - 2, 2, 8)  # the next selector
        yield "immediate", _with(data, len(data) - 3, 1, 1)
    elif decoded.imm_offset:
        size = len(data) - decoded.imm_offset
        jump = decoded.group(CS_GRP_JUMP)
        kind = "displacement" if jump else "immediate"
        yield kind, _with(data, decoded.imm_offset, size, 1)
        if not jump:
            value = int.from_bytes(data[-size:], "little")
            for bit in range(8 * size):
                if value >> bit & 1 or bit == 8 * size - 1:
                    yield kind, _flipped(data, decoded.imm_offset + bit // 8, bit % 8)
    if decoded.rex:
        yield "width", _flipped(data, data.index(decoded.rex), 3)
    if WORD in (prefixes := data[: _opcode_at(code)]):
        at = prefixes.index(WORD)
        yield "width", data[:at] + data[at + 1 :]
    for at, bit in _register_bits(code):
        changed = _flipped(data, at, bit)
        other = _decode(changed, code.offset, code.bits)
        if other is not None:
            yield _kind(decoded, other), changed


def _opcode_at(code: _Code) -> int:
    """Where the prefixes end."""
    first = code.decoded.opcode[0]
    skipped = [prefix for prefix in (*code.decoded.prefix, code.decoded.rex) if prefix]
    at = len(skipped)
    return at if at < len(code.data) and code.data[at] == first else code.data.index(first)


def _register_bits(code: _Code) -> Iterator[tuple[int, int]]:
    """Byte and bit of each field that may name a register, a condition, a width, an operation."""
    opcode = [byte for byte in code.decoded.opcode if byte]
    yield _opcode_at(code) + max(len(opcode), 1) - 1, 0
    if at := code.decoded.modrm_offset:
        yield at, 3
        yield at, 0
        if code.bits != 16 and code.decoded.modrm & 7 == 4 and code.decoded.modrm < 0xC0:
            yield at + 1, 3  # SIB.index
            yield at + 1, 0  # SIB.base


def _kind(was: CsInsn, becomes: CsInsn) -> str:
    if was.mnemonic == becomes.mnemonic:
        same = [one.size for one in was.operands] == [one.size for one in becomes.operands]
        return "register" if same else "width"
    return "condition" if was.group(CS_GRP_JUMP) and becomes.group(CS_GRP_JUMP) else "operation"


def _with(data: bytes, at: int, size: int, more: int) -> bytes:
    """A field of `size` bytes with something added to it."""
    return data[:at] + _less(data[at : at + size], -more) + data[at + size :]


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def _constants(contract: Contract, image: Image, run: Run) -> tuple[int, ...]:
    """Offsets of all bytes of descriptors, and of what is read as table pointers, in the image."""
    found = {
        offset
        for gdt in contract.gdt
        for offset in range(image.symbols[gdt.start], image.symbols[gdt.end])
    }
    for end in run.ends:
        for access in end.accesses:
            if access.kind == "descriptor":
                first = simplify(access.linear - run.inputs["base"])
                if z3.is_bv_value(first) and first.as_long() + access.size <= len(image.data):
                    found |= set(range(first.as_long(), first.as_long() + access.size))
    return tuple(sorted(found))
