# SPDX-License-Identifier: GPL-2.0-only
"""The way that a path takes through the source, for people."""

from __future__ import annotations

from bisect import bisect_right

from harness.record import StepRecord
from harness.x86.lift import MAX_LENGTH, lift
from harness.x86.run import PathEnd
from models.modes import Mode
from trampoline.image import Image


def story(image: Image, end: PathEnd) -> tuple[StepRecord, ...]:
    """Each executed instruction in order. A summarised loop is one step with its iterations."""
    loops = [access for access in end.accesses if access.count > 1]
    steps: list[StepRecord] = []
    previous = -1
    for offset, mode_name in end.trace:
        instruction = lift(image.data[offset : offset + MAX_LENGTH], offset, Mode[mode_name].bits)
        step = StepRecord(
            offset=f"{offset:#x}",
            mode=Mode[mode_name].value,
            symbol=symbol_before(image, offset),
            source=source_of(image, offset),
            instruction=str(instruction),
        )
        if loops and loops[0].instruction == offset:
            repeats = ".REP" in instruction.mnemonic
            if repeats:
                step = step.model_copy(update={"count": loops.pop(0).count + 1})
            elif previous >= offset:
                many = {"count": loops.pop(0).count, "instruction": "the loop from here, at once"}
                steps.append(step.model_copy(update=many))
        steps.append(step)
        previous = offset
    return tuple(steps)


def symbol_before(image: Image, offset: int) -> str:
    """The symbol at an image offset, or the nearest one before it and the distance."""
    name, start = max(
        ((n, o) for n, o in image.symbols.items() if o <= offset),
        key=lambda item: item[1],
        default=("", 0),
    )
    return name if start == offset else f"{name}+{offset - start:#x}"


def source_of(image: Image, offset: int) -> str:
    """Source file and line of an image offset, empty without a line table."""
    index = bisect_right([start for start, _, _ in image.lines], offset) - 1
    if index < 0:
        return ""
    _, file, line = image.lines[index]
    return f"{file}:{line}"


def not_reached(image: Image, covered: tuple[int, ...]) -> tuple[str, ...]:
    """Instructions of the image's line table that no path executes."""
    return tuple(
        f"{symbol_before(image, offset)} ({source_of(image, offset)})"
        for offset, _, _ in image.lines
        if offset not in covered
    )
