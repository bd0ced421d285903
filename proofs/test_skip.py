# SPDX-License-Identifier: GPL-2.0-only
"""Control registers for which the host has left a word in the image."""

from __future__ import annotations

import z3

from harness.solve.obligation import Obligation
from harness.x86.given import word_name
from harness.x86.run import PathEnd
from models.modes import EFER_LMA
from proofs.prove import Prove
from proofs.subject import Subject


def test_skip_is_safe(subject: Subject, prove: Prove) -> None:
    """At the jump, CR4 and EFER (but for LMA, which the CPU sets) hold what the host has put into
    the words for them: on paths that write the register, and on those that leave the write out
    because it would change nothing."""
    prove("skip_is_safe", *(_as_told(subject, end) for end in subject.hand_offs))


def _as_told(subject: Subject, end: PathEnd) -> Obligation:
    control, goals = end.state.control, {}
    for word in subject.contract.word:
        if word.register_ is not None:
            value, kept = getattr(control, word.register_), ~EFER_LMA
            told = subject.run.inputs[word_name(word.symbol)]
            differs = (value ^ z3.ZeroExt(64 - told.size(), told)) & kept
            goals[f"{word.register_.upper()} holds {word.symbol}"] = differs == 0
    written = "WRMSR" if subject.executes(end, "WRMSR") else "no WRMSR"
    shown_by = {name: (name.split()[0].lower(),) for name in goals}
    return subject.about(f"{subject.of(end)}, {written}", end, goals, shown_by=shown_by)
