# SPDX-License-Identifier: GPL-2.0-only
"""Claim 10, and the kick: what the host's compiled code does by itself."""

from __future__ import annotations

from collections.abc import Callable

from harness.host.claims import kick_obligations, load_obligations
from harness.record import ClaimRecord
from proofs.pair import PairCourt


def test_load(pair: PairCourt, record: Callable[[ClaimRecord], None]) -> None:
    """After a load that returns 0, [mem, mem + memsz) of each segment is its buffer, then zeros;
    no other byte was written; before the first byte it was checked that the image is one to start,
    that its entry lies in a segment, and that the segments lie in memory reserved for other kernels
    and meet neither the host, the trampoline area, nor each other. Errors are those that failed.
    All this is done under the host's lock. The area is reserved exactly, and its status word says
    that it is free. For any number of segments, of any place and size."""
    sentence = test_load.__doc__ or ""
    record(pair.host_code("load", sentence, load_obligations))


def test_kick(pair: PairCourt, record: Callable[[ClaimRecord], None]) -> None:
    """A kick returns the error of the first check that fails; it starts only an image of the right
    type, on a CPU that is not online and runs no other kernel; the whole mailbox and a status word
    that tells of the target are visible before INIT; INIT and two SIPIs are sent; where that fails
    the warm-reset vector, which was set before INIT, is undone, and the lock is free after a failed
    kick. Nothing that the lock guards is read or written without it, and only who has it gives it
    back. Only the host's notes on the target, status word and mailbox are written. When the wait
    ends, the vector is undone, the lock is free, and the CPU is marked as taken if and only if its
    kernel was found to run; a release takes nothing but that mark away."""
    sentence = test_kick.__doc__ or ""
    record(pair.host_code("kick", sentence, kick_obligations))
