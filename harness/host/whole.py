# SPDX-License-Identifier: GPL-2.0-only
"""From segments to the whole image: what one load has put into place, the next ones leave there.

loading.py proves what the load of one segment writes, image.py that all segments are loaded in
order and that no two of them meet. What remains is this step, which speaks of no code: by induction
on the loads that follow, each segment is its buffer, then zeros, in the end; and a byte that lies
in no segment is as it was.
"""

from __future__ import annotations

import z3

from harness.host.objects import ONE, OTHER, apart
from harness.solve.obligation import Obligation
from harness.x86.terms import ENTRY_MEMORY
from models.kexec_load import Segment, byte_after

_BYTE, _OTHER_BYTE, _ADDRESS = z3.BitVecs("byte other_byte address", 64)
_BEFORE = z3.BitVec("before", 8)
# Any address is byte number `byte` from the one segment's first on, `other_byte` from the other's.
_NAMES = (ONE.mem == _ADDRESS - _BYTE, OTHER.mem == _ADDRESS - _OTHER_BYTE)


def whole_obligations() -> list[Obligation]:
    """Two segments that do not meet, loaded one after the other; for every address."""
    both = _loaded(OTHER, _loaded(ONE, _BEFORE))
    buffer = z3.Select(ENTRY_MEMORY, ONE.buf + _BYTE)
    wanted = z3.If(z3.ULT(_BYTE, ONE.bufsz), buffer, z3.BitVecVal(0, 8))
    in_one, in_other = z3.ULT(_BYTE, ONE.memsz), z3.ULT(_OTHER_BYTE, OTHER.memsz)
    goals = {
        "a segment is its buffer, then zeros, also when another is loaded after it": z3.Implies(
            in_one, both == wanted
        ),
        "a byte that lies in neither is as it was": z3.Or(in_one, in_other, both == _BEFORE),
    }
    return [
        Obligation(f"the whole image: {name}", (*_NAMES, apart()), {name: goal})
        for name, goal in goals.items()
    ]


def _loaded(segment: Segment, before: z3.BitVecRef) -> z3.BitVecRef:
    """The byte at the address after the load of a segment, as loading.py proves it."""
    return byte_after(segment, segment.memsz, _ADDRESS, ENTRY_MEMORY, before)
