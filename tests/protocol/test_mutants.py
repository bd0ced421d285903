# SPDX-License-Identifier: GPL-2.0-only
"""Each fence, check, lock and store of the hardened pair is needed: without it a property breaks.

What survives is listed with the reason, and is shown to keep all six without bound.
"""

from __future__ import annotations

import pytest

from harness.protocol import saturate
from harness.protocol.explore import Explorer
from harness.protocol.verdict import SEARCHES, STATES
from models.protocol import Pair
from tests.protocol import mutants, pairs

HELD = (
    "only the host changes a word that is free, running or given up to something that a CPU acts on"
)
SURVIVE = {
    "host 1, load status: always to 2": "nobody is ever kicked: safe, and useless",
    "host 2, load owner: always to 3": "no CPU is kicked twice: safe, and less useful",
    "host 4, store owner: left out": "no CPU is kicked twice: safe, and less useful",
    "host 5, xchg status: a plain store": HELD,
    "host 14, store owner: left out": "the owner is the target already",
    "host 15, xchg status: a plain store": HELD,
    "CPU 1, fence: left out": "the claim before it is locked: the buffer is empty",
    "CPU 2, store tables: left out": "what the tables hold is not part of the protocol",
    "CPU 6, store tables: left out": "what the tables hold is not part of the protocol",
}
ALL = dict(mutants.of(pairs.HARDENED))


def breaks(pair: Pair) -> set[str]:
    for bounds in SEARCHES:
        found = Explorer(pair.host, pair.cpu, pair.leave, bounds).run(enough=1)
        if found.schedules:
            return set(found.schedules)
    return set()


def test_there_are_mutants_of_each_kind():
    kinds = {name.split(": ")[1].split(" to ")[0] for name in ALL}
    assert kinds == {"left out", "a plain store", "a load and a store", "always"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in SURVIVE])
def test_mutant_breaks_a_property(name):
    assert breaks(ALL[name])


@pytest.mark.parametrize("name", SURVIVE)
def test_survivor_breaks_none(name):
    assert not saturate.Saturation(ALL[name], STATES).run().bad
