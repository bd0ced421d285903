# SPDX-License-Identifier: GPL-2.0-only
"""Where page tables lead that lie in concrete memory: the walk of models/paging.py, evaluated."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import z3

from harness.solve.evaluate import Function, compile_term
from harness.x86.terms import ENTRY_MEMORY, simplify
from models.paging import Access, Paging, identity

_LINEAR, _CR3, _MAXPHYADDR = z3.BitVecs("linear cr3 maxphyaddr", 64)
_WRITE_PROTECT, _NO_EXECUTE, _GIB_PAGES = z3.Bools("write_protect no_execute gib_pages")


class PagingState(NamedTuple):
    """What a walk depends on beside memory: see models/paging.py, `Paging`. Flags are 0 or 1."""

    cr3: int
    five_levels: int
    write_protect: int
    no_execute: int
    gib_pages: int
    maxphyaddr: int


def is_identity(
    linear: int, access: Access, state: PagingState, memory: Callable[[int], int]
) -> bool:
    """The access does not fault and reaches the physical address equal to the linear one.

    `memory` gives the byte at a physical address.
    """
    walk = _walk(access, 5 if state.five_levels else 4)
    return bool(walk({"linear": linear, **state._asdict()}, memory))


@cache
def _walk(access: Access, levels: int) -> Function:
    """The question as a function of the symbols above."""
    paging = Paging(_CR3, levels, _WRITE_PROTECT, _NO_EXECUTE, _GIB_PAGES, _MAXPHYADDR)

    def entry(address: z3.BitVecRef) -> z3.BitVecRef:
        return z3.Concat(*(z3.Select(ENTRY_MEMORY, address + i) for i in reversed(range(8))))

    return compile_term(simplify(identity(_LINEAR, access, paging, entry)))
