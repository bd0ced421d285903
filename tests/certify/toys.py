# SPDX-License-Identifier: GPL-2.0-only
"""Clauses that contradict each other, and a proof that needs each of its steps."""

from __future__ import annotations

from harness.certify.certify import written
from harness.certify.circuit import Clause
from harness.certify.elaborate import elaborate
from harness.certify.sat import Cadical


def dimacs(clauses: list[Clause]) -> str:
    top = max(abs(literal) for clause in clauses for literal in clause)
    lines = [f"{' '.join(map(str, clause))} 0" for clause in clauses]
    return "\n".join([f"p cnf {top} {len(clauses)}", *lines]) + "\n"


def pigeons(holes: int) -> list[Clause]:
    """One pigeon more than holes, each in a hole, no two in one."""

    def sits(pigeon: int, hole: int) -> int:
        return pigeon * holes + hole + 1

    clauses = [tuple(sits(p, h) for h in range(holes)) for p in range(holes + 1)]
    clauses += [
        (-sits(p, h), -sits(q, h)) for h in range(holes) for q in range(holes + 1) for p in range(q)
    ]
    return clauses


PIGEONS = pigeons(4)
FORMULA = dimacs(PIGEONS)


def proof() -> str:
    return written(elaborate(PIGEONS, Cadical().proof(FORMULA)))
