# SPDX-License-Identifier: GPL-2.0-only
"""A checker that is itself proved correct: the LRAT checker among ACL2's books.

Marijn Heule, Warren Hunt, Matt Kaufmann, Nathan Wetzler: "Efficient, Verified Checking of
Propositional Proofs", ITP 2017. Its main theorem, proved in ACL2 (projects/sat/lrat/list-based/
soundness.lisp): if a formula is one, and a proof is a refutation of it, then nothing satisfies the
formula. ACL2 evaluates just these two predicates, on clauses and steps given as lists.

Debian has it as packages acl2 and acl2-books-source, 450 MB installed: it is used where they are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trampoline.errors import UserError

BOOKS = "acl2-*/books/projects/sat/lrat"
LIMIT = 1800.0  # seconds for all proofs that are checked at once


@dataclass(frozen=True)
class Acl2:
    """ACL2 and the folder of the checker's books."""

    program: str
    books: Path

    @classmethod
    def found(cls, share: Path = Path("/usr/share")) -> Acl2 | None:
        """What is installed; None if it is not, or not all of it."""
        program = shutil.which("acl2")
        books = sorted(share.glob(BOOKS))
        return cls(program, books[-1]) if program is not None and books else None

    @cached_property
    def name(self) -> str:
        """Name and version."""
        version = self.books.parents[3].name.removeprefix("acl2-")
        return f"LRAT checker verified in ACL2 {version}"

    def accepted(
        self, proofs: Mapping[str, tuple[str, str]], limit: float = LIMIT
    ) -> dict[str, bool]:
        """Which proofs are accepted, by name: each is DIMACS and LRAT, as text. What ACL2 says
        nothing of is not."""
        names = list(proofs)
        script = [_START.format(books=self.books)]
        for number, name in enumerate(names):
            with suppress(ValueError):  # no text but numbers is for ACL2 to read
                script.append(_question(number, *proofs[name]))
        try:
            ended = subprocess.run(
                [self.program],
                input="\n".join(script),
                capture_output=True,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{self.name} did not check {len(names)} proofs within {limit:.0f} s; run again "
                "when the machine has less to do."
            ) from None
        said = re.findall(r"^VERDICT ([0-9]+) (T|NIL)$", ended.stdout, re.MULTILINE)
        answers = {names[int(number)]: answer == "T" for number, answer in said}
        return {name: answers.get(name, False) for name in names}


_START = """
(ld "{books}/portcullis.acl2")
(ld "{books}/list-based/lrat-checker.lisp" :ld-error-action :return!)
(comp t)
(in-package "LRAT")
"""
"""The package of its names, its definitions, compiled: else deep recursion ends it."""


def _question(number: int, dimacs: str, lrat: str) -> str:
    """Of the clauses those that a hint names: what these contradict, all do. Raises ValueError."""
    lines = [_numbers(line) for line in dimacs.splitlines() if line[0] not in "cp"]
    steps = [_numbers(line) for line in lrat.splitlines()]
    hints = {int(hint) for step in steps for hint in step[step.index("0", 1) :]}
    clauses = [
        f"({at} {' '.join(lines[at - 1][:-1])})" for at in sorted(hints) if 0 < at <= len(lines)
    ]
    return "\n".join(
        (
            "(let ((formula (make-fast-alist '(",
            *clauses,
            ")))",
            "(proof '(",
            *map(_step, steps),
            ")))",
            f'(cw "~%VERDICT ~x0 ~x1~%" {number}',
            "(and (formula-p formula) (refutation-p proof formula))))",
        )
    )


def _numbers(line: str) -> list[str]:
    return [str(int(word)) for word in line.split()]


def _step(step: Sequence[str]) -> str:
    """((NUMBER LITERAL ...) . ((HINT ...) . RAT hints)): the checker's record of a step."""
    end = step.index("0", 1)
    return f"(({' '.join(step[:end])}) ({' '.join(step[end + 1 : -1])}))"
