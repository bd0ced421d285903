# SPDX-License-Identifier: GPL-2.0-only
"""A small checker of LRAT proofs. It reads two texts and shares nothing with what wrote them.

DIMACS: `p cnf VARIABLES CLAUSES`, then the clauses; they are numbered from 1. LRAT (Cruz-Filipe,
Heule, Hunt, Kaufmann, Schneider-Kamp: "Efficient Certified RAT Verification", CADE 2017): a line
`NUMBER LITERALS 0 HINTS 0` adds a clause. With all its literals false, each clause that a hint
names must have just one literal of which nothing is known yet, and that holds from there on, until
one has none.
Hints below zero (RAT) are refused: no proof here needs them.
"""

from __future__ import annotations


class Rejected(Exception):
    """The proof does not show that the clauses contradict each other."""


def check(dimacs: str, lrat: str) -> int:
    """How many steps the proof has. Raises Rejected."""
    clauses = read_dimacs(dimacs)
    lines = lrat.splitlines()
    for steps, line in enumerate(lines, start=1):
        number, clause, hints = _read_step(line)
        if number in clauses:
            raise Rejected(f"step {number}: there is a clause of this number")
        _follows(number, clause, hints, clauses)
        clauses[number] = clause
        if not clause and steps < len(lines):  # whoever reads the proof, reads on
            raise Rejected(f"step {steps} is the empty clause, but not the last step")
        if not clause:
            return steps
    raise Rejected(f"none of {len(lines)} steps is the empty clause")


def read_dimacs(text: str) -> dict[int, tuple[int, ...]]:
    """The clauses by number. Raises Rejected where the text is not as its first line says."""
    head, *lines = (line for line in text.splitlines() if not line.startswith("c"))
    word, kind, variables, count = head.split()
    clauses = {}
    for number, line in enumerate(lines, start=1):
        *literals, end = map(int, line.split())
        if end != 0 or any(not 0 < abs(literal) <= int(variables) for literal in literals):
            raise Rejected(f"clause {number} is not one: {line}")
        clauses[number] = tuple(literals)
    if (word, kind) != ("p", "cnf") or len(clauses) != int(count):
        raise Rejected(f"{len(clauses)} clauses stand below: {head}")
    return clauses


def _read_step(line: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    try:
        number, *rest = map(int, line.split())
        end = rest.index(0)
        clause, hints = rest[:end], rest[end + 1 : -1]
        if rest[-1] != 0 or end == len(rest) - 1 or any(hint <= 0 for hint in hints):
            raise ValueError
    except ValueError:
        raise Rejected(f"no step: {line}") from None
    return number, tuple(clause), tuple(hints)


def _follows(
    number: int,
    clause: tuple[int, ...],
    hints: tuple[int, ...],
    clauses: dict[int, tuple[int, ...]],
) -> None:
    """Unit propagation along the hints reaches a clause without a literal that may hold."""
    false = set(clause)
    for hint in hints:
        if hint not in clauses:
            raise Rejected(f"step {number}: there is no clause {hint}")
        left = {literal for literal in clauses[hint] if literal not in false}
        if not left:
            return
        if len(left) > 1 or -max(left) in false:
            raise Rejected(f"step {number}: clause {hint} is not a unit")
        false.add(-left.pop())
    raise Rejected(f"step {number}: its hints do not lead to a contradiction")
