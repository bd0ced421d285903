# SPDX-License-Identifier: GPL-2.0-only
"""Steps that are looked up are those that the explorer would work out anew."""

from __future__ import annotations

from collections import deque

import pytest

from harness.protocol.explore import Bounds, Explorer
from harness.protocol.explored import Cpu, State
from harness.protocol.history import Event
from tests.protocol import pairs

BOUNDS = Bounds(attempts=2, strays=1, states=20_000)


def worked_out(explorer: Explorer, bounds: Bounds) -> tuple[int, dict[str, tuple[Event, ...]]]:
    """States and shortest schedules, without any memory of steps."""
    first = State(cpus=(Cpu(),) * bounds.cpus)
    ways: dict[State, tuple[Event, ...]] = {first: ()}
    queue = deque([first])
    schedules: dict[str, tuple[Event, ...]] = {}
    while queue:
        state = queue.popleft()
        for event, after, broken in explorer.next(state):
            for name in broken:
                schedules.setdefault(name, (*ways[state], event))
            if after not in ways:
                ways[after] = (*ways[state], event)
                queue.append(after)
                if len(ways) > bounds.states:
                    return len(ways), schedules
    return len(ways), schedules


@pytest.mark.parametrize(
    "pair",
    [pairs.RFC, pairs.HARDENED, pairs.ANYONE_AFTER_REFUSAL, pairs.LEAVES_WHEN_GIVEN_UP],
    ids=["rfc", "hardened", "anyone after a refusal", "leaves when given up"],
)
def test_same_states_and_schedules(pair):
    explorer = Explorer(pair.host, pair.cpu, pair.leave, BOUNDS)
    found = explorer.run()
    assert (found.states, found.schedules) == worked_out(explorer, BOUNDS)
