# SPDX-License-Identifier: GPL-2.0-only
"""Two starts of one trampoline side by side: what either of them shows, and the symbols apart."""

from __future__ import annotations

import z3

from harness.x86.given import HAND_OVER
from harness.x86.run import EndKind, PathEnd
from harness.x86.tables import linear_address
from harness.x86.terms import ENTRY, ENTRY_MEMORY, OTHER, OTHER_MEMORY, VECTOR, simplify, variables
from models.linux_entry import BOOT_CS, BOOT_DS
from models.modes import RFLAGS_DF, RFLAGS_IF
from models.paging import Access
from proofs.subject import Subject


def visible(subject: Subject, end: PathEnd) -> dict[str, z3.ExprRef]:
    """What the kernel finds, or the host sees of a refusal."""
    seen: dict[str, z3.ExprRef] = {}
    if subject.contract.status is not None:
        seen["the status word"] = subject.status_word(end)
    if end.kind is EndKind.PARKED:
        return seen
    state, control = end.state, end.state.control
    seen["RIP"] = state.rip
    if subject.boot_params is not None:
        seen["RSI"] = state.registers["rsi"]
    seen |= {"CR0": control.cr0, "CR3": control.cr3, "CR4": control.cr4, "EFER": control.efer}
    seen |= {"IF and DF": state.rflags & (RFLAGS_IF | RFLAGS_DF)}
    seen |= {"GDTR.base": state.gdtr_base, "GDTR.limit": state.gdtr_limit}
    for selector in (BOOT_CS, BOOT_DS):
        entry = simplify(state.gdtr_base + selector)
        seen[f"GDT entry {selector:#x}"] = end.memory.read(entry, 8)
    for name in ("cs", "ds", "es", "ss", "fs", "gs"):
        for field, term in vars(state.segments[name]).items():
            seen[f"{name.upper()} ({field})"] = term
    for access in Access if subject.tables else ():  # the host's tables are the host's affair
        walk = subject.address_map(end).walk(access)
        seen[f"where {access.words}s at an address lead"] = z3.If(
            walk.fault, z3.BitVecVal(-1, 64), walk.physical
        )
    return seen


_SHOWN = {
    **{"RIP": ("rip",), "RSI": ("rsi",), "RSP": ("rsp",), "IF and DF": ("if", "df")},
    **{name.upper(): (name,) for name in ("cr0", "cr3", "cr4", "efer")},
    **{"GDTR.base": ("gdtr_base",), "GDTR.limit": ("gdtr_limit",)},
    **{f"{name.upper()} (selector)": (name,) for name in ("cs", "ds", "es", "ss", "fs", "gs")},
}


def shown_by(goals: dict[str, z3.BoolRef]) -> dict[str, tuple[str, ...]]:
    """What a replay shows of goals that say that something `visible` is the same."""
    names = {goal: goal.removesuffix(" is the same") for goal in goals}
    return {goal: _SHOWN[name] for goal, name in names.items() if name in _SHOWN}


HANDED_OVER = tuple(f"{name}_at_{HAND_OVER}" for name in ("cr0", "cr3", "cr4", "efer"))
"""What a 64-bit entry finds in control registers, and may leave there."""


class Other:
    """Renames all symbols of a term that the two starts do not have in common.

    They start at the same entry or, without `same_entry`, at any two.
    """

    def __init__(self, subject: Subject, same_entry: bool = True) -> None:
        features = vars(subject.run.features).values()
        seen = [a.seen for end in subject.ends for a in end.accesses if a.seen is not None]
        common = (*subject.run.inputs.values(), *features, *seen, linear_address)
        self._common = {VECTOR, *HANDED_OVER}.union(*(variables(term) for term in common))
        if same_entry:
            self._common.add(ENTRY)

    def of(self, term: z3.ExprRef) -> z3.ExprRef:
        """The same term of the second start."""
        pairs = [
            (symbol, OTHER_MEMORY if symbol.eq(ENTRY_MEMORY) else _renamed(symbol))
            for name, symbol in sorted(variables(term).items())
            if name not in self._common
        ]
        return z3.substitute(term, *pairs) if pairs else term


def _renamed(symbol: z3.ExprRef) -> z3.ExprRef:
    return z3.Const(f"{symbol.decl().name()}_{OTHER}", symbol.sort())
