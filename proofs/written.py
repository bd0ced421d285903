# SPDX-License-Identifier: GPL-2.0-only
"""The bytes that the paths which hand over write, as a few sets that can be named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import z3

from harness.replay.places import symbol_before
from harness.x86.memory import stretches
from harness.x86.run import Access, PathEnd
from harness.x86.terms import const, number
from proofs.subject import Subject


@dataclass(frozen=True)
class Stretch:
    """`size` bytes from a physical address (64 bits) on."""

    words: str
    first: z3.BitVecRef
    size: int


@dataclass(frozen=True)
class Written:
    """Bytes that are written together: by the same paths. `title` names them if they are many."""

    title: str
    stretches: tuple[Stretch, ...]

    @property
    def name(self) -> str:
        """The title, or the bytes themselves where they are one stretch."""
        return self.title if len(self.stretches) > 1 else self.words

    @property
    def note(self) -> str:
        """What the name stands for; "" if it says so."""
        return f"{self.title[0].upper()}{self.title[1:]}: {self.words}" * (self.name != self.words)

    @property
    def words(self) -> str:
        """The bytes for people."""
        *others, last = (stretch.words for stretch in self.stretches)
        return " and ".join([", ".join(others), last] if others else [last])

    def meets(self, start: z3.BitVecRef, size: z3.BitVecRef | int) -> z3.BoolRef:
        """One of the bytes lies in [start, start + size), 64 bits each, which does not wrap."""
        return z3.Or(
            *(
                z3.Or(z3.ULT(part.first - start, size), z3.ULT(start - part.first, part.size))
                for part in self.stretches
            )
        )


def written(subject: Subject) -> list[Written]:
    """What every path that hands over writes, what only some of them do, and what moves.

    All writes lie in these sets; where a loop leaves gaps, these count as written. A store whose
    address depends on the mailbox has one for every input, also where the CPU does not get there.
    """
    fixed = {subject.of(end): _fixed(subject, end) for end in subject.hand_offs}
    if not fixed:
        return []
    always = frozenset.intersection(*fixed.values())
    groups = {always: "what is always written"}
    for path, found in fixed.items():
        groups.setdefault(found - always, f"what {path} writes besides")
    result = [
        Written(title, tuple(_stretches(subject, group)))
        for group, title in groups.items()
        if group
    ]
    moving: dict[int, Stretch] = {}
    for end in subject.hand_offs:
        for access in subject.writes(end):
            if _place(subject, access) is None:
                where = symbol_before(subject.image, access.instruction)
                words = f"the {_span(access)} bytes where the store at {where} would write"
                moving[access.linear.get_id()] = Stretch(words, access.linear, _span(access))
    return [*result, *(Written(stretch.words, (stretch,)) for stretch in moving.values())]


Place = tuple[bool, int]
"""A byte at an offset from the base (True), or at a physical address (False)."""


def _fixed(subject: Subject, end: PathEnd) -> frozenset[Place]:
    """The bytes that a path writes at places that do not depend on the mailbox."""
    found: set[Place] = set()
    for access in subject.writes(end):
        if (place := _place(subject, access)) is not None:
            follows, start = place
            found |= {(follows, start + i) for i in range(_span(access))}
    return frozenset(found)


def _place(subject: Subject, access: Access) -> Place | None:
    if (address := number(access.linear)) is not None:
        return False, address
    offset = subject.hand_offs[0].memory.base.offset_of(access.linear)
    return None if offset is None else (True, offset)


def _span(access: Access) -> int:
    return access.stride * (access.count - 1) + access.size


def _stretches(subject: Subject, places: Iterable[Place]) -> Iterator[Stretch]:
    for follows, start, words in ((False, const(0), ""), (True, subject.base, "base + ")):
        for part in stretches(byte for moves, byte in places if moves is follows):
            last = f"..{part[-1]:#x}" if len(part) > 1 else ""
            yield Stretch(f"{words}{part[0]:#x}{last}", start + part[0], len(part))
