# SPDX-License-Identifier: GPL-2.0-only
"""From bytes to p-code, one instruction at a time, with pypcode (the lifter behind angr's p-code).

An image is decoded at its own offsets. Each instruction is lifted at two addresses: a constant that
moves with the address is relative to the program counter, one that does not is absolute.

A field is an immediate or displacement of 4 bytes that is not known when the image is assembled. An
instruction with fields is lifted with several patterns in each: what follows the pattern is the
field.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import pypcode
from pypcode import OpCode

from harness.x86.errors import Unsupported

_LANGUAGES = {16: "x86:LE:16:Real Mode", 32: "x86:LE:32:default", 64: "x86:LE:64:default"}
_PREFIXES = frozenset(b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65")
_SEGMENT_OVERRIDES = {0x2E: "CS", 0x36: "SS", 0x3E: "DS", 0x26: "ES", 0x64: "FS", 0x65: "GS"}
"""Sleigh drops the first four in 32-bit code; in 16-bit code it names the segment."""
_SHIFT = {16: 0x1000, 32: 0x1000000, 64: 0x1000000}
MAX_LENGTH = 15  # bytes; SDM 2A 2.3.11, longer instructions raise #GP
FIELD = 4  # bytes of a field
_PATTERNS = (0x2768_4D9E, 0xD83B_F271)
"""What stands in a field by turns, beside its first pattern. The top bit of one of them is set."""
_FAR_JUMP = 0xEA  # opcode of JMP ptr16:16 and ptr16:32; there is none in 64-bit code
_RESERVED = {**dict.fromkeys((0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3), 6), 0xF6: 1, 0xF7: 1}
"""Opcode to that extension in ModR/M for which SDM 2D table A-6 has no instruction (groups 2, 3).
The decoder has SHL and TEST there, as some CPUs do."""
_SALC = 0xD6
"""SDM 2D table A-2 has no instruction there; the decoder has SALC, which some CPUs do."""


@dataclass(frozen=True)
class Varnode:
    """An operand of p-code. `space` is const, unique, register or ram; `size` is in bytes."""

    space: str
    offset: int
    size: int
    name: str = ""  # register name as sleigh writes it
    relative: bool = False  # const and ram: `offset` counts from the image's start, not from 0
    field: int | None = None  # const and ram: image offset of the 4 bytes that hold the value
    signed: bool = False  # a field that is sign-extended where it is wider, not zero-extended


@dataclass(frozen=True)
class Op:
    """One p-code operation."""

    opcode: OpCode
    output: Varnode | None
    inputs: tuple[Varnode, ...]
    userop: str = ""  # name of a CALLOTHER


@dataclass(frozen=True)
class Instruction:
    """One instruction of the image. `offset` and `length` are in bytes, `bits` is the code size.

    `far`: selector and offset that a far jump carries itself. `fields` are image offsets.
    """

    offset: int
    length: int
    bits: int
    mnemonic: str
    operands: str
    ops: tuple[Op, ...]
    prefixes: frozenset[int]
    rex_w: bool
    far: tuple[int, Varnode] | None = None
    fields: tuple[int, ...] = ()

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
def lift(data: bytes, offset: int, bits: int, fields: tuple[int, ...] = ()) -> Instruction:
    """Decode the instruction that `data` begins with, standing at `offset` of the image.

    `fields` are image offsets of 4-byte fields whose content is no constant; those that lie outside
    the instruction do not matter. Raises Unsupported when the bytes are no instruction that the
    decoder knows, or a field is none of its operands.
    """
    for field in fields:
        data = _put(data, field - offset, _first_pattern(fields, field))
    found = _lift(data, offset, bits)
    inside = [field for field in fields if offset - FIELD < field < found.end]
    if not inside:
        return found
    for field in inside:
        if not offset <= field <= found.end - FIELD:
            raise Unsupported(offset, f"a field at {field:#x}, only part of which is in `{found}`")
    others = {
        field: [_lift(_put(data, field - offset, pattern), offset, bits) for pattern in _PATTERNS]
        for field in inside
    }
    text = found.operands
    for field in inside:
        text = text.replace(hex(_first_pattern(fields, field)), f"field_{field:x}")
    return replace(_with_fields(found, others, fields), operands=text)


def _first_pattern(fields: tuple[int, ...], field: int) -> int:
    """No byte of it is the same in two fields of an instruction, or that of another pattern."""
    return 0x51A2_B3C4 + fields.index(field) % 4 * 0x0101_0101


def fixed_parts(instruction: Instruction) -> list[range]:
    """The image offsets of an instruction's bytes, those of its fields left out."""
    cuts = sorted((field, field + FIELD) for field in instruction.fields)
    starts = (instruction.offset, *(stop for _, stop in cuts))
    stops = (*(start for start, _ in cuts), instruction.end)
    return [range(a, b) for a, b in zip(starts, stops, strict=True) if a < b]


def _put(data: bytes, at: int, pattern: int) -> bytes:
    """The data with a pattern at an index, of which a part may lie outside."""
    content = dict(enumerate(pattern.to_bytes(FIELD, "little"), at))
    return bytes(content.get(index, byte) for index, byte in enumerate(data))


def _with_fields(
    found: Instruction, others: dict[int, list[Instruction]], fields: tuple[int, ...]
) -> Instruction:
    """The instruction with the operands that are fields marked.

    `others` are the same with the other patterns in one field. What changes with the pattern must
    be an operand that equals it; anything else that changes is refused.
    """
    if any(_shape(other) != _shape(found) for same in others.values() for other in same):
        raise Unsupported(found.offset, f"a field that decides what `{found}` does")
    marked: set[int] = set()

    def merge(here: Varnode, place: Callable[[Instruction], Varnode]) -> Varnode:
        there = {field: [place(other) for other in same] for field, same in others.items()}
        changed = [field for field, nodes in there.items() if any(n != here for n in nodes)]
        if not changed:
            return here
        field, size = changed[0], here.size
        width = max(found.bits // 8, 4) if here.space == "ram" else size
        patterns = (_first_pattern(fields, field), *_PATTERNS)
        marked.add(field)
        for signed in (False, True):
            values = [_extended(pattern, width, signed) for pattern in patterns]
            expected = [Varnode(here.space, value, size) for value in values]
            if len(changed) == 1 and [here, *there[field]] == expected:
                return Varnode(here.space, 0, size, field=field, signed=signed)
        raise Unsupported(found.offset, f"a field that is no absolute operand of `{found}`")

    ops = []
    for number, op in enumerate(found.ops):
        inputs = tuple(
            merge(node, partial(_input, number, index)) for index, node in enumerate(op.inputs)
        )
        output = op.output and merge(op.output, partial(_output, number))
        ops.append(replace(op, inputs=inputs, output=output))
    far = found.far and (found.far[0], merge(found.far[1], _far_offset))
    if marked != others.keys():
        raise Unsupported(found.offset, f"a field that is no operand of `{found}`")
    return replace(found, ops=tuple(ops), far=far, fields=tuple(sorted(marked)))


def _shape(instruction: Instruction) -> tuple[object, ...]:
    """All of an instruction but its operands."""
    ops = [(op.opcode, op.userop, len(op.inputs), op.output is None) for op in instruction.ops]
    selector = instruction.far and instruction.far[0]
    fixed = (instruction.length, instruction.mnemonic, instruction.prefixes, instruction.rex_w)
    return (*fixed, selector, ops)


def _input(op: int, index: int, instruction: Instruction) -> Varnode:
    return instruction.ops[op].inputs[index]


def _output(op: int, instruction: Instruction) -> Varnode:
    output = instruction.ops[op].output
    assert output is not None
    return output


def _far_offset(instruction: Instruction) -> Varnode:
    assert instruction.far is not None
    return instruction.far[1]


def _extended(pattern: int, size: int, signed: bool) -> int:
    """A pattern, extended to `size` bytes; -1, which no operand is, if it does not fit."""
    if size < FIELD:
        return -1
    return (pattern - (pattern >> 31 << 32) if signed else pattern) % (1 << 8 * size)


def _lift(data: bytes, offset: int, bits: int) -> Instruction:
    here = _translate(data, offset, bits)
    there = _translate(data, offset + _SHIFT[bits], bits)
    text = _text(data, offset, bits)
    # The decoder takes bytes behind the end for zeros.
    if here is None or there is None or text is None or text.length > len(data):
        raise Unsupported(offset, f"bytes {data[:8].hex(' ')} do not decode as {bits}-bit code")
    prefixes, code = _split(data)
    if _is_reserved(code, bits):
        raise Unsupported(offset, f"an encoding of {text.mnem} that the manual does not define")
    if bits != 16 and text.mnem != "LEA":
        for prefix in prefixes & _SEGMENT_OVERRIDES.keys():
            raise Unsupported(offset, f"{text.mnem} with a {_SEGMENT_OVERRIDES[prefix]} override")
    if bits == 64 and 0x67 in prefixes:
        # Sleigh extends the sign of such an address, or does not cut it off at all.
        raise Unsupported(offset, f"{text.mnem} with a 32-bit address in 64-bit code")
    if bits == 16 and 0x67 in prefixes and "[" in text.body and text.mnem != "LEA":
        raise Unsupported(offset, f"{text.mnem} with a 32-bit address in 16-bit code")
    pairs = list(zip(here.ops, there.ops, strict=True))[1:]  # the first is IMARK
    ops = tuple(_op(a, b, bits) for a, b in pairs)
    found = Instruction(
        offset=offset,
        length=text.length,
        bits=bits,
        mnemonic=text.mnem,
        operands=text.body,
        ops=ops,
        prefixes=prefixes,
        rex_w=bits == 64 and 0x48 <= code[0] <= 0x4F,
    )
    if bits != 64 and code[0] == _FAR_JUMP:
        found = replace(found, far=_far(data[: text.length], found.operand_bytes))
    return found


def _is_reserved(code: bytes, bits: int) -> bool:
    """Whether the opcode, behind legacy prefixes, is one that the decoder takes for another one's,
    and that real CPUs may take otherwise, or not at all."""
    if bits == 64 and 0x40 <= code[0] <= 0x4F:  # REX
        code = code[1:]
    return code[0] == _SALC or (len(code) > 1 and code[1] >> 3 & 7 == _RESERVED.get(code[0]))


def _far(data: bytes, width: int) -> tuple[int, Varnode]:
    """The operand of a far jump, which is the instruction's end: offset, then selector."""
    target = int.from_bytes(data[-2 - width : -2], "little")
    return int.from_bytes(data[-2:], "little"), Varnode("const", target, width)


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


def _split(data: bytes) -> tuple[frozenset[int], bytes]:
    """The legacy prefixes and what is behind them."""
    count = 0
    while count < len(data) and data[count] in _PREFIXES:
        count += 1
    return frozenset(data[:count]), data[count:]


def _op(here: pypcode.PcodeOp, there: pypcode.PcodeOp, bits: int) -> Op:
    userop = ""
    inputs = list(zip(here.inputs, there.inputs, strict=True))
    if here.opcode == OpCode.CALLOTHER:
        userop = here.inputs[0].getUserDefinedOpName()
        inputs = inputs[1:]
    if here.opcode in (OpCode.LOAD, OpCode.STORE):
        inputs = inputs[1:]  # the first names the address space: there is only one
    output = None if here.output is None else _varnode(here.output, there.output, bits)
    return Op(here.opcode, output, tuple(_varnode(a, b, bits) for a, b in inputs), userop)


def _varnode(here: pypcode.Varnode, there: pypcode.Varnode, bits: int) -> Varnode:
    space = here.space.name
    if space == "register":
        return Varnode(space, here.offset, here.size, here.getRegisterName())
    relative = here.offset != there.offset
    # An address is as wide as the code's addresses, whatever the size of what lies there.
    width = max(bits, 32) if space == "ram" else 8 * max(here.size, 2)
    if relative and (there.offset - here.offset) % (1 << width) != _SHIFT[bits]:
        raise ValueError(f"constant {here.offset:#x} moves with the address, but not by as much")
    return Varnode(space, here.offset, here.size, relative=relative)
