# SPDX-License-Identifier: GPL-2.0-only
"""What the paths of a run leave out: instructions that none executes, branches that go one way.

A way that the run does not take is proved to be impossible: the machine leaves it out for no other
reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from harness.replay.places import source_of, symbol_before
from harness.x86.lift import MAX_LENGTH, Instruction, lift
from harness.x86.run import PathEnd, Run
from models.modes import Mode
from trampoline.image import Image


def not_reached(image: Image, covered: tuple[int, ...]) -> tuple[str, ...]:
    """Instructions of the image's line table that no path executes."""
    return tuple(
        f"{symbol_before(image, offset)} ({source_of(image, offset)})"
        for offset, _, _ in image.lines
        if offset not in covered
    )


def one_way(image: Image, run: Run) -> tuple[str, ...]:
    """Conditional branches that every path takes, or none, in the image's order."""
    ways: dict[int, tuple[Instruction, set[bool]]] = {}
    for end in run.ends:
        for (offset, mode), following in _steps(end):
            data = image.data[offset : offset + MAX_LENGTH]
            instruction = lift(data, offset, Mode[mode].bits)
            if _is_conditional(instruction):
                taken = following != instruction.end
                ways.setdefault(offset, (instruction, set()))[1].add(taken)
    return tuple(
        f"{symbol_before(image, offset)} ({source_of(image, offset)}): `{instruction}` is "
        f"{'always' if True in taken else 'never'} taken"
        for offset, (instruction, taken) in sorted(ways.items())
        if len(taken) == 1
    )


def _steps(end: PathEnd) -> Iterator[tuple[tuple[int, str], int]]:
    """Each executed instruction with the offset of the one that comes next on the path."""
    yield from ((here, following[0]) for here, following in pairwise(end.trace))
    if end.trace and end.instruction != end.trace[-1][0]:  # the path ends before the next one
        yield end.trace[-1], end.instruction


def _is_conditional(instruction: Instruction) -> bool:
    name = instruction.mnemonic
    return name.startswith("LOOP") or (name.startswith("J") and name not in ("JMP", "JMPF"))
