# SPDX-License-Identifier: GPL-2.0-only
"""Several CPUs started in one image: one after the other, or at once."""

from __future__ import annotations

from collections.abc import Callable

from harness.record import ClaimRecord
from proofs.at_once import judge
from proofs.prove import Court


def test_one_at_a_time(court: Court, record: Callable[[ClaimRecord], None]) -> None:
    """No CPU reads or writes memory, executes an operand that a start writes, loads CR3, or enters
    its kernel while another CPU is in the image: from its first such access to its last, or until
    the kernel that it has entered has left. The word of the lock alone is anyone's at any time. For
    any number of CPUs, each started at any time, any number of times, in any order of their steps,
    with store buffers as on x86. So each CPU finds the image as the one before it and its kernel
    leave it. From each entry a CPU that is alone can come to its kernel, and none parks with the
    lock held."""
    record(judge(court, "one_at_a_time", test_one_at_a_time.__doc__ or ""))
