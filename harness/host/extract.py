# SPDX-License-Identifier: GPL-2.0-only
"""From a host's object to its process in the hand-off protocol (models/process.py).

The code of kick and wait is followed on every path, from one event to the next. States that go on
alike are one location, so waiting becomes a cycle. What cannot be followed raises Refusal.
"""

from __future__ import annotations

from collections.abc import Hashable

from harness.host.attempt import HOST, Attempt, Event, Outcome
from harness.host.edges import table, to_edges
from harness.host.machine import State, Stop
from harness.host.minimise import minimise
from harness.host.refusal import Refusal
from harness.host.same import identity
from models.process import Edge, Kind, Location, Process
from trampoline.contract import Contract
from trampoline.host_object import HostObject

_LOCATIONS_MAX = 2_000


def extract(host: HostObject, contract: Contract) -> Process:
    """The process of one host thread that attempts again and again. Raises Refusal.

    `contract` names the words that are shared. Beside these the process has a word "owner": the
    host's own, 0 or the offer to a CPU, kept from attempt to attempt.
    """
    return minimise(_Extraction(Attempt(host, contract)).process())


class _Extraction:
    """Follows the code; numbers locations as they are found."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._machine = attempt.machine
        self._numbers: dict[Hashable, int] = {}
        self._waiting: list[tuple[int, Stop]] = []
        self._locations: dict[int, Location] = {}
        self._onward: dict[Hashable, list[int]] = {}
        constants = attempt.host.constants
        self._verdicts = {
            value: name.removeprefix("VERDICT_").lower().replace("_", " ")
            for name, value in constants.items()
            if name.startswith("VERDICT_")
        }
        self._errors = {-constants["EBUSY"] & 0xFFFF_FFFF: "busy"}

    def process(self) -> Process:
        begin = self._attempt.begin()
        begin.globals["function"] = "multikernel_kick"
        self._number("begin")
        targets = self._arrive(begin)
        edges = tuple(Edge(target) for target in targets)
        self._locations[0] = Location(Kind.BEGIN, edges, place="multikernel_kick")
        while self._waiting:
            number, stop = self._waiting.pop(0)
            event, outcomes = self._attempt.meaning(stop)
            self._locations[number] = self._location(event, outcomes)
        ordered = [self._locations[number] for number in sorted(self._locations)]
        return Process("host", tuple(ordered))

    def _number(self, key: Hashable) -> int:
        if len(self._numbers) > _LOCATIONS_MAX:
            raise Refusal(self._attempt.host.name, f"more than {_LOCATIONS_MAX} locations")
        return self._numbers.setdefault(key, len(self._numbers))

    def _arrive(self, state: State) -> list[int]:
        """The locations that come next, on all paths that private decisions lead to."""
        key = identity(self._machine, state, self._machine.watched)
        if key not in self._onward:
            self._onward[key] = self._follow(state)
        return self._onward[key]

    def _follow(self, state: State) -> list[int]:
        found: dict[int, None] = {}
        waiting = [state]
        while waiting:
            for stop in self._machine.run(waiting.pop()):
                if stop.why == "return":
                    conclusion, onward = self._returned(stop.state)
                    waiting += onward
                    if conclusion is not None:
                        found[self._conclude(conclusion)] = None
                    continue
                if self._attempt.is_private(stop):
                    _, outcomes = self._attempt.meaning(stop)
                    waiting += [after for _, after in outcomes]
                    continue
                key = identity(self._machine, stop.state, self._machine.watched)
                is_new = key not in self._numbers
                number = self._number(key)
                found[number] = None
                if is_new:
                    self._waiting.append((number, stop))
        return sorted(found)

    def _returned(self, state: State) -> tuple[str | None, list[State]]:
        """What the host concludes when a function returns; or the states in which it waits."""
        result = state.regs.rax[31:0]
        number = self._machine.only_value(state, result)
        if state.globals["function"] == "multikernel_wait":
            if number not in self._verdicts:
                raise self._machine.refuse(state, "a wait that ends without a verdict")
            return self._verdicts[number], []
        onward = []
        if self._machine.feasible(state, result == 0):
            after = state.copy()
            after.solver.add(result == 0)
            after.globals["function"] = "multikernel_wait"
            self._machine.enter(after, "multikernel_wait", HOST)
            onward.append(after)
        failed = self._machine.feasible(state, result != 0)
        verdict = "failed" if number is None else self._errors.get(number, "failed")
        return verdict if failed else None, onward

    def _conclude(self, verdict: str) -> int:
        number = self._number(("conclude", verdict))
        end = self._number("return")
        self._locations[number] = Location(Kind.CONCLUDE, (Edge(end),), value=verdict)
        self._locations[end] = Location(Kind.RETURN, ())
        return number

    def _location(self, event: Event, outcomes: list[Outcome]) -> Location:
        assert event.kind is not None and event.address is not None
        edges = to_edges(table([(value, self._arrive(state)) for value, state in outcomes]))
        return Location(
            kind=event.kind,
            edges=edges,
            word=event.word,
            value=event.value,
            expected=event.expected,
            place=event.place,
            addresses=(event.address,),
        )
