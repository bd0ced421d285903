# SPDX-License-Identifier: GPL-2.0-only
"""Which hypotheses does a proof use? An unsatisfiable core, found by bitwuzla.

It need not be the smallest one: a hypothesis outside of it is not needed, one inside may be.
"""

from __future__ import annotations

from collections.abc import Sequence

import bitwuzla
import z3

from harness.solve.second import LIMIT, read
from harness.solve.smt2 import smt2

_NAME = "hypothesis_"


def core(hypotheses: Sequence[z3.BoolRef], goal: z3.BoolRef) -> frozenset[int] | None:
    """Indices of hypotheses that imply the goal together; None if it does not follow, or the solver
    gives up. Raises NotTheSame, see `smt2`."""
    switches = [z3.Bool(f"{_NAME}{number}") for number in range(len(hypotheses))]
    pairs = zip(switches, hypotheses, strict=True)
    script = smt2([*(z3.Or(z3.Not(switch), held) for switch, held in pairs), z3.Not(goal)])
    parser = read(script, LIMIT, bitwuzla.Option.PRODUCE_UNSAT_ASSUMPTIONS)
    # One that is "true" is not in the script.
    switched = [term for term in parser.get_declared_funs() if term.symbol().startswith(_NAME)]
    solver = parser.bitwuzla()
    if solver.check_sat(*switched) != bitwuzla.Result.UNSAT:
        return None
    used = solver.get_unsat_assumptions()
    return frozenset(int(term.symbol().removeprefix(_NAME)) for term in used)
