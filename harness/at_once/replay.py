# SPDX-License-Identifier: GPL-2.0-only
"""A schedule of two CPUs in one image, replayed in QEMU, compared with the explorer at each step.

An event of the schedule is one instruction there, and what lies between it and the next location.
After each event the CPU that moved stands where the explorer says, and the lock holds what it says.
"""

from __future__ import annotations

from harness.at_once.explore import START, Cpu, Explorer
from harness.at_once.machine import Machine
from harness.protocol.history import Event, Schedule
from harness.qemu.debugger import DebuggerError
from harness.record import Evidence, ReplayRecord
from harness.schedule.stepper import Lost
from models.at_once import NOBODY, OneImage
from models.process import Kind
from models.protocol import KERNEL, OUTSIDE
from trampoline.image import LOCK_WORD_SIZE

REPEAT = 10
BREAKS = "a CPU accesses the image while another one is in it"


class Disagreement(Exception):
    """The machine is in no state that the explorer allows: one clear sentence."""


def show(machine: Machine, image: OneImage, schedule: Schedule) -> ReplayRecord:
    """CONFIRMED if each of several replays goes as predicted, step by step, to the access that
    breaks the property; with what becomes of both CPUs then."""
    predicted = {
        "steps": str(len(schedule.events)),
        "breaks": BREAKS,
        "replays alike": str(REPEAT),
    }

    def record(
        evidence: Evidence, reason: str, observed: dict[str, str] | None = None
    ) -> ReplayRecord:
        return ReplayRecord(
            evidence=evidence, reason=reason, predicted=predicted, observed=observed or {}
        )

    if schedule.not_replayable:
        return record(Evidence.NOT_REPLAYABLE, schedule.not_replayable)
    try:
        for _ in range(REPEAT):
            follower = Follower(machine, image)
            breaks = [follower.follow(event) for event in schedule.events][-1]
            follower.finish()
    except Disagreement as error:
        return record(Evidence.CONTRADICTED, str(error))
    observed = {
        "steps": str(len(schedule.events)),
        "breaks": BREAKS if breaks else "nothing",
        "replays alike": str(REPEAT),
        "then": aftermath(machine, int(schedule.events[-1].who.removeprefix("CPU "))),
    }
    evidence = Evidence.CONFIRMED if breaks else Evidence.CONTRADICTED
    return record(evidence, "", observed)


class Follower:
    """A machine from its start on. `states`: what it may be in, as far as can be seen."""

    def __init__(self, machine: Machine, image: OneImage) -> None:
        """Put the machine back to its start."""
        machine.restore()
        self._machine, self._image, self._scene = machine, image, machine.scene
        self._explorer = Explorer(image, plain=True)
        self.states = [self._explorer.first()]
        self.steps = 0
        self._stands: dict[int, int] = {}

    def follow(self, event: Event) -> bool:
        """Perform an event; whether it breaks the property. Raises Disagreement."""
        self.steps += 1
        after = {
            then: broken
            for state in self.states
            for what, then, broken in self._explorer.next(state)
            if what == event
        }
        number = int(event.who.removeprefix("CPU "))
        if not after:
            raise self._disagree(event, "the explorer knows no such step")
        if all(state.busy == NOBODY for state in after):
            places = {place for state in after for place in self._places(state.cpus[number])}
        else:  # the rest of the instruction follows; QEMU does all of it now, if not before
            places = {place for state in after for place in self._behind(state.cpus[number].at)}
        amid = all(state.busy == number for state in self.states)
        if not amid:
            self._stands[number] = self._perform(event, number, places)
        self.states = [
            state
            for state in after
            if state.busy != NOBODY or self._stands[number] in self._places(state.cpus[number])
        ]
        if not self.states:
            at = self._stands[number]
            raise self._disagree(event, f"it stands at {at:#x}, none of {sorted(map(hex, places))}")
        self._compare(event)
        return all(after[state] for state in self.states)

    def finish(self) -> None:
        """Both CPUs still stand where their last event has left them. Raises Disagreement."""
        self._machine.forget()
        for number, expected in self._stands.items():
            if (at := self._machine.where(number + 1)) != expected:
                raise Disagreement(f"at the end CPU {number} is at {at:#x}, left at {expected:#x}")

    def _perform(self, event: Event, number: int, places: set[int]) -> int:
        machine = self._machine
        machine.stop_at(places)
        try:
            if event.what == START:
                machine.send_init(number)
                return machine.start_target(number)
            return machine.run(number + 1)
        except (Lost, DebuggerError) as error:
            raise self._disagree(event, f"it is lost: {error}") from None

    def _places(self, cpu: Cpu) -> set[int]:
        """Where a CPU stands that is there."""
        if cpu.at in (KERNEL, OUTSIDE):
            return {self._scene.kernel if cpu.at == KERNEL else self._machine.left}
        return {self._scene.area + at for at in self._image.cpu.locations[cpu.at].addresses}

    def _behind(self, at: int) -> set[int]:
        """Where a CPU may stand once the instruction of a location is done."""
        locations, found = self._image.cpu.locations, set[int]()
        if locations[at].kind is Kind.JUMP:
            return {self._scene.kernel}
        for edge in locations[at].edges:
            there = locations[edge.target].addresses
            if edge.target > at and there == locations[at].addresses:
                found |= self._behind(edge.target)
            else:
                found |= {self._scene.area + address for address in there}
        return found

    def _compare(self, event: Event) -> None:
        if self._scene.lock is None or any(state.busy != NOBODY for state in self.states):
            return
        held = int.from_bytes(self._machine.read(self._scene.lock, LOCK_WORD_SIZE), "little")
        self.states = [state for state in self.states if state.lock == held]
        if not self.states:
            raise self._disagree(event, f"the lock holds {held:#x}")

    def _disagree(self, event: Event, what: str) -> Disagreement:
        at = "" if event.location is None else f" at {event.location}"
        return Disagreement(f"step {self.steps} ({event.who}{at}, {event.what}): {what}")


def aftermath(machine: Machine, last: int) -> str:
    """What becomes of both CPUs, beyond the schedule: the one that moved last goes on as far as it
    comes, then the other one. One sentence."""
    stacks = []
    said = []
    for number in (last, 1 - last):
        machine.stop_at({machine.scene.kernel})
        try:
            machine.run(number + 1)
        except Lost as error:
            said.append(f"CPU {number} is lost: {error}")
            break
        stacks.append(machine.registers(number + 1)["rsp"])
        said.append(f"CPU {number} enters the kernel with RSP = {stacks[-1]:#x}")
    if len(stacks) == len(said) == 2 and stacks[0] == stacks[1]:
        said.append("both have the same stack")
    return ", then ".join(said)
