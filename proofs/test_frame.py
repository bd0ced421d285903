# SPDX-License-Identifier: GPL-2.0-only
"""Claim 5: the frame, that is what the trampoline reads, writes and leaves alone."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.run import Access, EndKind, PathEnd
from harness.x86.terms import index_symbol
from proofs.prove import Prove
from proofs.subject import SIZE, Subject


def test_footprint(subject: Subject, prove: Prove) -> None:
    """Every read lies in the image, and every write in the parts of it that the contract names as
    scratch: so the image can be started again once its mailbox is filled in anew."""
    image = [range(len(subject.image.data))]
    prove(
        "footprint",
        *(
            subject.about(
                f"{subject.of(end)}: its accesses",
                end,
                {
                    _name(access, number): subject.lies_in(
                        access, image if access in reads else subject.scratch
                    )
                    for number, access in enumerate(end.accesses, start=1)
                },
            )
            for end in subject.decided
            for reads in [[a for a in end.accesses if a not in subject.writes(end)]]
        ),
    )


def test_untouched(subject: Subject, prove: Prove) -> None:
    """A path that hands over has written no byte of the kernel and none of boot_params, wherever
    the host put them, for every kernel size up to the contract's bound."""
    size_max = subject.contract.kernel.size_max
    some_size = z3.And(z3.UGE(SIZE, 1), z3.ULE(SIZE, size_max))
    prove(
        "untouched",
        *(
            subject.about(
                f"{subject.of(end)}: {what}",
                end,
                {
                    f"write {number} spares {what}": _apart(subject, access, start, size)
                    for number, access in enumerate(subject.writes(end), start=1)
                },
                given,
                subject.exists(start, size),
                promises=(f"all of {what} lies below 2^MAXPHYADDR",),
            )
            for end in subject.hand_offs
            for what, start, size, given in (
                ("the kernel", subject.kernel, SIZE, some_size),
                (
                    "boot_params",
                    subject.boot_params,
                    z3.BitVecVal(subject.contract.boot_params.size, 64),
                    z3.BoolVal(True),
                ),
            )
        ),
    )


def test_stack(subject: Subject, prove: Prove) -> None:
    """Every push, pop, call and return stays in the contract's [stack], and RSP points into it at
    the jump; without a [stack], none of them occurs."""
    prove("stack", *(_stack(subject, end) for end in subject.decided))


def _stack(subject: Subject, end: PathEnd) -> Obligation:
    stack = subject.contract.stack
    parts = [subject.part(stack.start, stack.end)] if stack is not None else []
    goals = {
        _name(access, number): subject.lies_in(access, parts)
        for number, access in enumerate(end.accesses, start=1)
        if access.stack and access.kind in ("load", "store")
    }
    if parts and end.kind is EndKind.HAND_OFF:
        depth = subject.base + parts[0].stop - end.state.registers["rsp"]
        goals["RSP points into the stack"] = z3.ULE(depth, len(parts[0]))
    return subject.about(
        f"{subject.of(end)}: its stack", end, goals or {"the stack is not used": z3.BoolVal(True)}
    )


def test_code(subject: Subject, prove: Prove) -> None:
    """No byte that a path may have written is executed."""
    changed = [end for end in subject.decided if end.kind is EndKind.OVERWRITTEN]
    prove("code", subject.never("every path", changed, "no path executes what it wrote"))


def _name(access: Access, number: int) -> str:
    return f"access {number}, a {access.kind} at {access.instruction:#x}, stays where it may"


def _apart(subject: Subject, access: Access, start: z3.BitVecRef, size: z3.BitVecRef) -> z3.BoolRef:
    """No byte of the access lies in [start, start + size)."""
    first = access.linear + index_symbol * access.stride
    meets = z3.Or(z3.ULT(first - start, size), z3.ULT(start - first, access.size))
    apart = z3.Implies(z3.ULT(index_symbol, access.count), z3.Not(meets))
    # The usual reason, which z3 finds much sooner when it is told: the image lies between.
    length = len(subject.image.data)
    missed = z3.And(z3.UGE(start - subject.base, length), z3.UGE(subject.base - start, size))
    inside = subject.lies_in(access, [range(length)])
    return z3.Or(z3.And(missed, inside), apart)
