# SPDX-License-Identifier: GPL-2.0-only
"""What memory holds after a kexec load: each segment's buffer, then zeros.

Source: Linux, include/uapi/linux/kexec.h (struct kexec_segment) and kexec_load(2).
All addresses and sizes are 64 bits; memory is seen one byte at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import z3


@dataclass(frozen=True)
class Segment:
    """`bufsz` bytes of the user's memory from `buf` on, for physical [mem, mem + memsz)."""

    buf: z3.BitVecRef
    bufsz: z3.BitVecRef
    mem: z3.BitVecRef
    memsz: z3.BitVecRef


def lies_in(address: z3.BitVecRef, start: z3.BitVecRef, size: z3.BitVecRef) -> z3.BoolRef:
    """Is `address` one of the `size` bytes from `start` on? (They may wrap around.)"""
    return z3.ULT(address - start, size)


def meet(
    start: z3.BitVecRef, size: z3.BitVecRef, other: z3.BitVecRef, other_size: z3.BitVecRef
) -> z3.BoolRef:
    """Have two ranges a byte in common?

    If they have, the first byte of one of them is such a byte.
    """
    some = z3.And(size != 0, other_size != 0)
    return z3.And(some, z3.Or(lies_in(start, other, other_size), lies_in(other, start, size)))


def wraps(segment: Segment) -> z3.BoolRef:
    """Does the segment go beyond the last address? (It may end with it only if it is empty.)"""
    return z3.ULT(segment.mem + segment.memsz, segment.mem)


def sound(segment: Segment) -> z3.BoolRef:
    """Whole pages that do not wrap around, with room for the buffer."""
    aligned = z3.And(segment.mem & 0xFFF == 0, segment.memsz & 0xFFF == 0)
    return z3.And(z3.Not(wraps(segment)), aligned, z3.ULE(segment.bufsz, segment.memsz))


def byte_after(
    segment: Segment,
    done: z3.BitVecRef,
    address: z3.BitVecRef,
    user: z3.ArrayRef,
    before: z3.BitVecRef,
) -> z3.BitVecRef:
    """The byte at physical `address` when the first `done` bytes of the segment are in place.

    `user`: the user's memory, by virtual address. `before`: the byte before the load.
    """
    offset = address - segment.mem
    put = z3.If(
        z3.ULT(offset, segment.bufsz), z3.Select(user, segment.buf + offset), z3.BitVecVal(0, 8)
    )
    return z3.If(z3.ULT(offset, done), put, before)


@dataclass(frozen=True)
class Progress:
    """What is left to do of a segment: `from_left` bytes of the user's, `to_left` to be written."""

    source: z3.BitVecRef
    from_left: z3.BitVecRef
    to: z3.BitVecRef
    to_left: z3.BitVecRef


def consistent(segment: Segment, progress: Progress, done: z3.BitVecRef) -> z3.BoolRef:
    """The loop invariant of a load: `progress` says that `done` bytes are in place."""
    copied = z3.If(z3.ULE(done, segment.bufsz), done, segment.bufsz)
    return z3.And(
        z3.ULE(done, segment.memsz),
        progress.source == segment.buf + copied,
        progress.from_left == segment.bufsz - copied,
        progress.to == segment.mem + done,
        progress.to_left == segment.memsz - done,
    )
