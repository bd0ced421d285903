# SPDX-License-Identifier: GPL-2.0-only
"""Search and model, which share no step, take the same steps from every state of two CPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from harness.at_once import verdict
from harness.at_once.explore import Cpu, Explorer, State
from harness.protocol import compiled
from harness.protocol.history import Event
from models import at_once, memory_order
from models.at_once import OneImage
from tests.at_once.conftest import Read
from tests.at_once.processes import (
    FENCE,
    GIVE_BACK,
    JUMP,
    LOAD,
    PARK,
    STORE,
    UNLOCK,
    compare_exchange,
    image,
    look_and_store,
    spin,
)

SLOTS = 6
IMAGES = {
    "a spin lock": image(spin(0), (STORE, LOAD, JUMP)),
    "no lock": image((STORE, FENCE, LOAD, JUMP), lock=None),
    "a compare-exchange, a plain store": image(compare_exchange(0), (STORE, STORE, UNLOCK, PARK)),
    "a look and a store": image((FENCE,), look_and_store(1), (STORE, FENCE, GIVE_BACK, JUMP)),
}
STATES = 1500


def reached(explorer: Explorer) -> Iterator[State]:
    """States in which the property is not broken yet."""
    seen = {explorer.first(): None}
    todo = list(seen)
    for state in todo:  # grows while it is read
        yield state
        for _, after, broken in explorer.next(state):
            if not broken and after not in seen:
                seen[after] = None
                todo.append(after)


class Model:
    """The steps of `models.at_once`, on values."""

    def __init__(self, one: OneImage) -> None:
        shared, cpu = verdict.state(SLOTS)
        _, other = verdict.state(SLOTS, "2")
        terms, more = verdict.flat(shared, cpu), verdict.flat(shared, other)[2:]
        self._steps = [
            (step, compiled.function([step.when, *verdict.flat(step.shared, step.cpu)], terms))
            for step in at_once.steps(one, shared, cpu)
        ]
        bad = at_once.together(one, cpu, other)
        self._bad = compiled.function([bad], [*terms, *more])

    def next(self, state: State) -> Iterator[tuple[Event, tuple[Any, ...]]]:
        for number in range(len(state.cpus)):
            for step, run in self._steps:
                possible, *after = run(*values(state, number))
                if possible:
                    event = Event(f"CPU {number}", step.location, step.what)
                    others = [cpu for n, cpu in enumerate(state.cpus) if n != number]
                    yield event, (*after, *others)

    def bad(self, state: State, number: int) -> bool:
        return bool(self._bad(*values(state, number), *values(state, 1 - number)[2:])[0])


def values(state: State, number: int) -> tuple[int, ...]:
    """Of memory and a CPU, as the model has them."""
    cpu: Cpu = state.cpus[number]
    pending = [(at_once.WORDS[word], value) for word, value in cpu.buffer]
    pending += [(memory_order.EMPTY, 0)] * (SLOTS - len(pending))
    return (state.lock, state.holder, number, cpu.at, *(part for slot in pending for part in slot))


def agree(one: OneImage) -> int:
    """How many states were compared."""
    explorer, model, count = Explorer(one), Model(one), 0
    for state in islice(reached(explorer), STATES):
        if any(len(cpu.buffer) == SLOTS for cpu in state.cpus):
            continue  # the model has no room there
        mine = [
            (event, (*values(after, n := int(event.who[-1])), after.cpus[1 - n]), broken)
            for event, after, broken in explorer.next(state)
        ]
        assert {(event, after) for event, after, _ in mine} == set(model.next(state))
        for event, _, broken in mine:
            if event.location is not None:
                assert broken == model.bad(state, int(event.who[-1])), (state, event)
        count += 1
    return count


@pytest.mark.parametrize("name", IMAGES)
def test_they_agree_on_small_processes(name: str) -> None:
    assert agree(IMAGES[name]) > 20


@pytest.mark.parametrize("name", ["legoos", "legoos_posted"])
def test_they_agree_on_the_assembled_ones(read: Callable[[str], Read], name: str) -> None:
    assert agree(read(name).started.image) > 50
