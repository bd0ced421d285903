# SPDX-License-Identifier: GPL-2.0-only
"""Claim 3: the identity map that the kernel finds, and that the trampoline itself runs on."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.run import EndKind
from models.paging import ANY_ACCESS
from proofs.prove import Prove
from proofs.subject import OFFSET, SIZE, Subject


def test_kernel_identity_map(subject: Subject, prove: Prove) -> None:
    """At the jump, every byte of [kernel, kernel + size) is mapped to itself, readable, writable
    and executable (also under CR0.WP), for every size up to the contract's bound."""
    size_max = subject.kernel_size_max
    bounds = z3.And(z3.UGE(SIZE, 1), z3.ULE(SIZE, size_max), z3.ULT(OFFSET, SIZE))
    prove(
        "kernel_identity_map",
        *_mapped(subject, "the kernel", subject.kernel, SIZE, bounds),
    )


def test_boot_params_identity_map(subject: Subject, prove: Prove) -> None:
    """At the jump, every byte of boot_params is mapped to itself, readable and writable."""
    start, size = subject.boot_params_range
    bounds = z3.ULT(OFFSET, size)
    prove("boot_params_identity_map", *_mapped(subject, "boot_params", start, size, bounds))


def test_image_identity_map(subject: Subject, prove: Prove) -> None:
    """From paging on, every access and fetch of the trampoline is mapped to itself, and no store
    changes a translation in use; at the jump the whole image, its tables and its GDT still are. If
    the tables are the image's own, no address at all is mapped elsewhere or through an entry with a
    reserved bit."""
    length = len(subject.image.data)
    bounds = z3.ULT(OFFSET, length)
    damage = (EndKind.SHUTDOWN, EndKind.STRAY, EndKind.TABLE_IN_USE)
    prove(
        "image_identity_map",
        *_mapped(subject, "the image", subject.base, length, bounds),
        *(
            subject.about(
                f"{subject.of(end)}: any address", end, subject.address_map(end).nothing_else()
            )
            for end in subject.hand_offs
            if subject.tables
        ),
        *(
            subject.about(
                f"{subject.of(end)}: {end.kind.value}",
                end,
                {f"the path does not end with: {end.detail}": z3.BoolVal(False)},
            )
            for end in subject.ends
            if end.kind in damage and end.paged
        ),
    )


def _mapped(
    subject: Subject, what: str, start: z3.BitVecRef, size: z3.BitVecRef | int, bounds: z3.BoolRef
) -> list[Obligation]:
    """One obligation for each path that ends with the jump."""
    return [
        subject.about(
            f"{subject.of(end)}: {what}",
            end,
            {
                f"{what} is mapped to itself": subject.mapped_to_itself(
                    end, start + OFFSET, ANY_ACCESS
                )
            },
            bounds,
            subject.exists(start, size),
            subject.address_map(end).promise(start + OFFSET),
            chosen={"offset": 0},
            promises=(f"all of {what} lies below 2^MAXPHYADDR",),
            probe=start + OFFSET,
        )
        for end in subject.hand_offs
    ]
