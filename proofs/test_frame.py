# SPDX-License-Identifier: GPL-2.0-only
"""Claim 5: the frame, that is what the trampoline reads, writes and leaves alone."""

from __future__ import annotations

import z3

from harness.solve.obligation import IMAGE, NOTHING, OUTSIDE, Obligation
from harness.x86.promise import Range, lies_in, misses
from harness.x86.run import Access, EndKind, PathEnd
from proofs.prove import Prove
from proofs.subject import SIZE, Subject


def test_footprint(subject: Subject, prove: Prove) -> None:
    """Every read lies in the image, and every write in the parts of it that the contract names as
    scratch, or both in what the contract gives it outside: areas, and the stack found at entry. So
    the image can be started again once its mailbox is filled in anew."""
    found: dict[int, tuple[int, Access, list[PathEnd]]] = {}
    for end in subject.decided:
        for number, access in enumerate(end.accesses, start=1):
            found.setdefault(id(access), (number, access, []))[2].append(end)
    prove("footprint", *(_stays(subject, *one) for one in found.values()))


def _stays(subject: Subject, number: int, access: Access, ends: list[PathEnd]) -> Obligation:
    """Of an access that some paths have in common, whatever decides between these later."""
    name = _name(access, number)
    parts = subject.scratch if access.writes else [range(len(subject.image.data))]
    return subject.about(
        f"{', '.join(subject.of(end) for end in ends)}: access {number}",
        None,
        {name: subject.lies_where_it_may(access, parts)},
        *ends[0].path[: access.conditions],
        shown_by={name: (OUTSIDE if access.writes else NOTHING,)},
    )


def test_untouched(subject: Subject, prove: Prove) -> None:
    """A path that hands over has written no byte of the kernel and none of boot_params, wherever
    the host put them, for every kernel size up to the contract's bound."""
    obligations = []
    for end in subject.hand_offs:
        if subject.contract.kernel.size_max is not None:
            some_size = z3.And(z3.UGE(SIZE, 1), z3.ULE(SIZE, subject.kernel_size_max))
            kernel = (subject.kernel, SIZE)
            obligations.append(_untouched(subject, end, "the kernel", *kernel, some_size))
        if subject.boot_params is not None:
            boot_params = subject.boot_params_range
            true = z3.BoolVal(True)
            obligations.append(_untouched(subject, end, "boot_params", *boot_params, true))
    prove("untouched", *obligations)


def _untouched(
    subject: Subject,
    end: PathEnd,
    what: str,
    start: z3.BitVecRef,
    size: z3.BitVecRef,
    given: z3.BoolRef,
) -> Obligation:
    goals, shown_by, stays = {}, {}, []
    missed = _misses(subject, (start, size))
    for number, access in enumerate(end.accesses, start=1):
        if access.writes:
            name = f"access {number}, a {access.kind} at {access.instruction:#x}, spares {what}"
            stays.append(subject.lies_where_it_may(access, [range(len(subject.image.data))]))
            # The usual reason, which z3 finds much sooner when it is told.
            goals[name] = z3.Or(z3.And(missed, stays[-1]), subject.spares(access, (start, size)))
            in_image = z3.is_true(subject.lies_in(access, [range(len(subject.image.data))]))
            shown_by[name] = (IMAGE,) if in_image else (OUTSIDE,)
    promises: tuple[str, ...] = (f"all of {what} lies below 2^MAXPHYADDR",)
    if subject.contract.kernel.apart:
        promises = (*promises, f"no byte of {what} lies in the image")
        given = z3.And(given, subject.beside_the_image(start, size))
    return subject.about(
        f"{subject.of(end)}: {what}",
        end,
        goals,
        given,
        subject.exists(start, size),
        promises=promises,
        shown_by=shown_by,
        because=(missed, *stays),
    )


def test_stack(subject: Subject, prove: Prove) -> None:
    """Every push, pop, call and return stays in the contract's [stack], and RSP points into it at
    the jump if it is part of the image; without a [stack], none of them occurs, and one who hands
    the CPU over in 64-bit mode gets it back with the same RSP."""
    prove("stack", *(_stack(subject, end) for end in subject.decided))


def _stack(subject: Subject, end: PathEnd) -> Obligation:
    stack = subject.contract.stack
    parts = []
    if stack is not None and stack.start is not None and stack.end is not None:
        parts = [subject.part(stack.start, stack.end)]
    goals, shown_by = {}, {}
    for number, access in enumerate(end.accesses, start=1):
        if access.stack:
            name = _name(access, number)
            goals[name] = subject.lies_in(access, parts)
            if subject.stack is not None:
                goals[name] = lies_in(access.linear, access.size, subject.stack)
            shown_by[name] = (OUTSIDE if access.writes else NOTHING,)
    if parts and end.kind is EndKind.HAND_OFF:
        depth = subject.base + parts[0].stop - end.state.registers["rsp"]
        goals["RSP points into the stack"] = z3.ULE(depth, len(parts[0]))
        shown_by["RSP points into the stack"] = ("rsp",)
    borrowed = stack is None and subject.contract.entry[end.entry].mode != "real"
    if borrowed and end.kind is EndKind.HAND_OFF:
        given = end.history[0].values["rsp"]
        goals["RSP is what it was at the entry"] = end.state.registers["rsp"] == given
        shown_by["RSP is what it was at the entry"] = ("rsp",)
    unused = {"the stack is not used": z3.BoolVal(True)}
    return subject.about(f"{subject.of(end)}: its stack", end, goals or unused, shown_by=shown_by)


def test_code(subject: Subject, prove: Prove) -> None:
    """No byte that a path may have written is executed, but operands and copies that the contract
    names."""
    changed = [end for end in subject.decided if end.kind is EndKind.OVERWRITTEN]
    prove("code", *subject.never(changed, "no path executes what it wrote"))


def _name(access: Access, number: int) -> str:
    return f"access {number}, a {access.kind} at {access.instruction:#x}, stays where it may"


def _misses(subject: Subject, part: Range) -> z3.BoolRef:
    """No byte of the range lies in the image, or in what the code may use outside of it."""
    image = (subject.base, z3.BitVecVal(len(subject.image.data), 64))
    return z3.And(*(misses(*part, place) for place in (image, *subject.outside)))
