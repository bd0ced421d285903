# SPDX-License-Identifier: GPL-2.0-only
"""Does a schedule of the explorer break a property by the steps of `models` as well?

It is followed in the clauses' own steps, event by event, with as many CPUs as it names; what it
leaves open (which attempt is the tracked one, for example) is tried. So a refutation rests on two
descriptions of the protocol that share no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import z3

from harness.protocol import compiled, encoding
from harness.protocol.history import Event
from models import protocol, protocol_steps
from models.protocol import Pair, Step
from models.protocol_claims import Claim

Values = tuple[Any, ...]
"""The flat values of what is shared, or of one CPU."""
State = tuple[Values, tuple[Values, ...]]
"""What is shared, and each CPU."""


def breaks(pair: Pair, claim: Claim, schedule: Sequence[Event]) -> bool:
    """Whether a bad state of `claim` is met on the way, and the way leads to its end.

    NoLongestRun: the pair has no clauses.
    """
    follower = _Follower(pair)
    bad = follower.bad(claim)
    cpus = 1 + max((_number(event) for event in schedule), default=0)
    states = {follower.first(cpus): False}
    for event in schedule:
        after: dict[State, bool] = {}
        for state, met in states.items():
            for then in follower.next(state, event):
                after[then] = after.get(then, False) or met or bad(state) or bad(then)
        states = after
    return any(states.values())


def _number(event: Event) -> int:
    """Of the CPU that an event names; 0 if it names none."""
    for text in (event.who, event.what):
        _, found, number = text.partition("CPU ")
        if found:
            return int(number)
    return 0


class _Follower:
    """The steps of one pair, on values."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        shared, cpu = encoding.variables(pair)
        self._shared, self._cpu = encoding.flat_one(shared), encoding.flat_one(cpu)
        self._host = list(protocol_steps.host_steps(pair, shared, cpu))
        self._cpus = list(protocol_steps.cpu_steps(pair, shared, cpu))
        self._compiled: dict[int, Callable[..., Any]] = {}

    def first(self, cpus: int) -> State:
        """At boot."""
        shared, cpu = encoding.variables(self._pair)
        solver = z3.Solver()
        solver.add(protocol.initial(shared, cpu), cpu.id == 0)
        assert solver.check() == z3.sat
        model = solver.model()

        def values(terms: Sequence[z3.ExprRef]) -> Values:
            found = [model.eval(term, model_completion=True) for term in terms]
            return tuple(v.as_long() if z3.is_int_value(v) else z3.is_true(v) for v in found)

        one = values(self._cpu)
        place = next(n for n, term in enumerate(self._cpu) if term.eq(cpu.id))
        alike = tuple((*one[:place], number, *one[place + 1 :]) for number in range(cpus))
        return values(self._shared), alike

    def next(self, state: State, event: Event) -> Iterator[State]:
        """The states that the event may lead to."""
        shared, cpus = state
        if event.who != "host":
            number = _number(event)
            before, behind = cpus[:number], cpus[number + 1 :]
            for step in self._taken(self._cpus, event):
                for then, cpu in self._after(step, event, shared, cpus[number]):
                    yield then, (*before, cpu, *behind)
            return
        # What a step of the host is for each CPU is a step of its own: they must agree.
        ways: list[dict[Values, list[Values]]] = []
        for cpu in cpus:
            ways.append({})
            for step in self._taken(self._host, event):
                for then, after in self._after(step, event, shared, cpu):
                    ways[-1].setdefault(then, []).append(after)
        for then in ways[0]:
            yield from ((then, all_of) for all_of in product(*(way.get(then, ()) for way in ways)))

    def bad(self, claim: Claim) -> Callable[[State], bool]:
        """Whether a state is bad, for some CPU and some other one."""
        shared, cpu = encoding.variables(self._pair)
        _, other = encoding.variables(self._pair, "2")
        terms = [*encoding.flat((shared, cpu)), *encoding.flat_one(other)]
        run = compiled.function([claim.bad(self._pair, shared, cpu, other)], terms)

        @cache
        def is_bad(state: State) -> bool:
            return any(run(*state[0], *a, *b)[0] for a, b in product(state[1], repeat=2))

        return is_bad

    @staticmethod
    def _taken(steps: Sequence[Step], event: Event) -> Iterator[Step]:
        for step in steps:
            if step.location == event.location and (
                event.location is not None or step.what == event.what
            ):
                yield step

    def _after(
        self, step: Step, event: Event, shared: Values, cpu: Values
    ) -> Iterator[tuple[Values, Values]]:
        # What is free is the target, which the event names, and whether it is the tracked attempt.
        choices = [(_number(event), tracked) for tracked in (False, True)] if step.free else [()]
        for chosen in choices:
            possible, *after = self._run(step)(*shared, *cpu, *chosen)
            if possible:
                split = len(self._shared)
                yield tuple(after[:split]), tuple(after[split:])

    def _run(self, step: Step) -> Callable[..., Any]:
        if id(step) not in self._compiled:
            after = [*encoding.flat_one(step.shared), *encoding.flat_one(step.cpu)]
            parameters = [*self._shared, *self._cpu, *step.free]
            self._compiled[id(step)] = compiled.function([step.when, *after], parameters)
        return self._compiled[id(step)]
