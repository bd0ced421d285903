# SPDX-License-Identifier: GPL-2.0-only
"""Performs events of the explorer on the machine, one by one, and compares both after each.

Where the explorer leaves open what comes of an event, the machine decides. So the explorer's state
is always one that the machine was seen to be in, and what the explorer says is broken, is broken
on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.protocol.explore import Bounds, Explorer
from harness.protocol.explored import Cpu, State
from harness.protocol.history import Event
from harness.qemu.debugger import DebuggerError
from harness.schedule.agree import Agreement, Mail, Seen, usual_mail
from harness.schedule.machine import Machine
from harness.schedule.stepper import TARGETS, Lost
from harness.schedule.subject import BASE
from models.process import Kind
from models.protocol import Pair


class Disagreement(Exception):
    """The machine is in no state that the explorer allows: one clear sentence."""


class Fails(StrEnum):
    """What is not as it should be in an attempt, around the host's code."""

    NOTHING = ""
    ONLINE = "the CPU runs the host's own kernel"
    LOCKED = "another thread of the host has the lock"
    TAKEN = "the CPU runs another kernel"
    ABSENT = "there is no such CPU"
    INIT = "INIT cannot be sent"
    SIPI_1 = "the first SIPI cannot be sent"
    SIPI_2 = "the second SIPI cannot be sent"


@dataclass(frozen=True)
class Around:
    """An attempt's surroundings: what the host writes into the mailbox, and what fails."""

    mail: Mail
    fails: Fails = Fails.NOTHING


def usual(attempt: int, fails: Fails = Fails.NOTHING) -> Around:
    """Of attempt number `attempt`, from 1 on."""
    return Around(usual_mail(attempt), fails)


def explorer_of(pair: Pair, attempts: int, strays: int) -> Explorer:
    """The explorer of what a machine can show."""
    bounds = Bounds(cpus=TARGETS, attempts=attempts, strays=strays, plain=True)
    return Explorer(pair.host, pair.cpu, pair.leave, bounds)


def first_state() -> State:
    """Before the first attempt."""
    return State(cpus=(Cpu(),) * TARGETS)


class Follower:
    """A machine from its first attempt on. `states`: what it may be in, as far as can be seen."""

    def __init__(self, machine: Machine) -> None:
        """Put the machine back to its start."""
        self._machine = machine
        self._locations = machine.subject.pair.host.locations
        machine.restore()
        self._agreement = Agreement(machine)
        self._area = machine.area()
        self._around = usual(1)
        self.states: list[State] = [first_state()]
        self.steps = 0
        self._stands: dict[int, int] = {}  # linear addresses; not of CPUs with a pending INIT

    def follow(self, event: Event, after: Sequence[State], around: Around | None = None) -> None:
        """Perform an event; `after`: the states that may follow. Raises Disagreement.

        `around`: for an event that begins an attempt.
        """
        self.steps += 1
        try:
            at = self._perform(event, after[0], around)
        except (Lost, DebuggerError) as error:
            raise self._disagree(event, f"{event.who} is lost: {error}") from None
        if at is not None:
            cpu = 0 if event.who == "host" else int(event.who.removeprefix("CPU ")) + 1
            self._stands[cpu] = at
        seen = Seen(event, at, (self._area, self._machine.area()))
        self._area = seen.area[1]
        differences = {state: self._agreement.difference(state, seen) for state in after}
        self.states = [state for state, difference in differences.items() if not difference]
        if not self.states:
            raise self._disagree(event, ", or ".join(dict.fromkeys(differences.values())))

    def finish(self) -> None:
        """Every CPU still stands where its last event has left it. Raises Disagreement."""
        self._machine.forget()
        for cpu, expected in self._stands.items():
            if (at := self._machine.where(cpu)) != expected:
                who = f"CPU {cpu - 1}" if cpu else "the host"
                raise Disagreement(f"at the end {who} is at {at:#x}, left at {expected:#x}")

    def _disagree(self, event: Event, what: str) -> Disagreement:
        at = "" if event.location is None else f" at {event.location}"
        return Disagreement(f"step {self.steps} ({event.who}{at}, {event.what}): {what}")

    def _perform(self, event: Event, after: State, around: Around | None) -> int | None:
        """The event, and where the CPU that it moves then stands."""
        machine = self._machine
        if event.who == "host":
            return self._host(event, after, around)
        number = int(event.who.removeprefix("CPU "))
        if event.location is None and event.what == "INIT":
            self._init(number)
            return None
        if event.location is None and event.what == "SIPI":
            return machine.start_target(number)
        return machine.run(number + 1)

    def _host(self, event: Event, after: State, around: Around | None) -> int:
        machine = self._machine
        assert event.location is not None
        kind = self._locations[event.location].kind
        if kind is Kind.BEGIN:
            self._begin(after, around or usual(len(after.attempts)))
        if kind is Kind.CONCLUDE and self._around.fails is Fails.LOCKED:
            machine.put_member("host", "lock", 0)
        machine.put(time_is_over=event.what == "time-out")
        at = machine.run(0)
        if kind in (Kind.INIT, Kind.SIPI):
            target = after.attempts[-1].target
            if machine.word("asked_apic_id") != target + 1:
                raise self._disagree(event, f"it is for APIC id {machine.word('asked_apic_id')}")
            if kind is Kind.SIPI and machine.word("asked_vector") != BASE >> 12:
                raise self._disagree(event, f"its vector is {machine.word('asked_vector'):#x}")
            if event.what == "INIT":
                self._init(target)
        return at

    def _init(self, target: int) -> None:
        self._machine.send_init(target)
        self._stands.pop(target + 1, None)

    def _begin(self, after: State, around: Around) -> None:
        machine, fails = self._machine, around.fails
        self._around = around
        self._agreement.mails.append(around.mail)
        machine.put(
            target=after.attempts[-1].target + 1,
            release=fails is not Fails.TAKEN,
            is_online=fails is Fails.ONLINE,
            is_absent=fails is Fails.ABSENT,
            init_fails=fails is Fails.INIT,
            sipi_fails={Fails.SIPI_1: 1, Fails.SIPI_2: 2}.get(fails, 0),
        )
        if fails is Fails.LOCKED:
            machine.put_member("host", "lock", 1)
        machine.put_member("image", "entry", around.mail.kernel)
        machine.put_member("host", "boot_params", around.mail.boot_params)
