# SPDX-License-Identifier: GPL-2.0-only
"""From bytes to p-code, one instruction at a time, with pypcode (the lifter behind angr's p-code).

An image is decoded at its own offsets. Each instruction is lifted at two addresses: a constant that
moves with the address is relative to the program counter, one that does not is absolute.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from functools import cache

import pypcode
from pypcode import OpCode

from harness.x86.errors import Unsupported

_LANGUAGES = {16: "x86:LE:16:Real Mode", 32: "x86:LE:32:default", 64: "x86:LE:64:default"}
_PREFIXES = frozenset(b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65")
_SEGMENT_OVERRIDES = {0x2E: "CS", 0x36: "SS", 0x3E: "DS", 0x26: "ES", 0x64: "FS", 0x65: "GS"}
"""Sleigh drops the first four in 32-bit code; in 16-bit code it names the segment."""
_SHIFT = {16: 0x1000, 32: 0x1000000, 64: 0x1000000}
MAX_LENGTH = 15  # bytes; SDM 2A 2.3.11, longer instructions raise #GP


@dataclass(frozen=True)
class Varnode:
    """An operand of p-code. `space` is const, unique, register or ram; `size` is in bytes."""

    space: str
    offset: int
    size: int
    name: str = ""  # register name as sleigh writes it
    relative: bool = False  # const and ram: `offset` counts from the image's start, not from 0


@dataclass(frozen=True)
class Op:
    """One p-code operation."""

    opcode: OpCode
    output: Varnode | None
    inputs: tuple[Varnode, ...]
    userop: str = ""  # name of a CALLOTHER


@dataclass(frozen=True)
class Instruction:
    """One instruction of the image. `offset` and `length` are in bytes, `bits` is the code size."""

    offset: int
    length: int
    bits: int
    mnemonic: str
    operands: str
    ops: tuple[Op, ...]
    prefixes: frozenset[int]
    rex_w: bool

    @property
    def end(self) -> int:
        """Offset of the next instruction."""
        return self.offset + self.length

    @property
    def operand_bytes(self) -> int:
        """Operand size in bytes by code size, 0x66 and REX.W (SDM 2A table 3-4)."""
        if self.rex_w:
            return 8
        wide = (self.bits == 16) == (0x66 in self.prefixes)
        return 4 if wide else 2

    def __str__(self) -> str:
        return f"{self.mnemonic.lower()} {self.operands}".strip()


@cache
def context(bits: int) -> pypcode.Context:
    """The decoder for 16-, 32- or 64-bit code."""
    return pypcode.Context(_LANGUAGES[bits])


# What is alive when Python exits, pypcode's binding reports as leaked.
atexit.register(context.cache_clear)


@cache
def lift(data: bytes, offset: int, bits: int) -> Instruction:
    """Decode the instruction that `data` begins with, standing at `offset` of the image.

    Raises Unsupported when the bytes are no instruction that the decoder knows.
    """
    here = _translate(data, offset, bits)
    there = _translate(data, offset + _SHIFT[bits], bits)
    text = _text(data, offset, bits)
    # The decoder takes bytes behind the end for zeros.
    if here is None or there is None or text is None or text.length > len(data):
        raise Unsupported(offset, f"bytes {data[:8].hex(' ')} do not decode as {bits}-bit code")
    prefixes, rest = _split(data)
    if bits != 16 and text.mnem != "LEA":
        for prefix in prefixes & _SEGMENT_OVERRIDES.keys():
            raise Unsupported(offset, f"{text.mnem} with a {_SEGMENT_OVERRIDES[prefix]} override")
    if bits == 16 and 0x67 in prefixes and "[" in text.body and text.mnem != "LEA":
        raise Unsupported(offset, f"{text.mnem} with a 32-bit address in 16-bit code")
    pairs = list(zip(here.ops, there.ops, strict=True))[1:]  # the first is IMARK
    ops = tuple(_op(a, b, _SHIFT[bits]) for a, b in pairs)
    return Instruction(
        offset=offset,
        length=text.length,
        bits=bits,
        mnemonic=text.mnem,
        operands=text.body,
        ops=ops,
        prefixes=prefixes,
        rex_w=bits == 64 and 0x48 <= rest <= 0x4F,
    )


def _text(data: bytes, offset: int, bits: int) -> pypcode.Instruction | None:
    try:
        found = context(bits).disassemble(data, offset, max_instructions=1).instructions
    except (pypcode.BadDataError, pypcode.UnimplError, pypcode.DecoderError):
        return None
    return found[0] if found else None


def _translate(data: bytes, address: int, bits: int) -> pypcode.Translation | None:
    try:
        return context(bits).translate(data, address, max_instructions=1)
    except (pypcode.BadDataError, pypcode.UnimplError, pypcode.DecoderError):
        return None


def _split(data: bytes) -> tuple[frozenset[int], int]:
    """The legacy prefixes and the byte behind them."""
    count = 0
    while count < len(data) and data[count] in _PREFIXES:
        count += 1
    return frozenset(data[:count]), data[count] if count < len(data) else 0


def _op(here: pypcode.PcodeOp, there: pypcode.PcodeOp, shift: int) -> Op:
    userop = ""
    inputs = list(zip(here.inputs, there.inputs, strict=True))
    if here.opcode == OpCode.CALLOTHER:
        userop = here.inputs[0].getUserDefinedOpName()
        inputs = inputs[1:]
    if here.opcode in (OpCode.LOAD, OpCode.STORE):
        inputs = inputs[1:]  # the first names the address space: there is only one
    output = None if here.output is None else _varnode(here.output, there.output, shift)
    return Op(here.opcode, output, tuple(_varnode(a, b, shift) for a, b in inputs), userop)


def _varnode(here: pypcode.Varnode, there: pypcode.Varnode, shift: int) -> Varnode:
    space = here.space.name
    if space == "register":
        return Varnode(space, here.offset, here.size, here.getRegisterName())
    relative = here.offset != there.offset
    if relative and (there.offset - here.offset) % (1 << 8 * max(here.size, 2)) != shift:
        raise ValueError(f"constant {here.offset:#x} moves with the address, but not by as much")
    return Varnode(space, here.offset, here.size, relative=relative)
