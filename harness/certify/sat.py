# SPDX-License-Identifier: GPL-2.0-only
"""CaDiCaL, a SAT solver, as a program: it gives a proof, or says that the clauses can be met."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.certify.circuit import Clause
from trampoline.errors import UserError

LIMIT = 120  # seconds for one set of clauses; the hardest in use needs a twentieth
SATISFIABLE, UNSATISFIABLE = 10, 20  # exit codes, as in SAT competitions
OPTIONS = ("-q", "-n", "--no-binary", "--plain", "--stabilize=0", "--bumpreason=0")
"""Quiet, without a model, the proof as text; what makes it short: no preprocessing, one mode."""


class Satisfiable(Exception):
    """The clauses do not contradict each other."""


class GaveUp(Exception):
    """No answer within the limit."""


@dataclass(frozen=True)
class Cadical:
    """The program. UserError on its first use if there is none."""

    program: str = "cadical"

    @cached_property
    def name(self) -> str:
        """Name and version."""
        asked = subprocess.run([self._path, "--version"], capture_output=True, text=True)
        return f"CaDiCaL {asked.stdout.strip()}"

    def proof(self, dimacs: str, limit: int = LIMIT) -> list[Clause]:
        """Clauses, the last one empty, each of which follows from what stands before it; deletions
        are left out. Raises Satisfiable or GaveUp."""
        with TemporaryDirectory() as folder:
            formula, proof = Path(folder, "cnf"), Path(folder, "drat")
            formula.write_text(dimacs)
            command = [self._path, *OPTIONS, "-t", str(limit), str(formula), str(proof)]
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode == SATISFIABLE:
                raise Satisfiable
            if ended.returncode != UNSATISFIABLE:
                said = ended.stderr.strip()
                raise GaveUp(f"{self.name} gave up within {limit} s{said and f': {said}'}")
            lines = proof.read_text().splitlines()
        return [tuple(map(int, line.split()[:-1])) for line in lines if not line.startswith("d")]

    @cached_property
    def _path(self) -> str:
        path = shutil.which(self.program)
        if path is None:
            raise UserError(
                f"{self.program} was not found: install Debian's package cadical (make setup does "
                "so), then run again."
            )
        return path
