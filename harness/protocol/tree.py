# SPDX-License-Identifier: GPL-2.0-only
"""From the paths of a run to the locations of a process.

Each path is a sequence of events in program order. Paths that begin alike share their locations;
where they part, the edges say what was read, if that decides, and elsewhere anything may decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.x86.lift import MAX_LENGTH, Instruction, lift
from models.modes import Mode
from models.process import Edge, Kind, Location, Value
from trampoline.image import Image

SERIALIZING = frozenset(
    {"CPUID", "WBINVD", "INVD", "LGDT", "LIDT", "LLDT", "LTR", "WRMSR", "IRET", "MFENCE"}
)
"""These wait until the store buffer is empty (SDM 3A 8.3 "Serializing Instructions"; 8.2.5 for
MFENCE). So does a MOV to a control register."""

When = tuple[str, tuple[Value, ...]] | None
"""What an action must have read for the process to go on so: see `models.process.Edge`."""


@dataclass(frozen=True)
class Event:
    """One action of a path; equal events of two paths are the same location."""

    instruction: int  # byte offset in the image
    kind: Kind
    word: str = ""
    value: Value | None = None
    expected: Value | None = None
    paged: bool = False
    fault: bool = False


@dataclass
class Node:
    """A location under construction: what follows, by what was read."""

    event: Event
    after: Ways = field(default_factory=list)


Ways = list[tuple[When, Node]]


def follow(ways: Ways, when: When, event: Event) -> Node:
    """The location for `event` among those that may come next; it is made if there is none."""
    node = next((n for w, n in ways if n.event == event and w == when), None)
    if node is None:
        node = Node(event)
        ways.append((when, node))
    return node


def every(roots: Sequence[Node]) -> list[Node]:
    """All locations that can be reached, `roots` first, those near to them before others."""
    found = {id(node): node for node in roots}
    todo = list(found.values())
    for node in todo:  # grows while it is read
        for _, child in node.after:
            if id(child) not in found:
                found[id(child)] = child
                todo.append(child)
    return todo


def numbered(roots: Sequence[Node], image: Image) -> tuple[Location, ...]:
    """The locations; `roots` are the first ones."""
    nodes = every(roots)
    numbers = {id(node): number for number, node in enumerate(nodes)}
    return tuple(
        Location(
            kind=node.event.kind,
            edges=tuple(Edge(numbers[id(child)], when) for when, child in node.after),
            word=node.event.word,
            value=node.event.value,
            expected=node.event.expected,
            paged=node.event.paged,
            place=place(image, node.event.instruction),
            fault=node.event.fault,
            addresses=(node.event.instruction,),
        )
        for node in nodes
    )


def repeats(last: Event, event: Event) -> bool:
    """One access of a kind to tables or image, or one fence, stands for all that follow."""
    same = (event.kind, event.word, event.paged) == (last.kind, last.word, last.paged)
    return same and (event.word in ("tables", "image") or event.kind is Kind.FENCE)


def place(image: Image, offset: int) -> str:
    """The symbol at or before an instruction, and how far behind it."""
    symbol, at = max(
        ((name, at) for name, at in image.symbols.items() if at <= offset), key=lambda pair: pair[1]
    )
    return f"{symbol}+{offset - at:#x}" if offset != at else symbol


def instruction_at(image: Image, offset: int, mode: str) -> Instruction:
    """The instruction at an image offset, in the mode of this name."""
    return lift(image.data[offset : offset + MAX_LENGTH], offset, Mode[mode].bits)


def loads_register(instruction: Instruction, names: tuple[str, ...]) -> bool:
    """It is a MOV to one of these control registers."""
    outputs = [op.output.name for op in instruction.ops if op.output is not None]
    return instruction.mnemonic == "MOV" and any(name in names for name in outputs)


def drains(instruction: Instruction) -> bool:
    """It waits until the store buffer is empty."""
    serializing = instruction.mnemonic in SERIALIZING
    return serializing or loads_register(instruction, ("CR0", "CR3", "CR4"))
