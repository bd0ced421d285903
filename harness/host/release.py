# SPDX-License-Identifier: GPL-2.0-only
"""Claims on `multikernel_release`: the mark of one CPU is taken away, and nothing else changes."""

from __future__ import annotations

import z3
from claripy.ast.bv import BV

from harness.host.attempt import Attempt
from harness.host.kicking import KickPath, follow
from harness.host.machine import to_z3
from harness.host.objects import conditions, kept
from harness.solve.obligation import Obligation
from trampoline.contract import Contract
from trampoline.host_object import HostObject

FUNCTION = "multikernel_release"

RELEASED = "0: the CPU is not marked as taken any more"
ITS_OWN = "no mark changes but that of the CPU, and it only goes away"
OWN = "only the lock and the marks are written"
UNLOCKED = "a release leaves the lock free if it has taken it"


def release_obligations(host: HostObject, contract: Contract) -> list[Obligation]:
    """One for each path and goal; none if the host has no such function. Raises Refusal."""
    if FUNCTION not in host.functions:
        return []
    release = _Release(host, contract)
    return [
        Obligation(f"release, path {number}: {name}", conditions(path.state), {name: goal})
        for number, path in enumerate(release.paths)
        for name, goal in release.goals(path).items()
    ]


class _Release:
    def __init__(self, host: HostObject, contract: Contract) -> None:
        self._attempt = Attempt(host, contract, by_value=False)
        self._start = self._attempt.begin(FUNCTION)
        self._attempt.lock.observe(self._start, self._attempt.area)
        self.paths = follow(self._attempt, self._start.copy())

    def goals(self, path: KickPath) -> dict[str, z3.BoolRef]:
        lock, state = self._attempt.lock, path.state
        cleared = [
            z3.And(to_z3(index) == z3.ZeroExt(32, to_z3(self._attempt.apic_id)), to_z3(stored) == 0)
            for event in path.events
            if event.call == "take" and isinstance(stored := event.result, BV)
            for index in event.arguments
        ]
        failed = to_z3(state.regs.rax[31:0]) != 0
        return {
            RELEASED: z3.Or(failed, z3.BoolVal(bool(cleared))),
            ITS_OWN: z3.And(*cleared),
            OWN: kept(self._start, state, lock.place, self._attempt.member("taken")),
            UNLOCKED: z3.Not(lock.held(state)),
            **lock.goals(state),
        }
