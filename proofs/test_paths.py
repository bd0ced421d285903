# SPDX-License-Identifier: GPL-2.0-only
"""Claim 1: the paths of the run are all there are."""

from __future__ import annotations

from itertools import combinations

import z3

from proofs.prove import Prove
from proofs.subject import Subject


def test_paths(subject: Subject, prove: Prove) -> None:
    """Every input takes exactly one of the paths; no path was lost or left undecided."""
    conditions = {subject.of(end): end.condition for end in subject.ends}
    exclusive = {
        f"{one} and {other} exclude each other": z3.Not(z3.And(conditions[one], conditions[other]))
        for one, other in combinations(conditions, 2)
    }
    covered = {"some path is taken": z3.Or(*conditions.values())}
    prove(
        "paths",
        subject.about("every input takes a path", None, covered),
        subject.about("no input takes two paths", None, exclusive),
    )
