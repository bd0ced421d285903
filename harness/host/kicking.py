# SPDX-License-Identifier: GPL-2.0-only
"""Claims on the kick as a function: its result, and what stands before INIT and SIPI.

The compiled `multikernel_kick` is executed on every path. What the platform answers, and what it
reads, are symbols; a result is compared with what the answers, in the order of the checks, demand.
"""

from __future__ import annotations

from dataclasses import dataclass

import z3

from harness.host.attempt import HOST, Attempt, Event
from harness.host.machine import State, to_z3
from harness.host.memory import member
from harness.host.objects import kept
from harness.solve.obligation import Obligation
from models.process import Kind
from trampoline.contract import Contract
from trampoline.host_object import HostObject

RESULT = "the result is that of the first check that fails, else of the wake-up"
SENT = "INIT, then SIPI twice, until one cannot be sent"
CHECKED = "all checks described stand before INIT"
TYPE = "only an image for a multikernel is started"
TAKEN = "no CPU is started that already runs another kernel"
VISIBLE = "the whole mailbox is visible before INIT"
OFFERED = "the status word tells of the target before INIT"
WARM_SET = "the warm-reset vector leads to the area before INIT"
WARM_RESET = "the warm-reset vector is undone if the kick fails"
UNLOCKED = "a failed kick leaves the lock free"
KEPT = "a kick that returns 0 keeps the lock if and only if the wait for it gives it back"
OWN = "only the lock, the host's notes on the target, status word and mailbox are written"
NAMED = "no CPU is started that eight bits do not name"

NOTES = ("offer", "owner", "again", "taken")
"""Members of struct host for kick, wait and release."""
ALL_CPUS = 0xFF
"""The APIC id that means all CPUs; what lies above does not fit into eight bits (SDM vol. 3A,
11.6.1 and 11.6.2.1)."""


@dataclass(frozen=True)
class KickPath:
    """A path to the end of a kick and the events on it, in order."""

    state: State
    events: tuple[Event, ...] = ()

    def sent(self) -> list[tuple[str, z3.BitVecRef]]:
        """The INIT and SIPIs that were sent, each with what the platform said of it."""
        return [
            (event.call, to_z3(event.result))
            for event in self.events
            if event.kind in (Kind.INIT, Kind.SIPI) and event.result is not None
        ]

    def before_messages(self) -> list[Event]:
        """The events before the first INIT or SIPI, whichever comes first."""
        messages = [event.kind in (Kind.INIT, Kind.SIPI) for event in self.events]
        return list(self.events[: messages.index(True)])

    def story(self) -> str:
        """How far the kick gets, in words."""
        messages = {"send_init": "INIT", "send_sipi": "SIPI"}
        return ", ".join(messages[call] for call, _ in self.sent()) or "nothing is sent"

    def answer(self, call: str) -> z3.ExprRef | None:
        """What the platform answered to a call; None if it was not asked."""
        for event in self.events:
            if event.call == call and event.result is not None:
                return to_z3(event.result)
        return None


def kick_obligations(host: HostObject, contract: Contract) -> list[Obligation]:
    """Claims on `multikernel_kick`, one for each path and goal. Raises Refusal."""
    return Kick(host, contract).obligations()


def follow(attempt: Attempt, begin: State) -> list[KickPath]:
    """Every path from a function's entry to its end. Raises Refusal."""
    ended, waiting = [], [KickPath(begin)]
    while waiting:
        path = waiting.pop()
        for stop in attempt.machine.run(path.state):
            if stop.why == "return":
                ended.append(KickPath(stop.state, path.events))
                continue
            event, outcomes = attempt.meaning(stop)
            waiting += [KickPath(after, (*path.events, event)) for _, after in outcomes]
    return ended


class Kick:
    """A host's kick, followed to its end. Raises Refusal.

    `paths`: every path to the end; `attempt`: what they are paths of.
    """

    def __init__(self, host: HostObject, contract: Contract) -> None:
        self.attempt = Attempt(host, contract, by_value=False)
        self._constants = host.constants
        self.start = self.attempt.begin()
        self.attempt.lock.observe(self.start, self.attempt.area)
        self.paths = follow(self.attempt, self.start.copy())
        self._gives_back = any(self._wait_gives_back(path) for path in self._worked()[:1])

    def obligations(self) -> list[Obligation]:
        """One for each path and goal."""
        return [
            Obligation(f"kick, path {number} ({path.story()}): {name}", hypotheses, {name: goal})
            for number, path in enumerate(self.paths)
            for hypotheses in [tuple(to_z3(c) for c in path.state.solver.constraints)]
            for name, goal in self.goals(path).items()
        ]

    def goals(self, path: KickPath) -> dict[str, z3.BoolRef]:
        """What must hold at the end of a path."""
        goals = {
            RESULT: self._result(path),
            SENT: self._sent(path),
            UNLOCKED: self._unlocked(path),
            WARM_RESET: self._warm_reset(path),
            OWN: kept(self.start, path.state, *self.own()),
            **self.attempt.lock.goals(path.state),
        }
        if path.sent():
            goals |= {
                WARM_SET: z3.BoolVal(self._warm_set(path)),
                KEPT: self._kept(path),
                CHECKED: z3.And(*(z3.Not(bad) for bad, _ in self._described(path))),
                TYPE: to_z3(self.attempt.type) == self._constants["TYPE_MULTIKERNEL"],
                TAKEN: self._not_taken(path),
                VISIBLE: z3.BoolVal(self._mail_visible(path)),
                OFFERED: z3.BoolVal(self._offered(path)),
            }
            if self.attempt.contract.shared.status.handshake is not None:  # it offers to eight bits
                goals[NAMED] = z3.ULT(to_z3(self.attempt.apic_id), ALL_CPUS)
        return goals

    def _error(self, name: str) -> z3.BitVecRef:
        return z3.BitVecVal(-self._constants[name], 32)

    def _returned(self, path: KickPath) -> z3.BitVecRef:
        return to_z3(path.state.regs.rax[31:0])

    def _described(self, path: KickPath) -> list[tuple[z3.BoolRef, str]]:
        """The checks in the order described, each with the error that it ends with.

        What a path has not asked is unknown to it, so its result must not depend on that.
        """

        def answer(call: str, unknown: z3.ExprRef) -> z3.ExprRef:
            found = path.answer(call)
            return unknown if found is None else found

        online = answer("cpu_online", z3.FreshConst(z3.BoolSort(), "online"))
        lock = answer("lock", z3.FreshConst(z3.BitVecSort(32), "lock"))
        present = answer("apic_id_present", z3.FreshConst(z3.BoolSort(), "present"))
        loaded = to_z3(self.attempt.loaded)
        invalid = to_z3(self.attempt.apic_id) == self._constants["INVALID_APIC_ID"]
        return [
            (online, "EBUSY"),
            (lock != 0, "EBUSY"),
            (z3.Not(loaded), "EINVAL"),
            (invalid, "EINVAL"),
            (z3.Not(present), "EINVAL"),
        ]

    def _result(self, path: KickPath) -> z3.BoolRef:
        """The described checks come first; what else a host refuses is -EBUSY or -EINVAL."""
        result = self._returned(path)
        sent = path.sent()
        late = [e for e in path.events if e.kind is Kind.COMPARE_EXCHANGE and e.word == "status"]
        if sent:
            allowed = result == sent[-1][1]
            if late:  # it has started although something could not be sent
                allowed = z3.Or(allowed, result == 0)
        else:
            allowed = z3.Or(result == self._error("EBUSY"), result == self._error("EINVAL"))
        for bad, error in reversed(self._described(path)):
            allowed = z3.If(bad, result == self._error(error), allowed)
        return allowed

    def _sent(self, path: KickPath) -> z3.BoolRef:
        sent = path.sent()
        expected = ["send_init", "send_sipi", "send_sipi"]
        if [call for call, _ in sent] != expected[: len(sent)]:
            return z3.BoolVal(False)
        worked = z3.And(*(error == 0 for _, error in sent[:-1]))
        if not sent or len(sent) == len(expected):
            return worked
        return z3.And(worked, sent[-1][1] != 0)

    def _not_taken(self, path: KickPath) -> z3.BoolRef:
        """The host has looked whether the target CPU runs another kernel: that CPU, not another."""
        taken, apic_id = path.answer("taken"), to_z3(self.attempt.apic_id)
        if taken is None:
            return z3.BoolVal(False)
        asked = [to_z3(e.arguments[0]) for e in path.events if e.call == "taken"]
        about_it = z3.And(*(index == z3.ZeroExt(32, apic_id) for index in asked))
        return z3.And(z3.ULT(apic_id, self._constants["APIC_IDS"]), taken == 0, about_it)

    def _mail_visible(self, path: KickPath) -> bool:
        """Both words are stored, and then something that drains the store buffer."""
        before = [(e.kind, e.word) for e in path.before_messages()]
        if not {(Kind.STORE, "kernel"), (Kind.STORE, "boot_params")} <= set(before):
            return False
        last = max(i for i, (kind, _) in enumerate(before) if kind is Kind.STORE)
        drains = (Kind.FENCE, Kind.EXCHANGE, Kind.COMPARE_EXCHANGE)
        return any(kind in drains for kind, _ in before[last:])

    def _offered(self, path: KickPath) -> bool:
        """The last change of the status word before INIT is the offer to the target."""
        changes = [
            e
            for e in path.before_messages()
            if e.word == "status" and e.kind in (Kind.STORE, Kind.EXCHANGE, Kind.COMPARE_EXCHANGE)
        ]
        return bool(changes) and changes[-1].value == "offer"

    def _unlocked(self, path: KickPath) -> z3.BoolRef:
        lock = path.answer("lock")
        if lock is None:
            return z3.BoolVal(True)
        struct = self.attempt.host.structs["host"]
        now = member(self.attempt.machine, path.state, struct, HOST, "lock")
        return z3.Or(lock != 0, self._returned(path) == 0, to_z3(now) == 0)

    def _kept(self, path: KickPath) -> z3.BoolRef:
        held = self.attempt.lock.held(path.state)
        return z3.Implies(self._returned(path) == 0, held == self._gives_back)

    def _worked(self) -> list[KickPath]:
        """The paths that may return 0."""
        feasible = self.attempt.machine.feasible
        return [p for p in self.paths if feasible(p.state, p.state.regs.rax[31:0] == 0)]

    def _wait_gives_back(self, path: KickPath) -> bool:
        """Whether a wait after this path is seen to leave a lock free that was not.

        One wait is enough, so each stop is passed once; that all waits do it is for waiting.py.
        """
        machine, lock = self.attempt.machine, self.attempt.lock.place
        state = path.state.copy()
        state.solver.add(state.regs.rax[31:0] == 0)
        machine.enter(state, "multikernel_wait", HOST)
        machine.write(state, *lock, 1)
        waiting, passed = [state], set()
        while waiting:
            for stop in machine.run(waiting.pop()):
                here = stop.state
                if stop.why == "return":
                    if machine.only_value(here, machine.read(here, *lock)) == 0:
                        return True
                elif (address := machine.address(here)) not in passed:
                    passed.add(address)
                    waiting += [after for _, after in self.attempt.meaning(stop)[1]]
        return False

    def own(self) -> list[tuple[int, int]]:
        """What kick and wait may write, beside their stack: (address, size)."""
        words = [(word.address, word.size) for word in self.attempt.words]
        notes = [self.attempt.member(name) for name in NOTES]
        return [self.attempt.lock.place, *notes, *words]

    def _warm_set(self, path: KickPath) -> bool:
        """`Attempt` refuses any other place than the area's base."""
        calls = [e.call for e in path.before_messages() if e.call.startswith("warm_reset")]
        return calls[-1:] == ["warm_reset_set"]

    def _warm_reset(self, path: KickPath) -> z3.BoolRef:
        calls = [e.call for e in path.events if e.call.startswith("warm_reset")]
        undone = calls in ([], ["warm_reset_set", "warm_reset_undo"])
        return z3.Or(self._returned(path) == 0, z3.BoolVal(undone))
