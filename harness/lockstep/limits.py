# SPDX-License-Identifier: GPL-2.0-only
"""Where QEMU's CPU, which is unicorn's too, is known to differ from the manual, which decides then.

Each limit is one that a comparison with the machine has shown, or that QEMU's own checks lack; none
hides more than what it names. Faults that QEMU does not raise have a table of their own
(harness/replay/cpu.py, NOT_RAISED): such an input is not compared, for the reason there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.lockstep import forbidden
from harness.lockstep.state import After, State
from models.modes import CR0_DEFINED


@dataclass(frozen=True)
class Limit:
    """What the CPU beside does otherwise, and what the manual says."""

    what: str
    manual: str
    shown: Callable[[State, After], bool] | None = None
    """Whether the CPU was seen to do it, from a state; None: bits that are IGNORED."""


ACCESSED = Limit(
    "a far transfer does not set the accessed flag of the code segment, neither in the descriptor "
    "nor in the hidden part of CS",
    "SDM 3A 3.4.5.1: the processor sets the bit whenever it loads the segment's selector into a "
    "segment register, if it is 0",
)
CODE_AFTER_INIT = Limit(
    "CS is an execute/read code segment after INIT, until a descriptor is loaded into it (QEMU "
    "7.2, target/i386/cpu.c, x86_cpu_reset)",
    "SDM 3A 9.1.1, table 9-1: present, R/W, accessed, as the other segment registers",
)
RESERVED = Limit(
    "reserved bits of CR0 are stored",
    "SDM 2, MOV to control registers: reserved bits 31:0 of CR0 that are 0 stay 0",
)
IGNORED = {"cs_type": 1, "cr0": 0xFFFF_FFFF & ~CR0_DEFINED}
"""Of registers after one instruction: bits that are not compared, by ACCESSED and RESERVED."""
_CHECKS = "SDM 2, MOV to control registers; SDM 3A 2.5 and 4.1.2"
FAULTS = {
    "#GP: CR0 ": Limit("of the rules for CR0 not all are checked", _CHECKS, forbidden.cr0),
    "#GP: CR3 ": Limit(
        "with reserved bits for CR3 there is no fault: unicorn stores them, and in QEMU the "
        "instruction never ends (7.2, target/i386/tcg/sysemu/misc_helper.c, helper_write_crN)",
        _CHECKS,
        forbidden.cr3,
    ),
    "#GP: CR4 ": Limit("of the rules for CR4 not all are checked", _CHECKS, forbidden.cr4),
    "#GP: EFER ": Limit(
        "reserved bits of EFER are not checked, nor is a change of LME while paging is on",
        "SDM 2, WRMSR; SDM 3A 2.2.1 and 4.1.2",
        forbidden.efer,
    ),
    "#GP: jump to a non-canonical address": Limit(
        "a near jump to a non-canonical address faults at its target only",
        "SDM 2, JMP and CALL: #GP(0) if the target is not canonical",
        forbidden.near_jump,
    ),
    "#GP: the table's base is not canonical": Limit(
        "LGDT and LIDT take any base",
        "SDM 2, LGDT/LIDT: #GP(0) if the base is not canonical",
        forbidden.table,
    ),
    "#GP: load of CS with ": Limit(
        "in long mode a far transfer takes a code segment with L = 1 and D = 1",
        "SDM 3A 5.2.1: with L = 1, D = 1 is reserved; SDM 2, JMP and RET: #GP(selector)",
        forbidden.long_and_big,
    ),
    "#GP: load of SS with ": Limit(
        "in 64-bit mode SS may be loaded with a null selector of any RPL at CPL 0",
        "SDM 2, MOV, 64-bit mode exceptions: #GP(0) if SS is loaded with a null selector, CPL < 3 "
        "and CPL is not RPL",
        forbidden.null_ss,
    ),
}
"""Faults that the CPU beside may not raise, by how the detail of the path end begins."""


def limit_of(detail: str, state: State, seen: After) -> Limit | None:
    """Why the CPU beside goes on where the machine says that there is this fault; None if what it
    did is not forbidden, so that the machine is wrong."""
    for begin, limit in FAULTS.items():
        if detail.startswith(begin) and limit.shown is not None and limit.shown(state, seen):
            return limit
    return None


ALL = (ACCESSED, CODE_AFTER_INIT, RESERVED, *FAULTS.values())
"""The table of exceptions."""
