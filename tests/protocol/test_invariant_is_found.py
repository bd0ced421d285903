# SPDX-License-Identifier: GPL-2.0-only
"""With nothing kept, an invariant is found that proves the hardened pair.

It need not be the kept one: which states z3 shows on the way depends on what it was asked before.
If the pair changes, write a new one: `python -m tests.protocol.test_invariant_is_found`.
"""

from __future__ import annotations

from harness.protocol import invariant_file, verdict
from tests.protocol import pairs
from tests.protocol.test_verdicts import KEPT


def found() -> str:
    decision = verdict.decide(pairs.HARDENED, searches=())
    assert {one.verdict for one in decision.verdicts.values()} == {"PROVED"}
    assert decision.invariant is not None
    return invariant_file.text(decision.invariant)


def test_invariant_is_found():
    assert found()


if __name__ == "__main__":
    KEPT.write_text(found())
