# SPDX-License-Identifier: GPL-2.0-only
"""Whether the machine is in a state of the explorer: one clear sentence if it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.protocol.explored import KERNEL, OUTSIDE, State
from harness.protocol.history import Event
from harness.schedule.machine import BOOT_PARAMS, KERNELS, Machine
from harness.schedule.stepper import PAGE
from harness.schedule.subject import BASE
from models.process import Kind, Location

_FLAGS = 0x60 | 1 << 40
"""Of an 8-byte table entry or descriptor: what a CPU itself sets, and nobody counts as a write
(accessed and dirty, SDM 3A 4.8; a descriptor's accessed flag, 3.4.5.1)."""


@dataclass(frozen=True)
class Mail:
    """What the host writes into the mailbox in an attempt: physical addresses of 64 bits."""

    kernel: int
    boot_params: int


def usual_mail(attempt: int) -> Mail:
    """The pair of attempt number `attempt`, from 1 on."""
    return Mail(KERNELS + (attempt - 1) * PAGE, BOOT_PARAMS + (attempt - 1) * PAGE)


@dataclass(frozen=True)
class Seen:
    """What an event has left: `at`, where the CPU that moved now stands (linear address; None: none
    moved); `area`: the rest of the area, before and after it."""

    event: Event
    at: int | None
    area: tuple[bytes, bytes]


class Agreement:
    """Compares a machine with states of the explorer. `mails`: those of all attempts so far."""

    def __init__(self, machine: Machine) -> None:
        """Compare this machine."""
        self._machine = machine
        self._pair = machine.subject.pair
        constants = machine.subject.parts.host.constants
        self._offered = constants["STATUS_OFFERED"]
        self._busy = -constants["EBUSY"]
        self._verdicts = {
            name.removeprefix("VERDICT_").lower().replace("_", " "): value
            for name, value in constants.items()
            if name.startswith("VERDICT_")
        }
        self.mails: list[Mail] = []

    def difference(self, state: State, seen: Seen) -> str:
        """The first thing in which the machine is not in `state`; empty if it is."""
        return next(self._differences(state, seen), "")

    def _differences(self, state: State, seen: Seen) -> Iterator[str]:
        machine, event = self._machine, seen.event
        if event.who == "host":
            yield from self._host(state, seen)
        elif seen.at is not None:
            yield from self._cpu(state, seen, int(event.who.removeprefix("CPU ")))
        yield from _unless("the status word", machine.status(), self.word(state.status))
        kernel, boot_params = machine.mailbox()
        mail = self._mail(state.kernel).kernel, self._mail(state.boot_params).boot_params
        yield from _unless("the mailbox's kernel", kernel, mail[0])
        yield from _unless("the mailbox's boot_params", boot_params, mail[1])
        yield from _unless("the host's owner", machine.owner(), self.word(state.owner))
        if not self._may_store(event) and _changed(*seen.area):
            yield "the rest of the area has changed"

    def _host(self, state: State, seen: Seen) -> Iterator[str]:
        location = self._pair.host.locations[state.at]
        places = self._host_places(location)
        if seen.at not in places:
            yield f"the host stands at {self._name(seen.at)} instead of {self._names(places)}"
            return
        if location.kind is Kind.CONCLUDE:
            yield from self._concluded(str(location.value))

    def _host_places(self, location: Location) -> list[int]:
        names = {
            Kind.BEGIN: "start_of_attempt",
            Kind.CONCLUDE: "end_of_attempt",
            Kind.RETURN: "next_attempt",
        }
        if location.kind in names:
            return [self._machine.symbol(names[location.kind])]
        return [self._machine.host_address(at) for at in location.addresses]

    def _concluded(self, verdict: str) -> Iterator[str]:
        kick, wait = self._machine.signed("kick_result"), self._machine.signed("verdict")
        if verdict in self._verdicts:
            agrees = kick == 0 and wait == self._verdicts[verdict]
        else:
            agrees = kick == self._busy if verdict == "busy" else kick not in (0, self._busy)
        if not agrees:
            yield f"kick gives {kick} and wait {wait}, which is not {verdict!r}"

    def _cpu(self, state: State, seen: Seen, number: int) -> Iterator[str]:
        cpu, who = state.cpus[number], seen.event.who
        if cpu.at == KERNEL:
            mail = self._mail(cpu.kernel).kernel, self._mail(cpu.boot_params).boot_params
            yield from _unless(f"{who}'s RIP", seen.at or 0, mail[0])
            yield from _unless(f"{who}'s RSI", self._machine.registers(number + 1)["rsi"], mail[1])
            return
        location = None
        if isinstance(cpu.at, int):
            location = self._pair.cpu.locations[cpu.at]
            places = [BASE + at for at in location.addresses]
        elif cpu.at == OUTSIDE:
            places = [usual_mail(n + 1).kernel + self._machine.left for n in range(len(self.mails))]
        if seen.at not in places:
            yield f"{who} stands at {self._name(seen.at)} instead of {self._names(places)}"
        elif location is not None and location.kind is Kind.COMPARE_EXCHANGE:
            yield from self._about_to_write(location, who, number)

    def _about_to_write(self, location: Location, who: str, number: int) -> Iterator[str]:
        """One instruction may be several locations, with another value each."""
        registers = self._machine.registers(number + 1).values()
        value = location.value
        if isinstance(value, int) and value not in {one & 0xFFFF_FFFF for one in registers}:
            yield f"{who} has {value:#x} in no register, which it is about to write"

    def _may_store(self, event: Event) -> bool:
        if event.who == "host" or event.location is None:
            return False
        location = self._pair.cpu.locations[event.location]
        return location.word == "tables" and location.kind is not Kind.LOAD

    def _mail(self, attempt: int) -> Mail:
        return self.mails[attempt - 1] if attempt else Mail(0, 0)

    def word(self, value: object) -> int:
        """A status word of the explorer as a number."""
        if isinstance(value, tuple):  # names a CPU, from 0 on
            return self._offered + int(value[1]) + 1
        assert isinstance(value, int)
        return value

    # For people.

    def _names(self, places: list[int]) -> str:
        return " or ".join(self._name(place) for place in places)

    def _name(self, at: int | None) -> str:
        """A place in the image, the host's object or the guest."""
        assert at is not None
        subject = self._machine.subject
        known = {BASE + offset: name for name, offset in subject.parts.image.symbols.items()}
        known |= {
            self._machine.host_address(o): name for name, o in subject.parts.host.functions.items()
        }
        for name in ("start_of_attempt", "end_of_attempt", "next_attempt"):
            known[self._machine.symbol(name)] = name
        known |= {usual_mail(n + 1).kernel: f"kernel {n + 1}" for n in range(len(self.mails))}
        before = [place for place in known if 0 <= at - place < PAGE]
        if not before:
            return f"{at:#x}"
        name, offset = known[max(before)], at - max(before)
        return f"{name}+{offset:#x}" if offset else name


def _unless(what: str, found: int, expected: int) -> Iterator[str]:
    if found != expected:
        yield f"{what} is {found:#x} instead of {expected:#x}"


def _changed(before: bytes, after: bytes) -> bool:
    """Whether more than flags has changed."""
    if before == after:
        return False
    flags = int.from_bytes(_FLAGS.to_bytes(8, "little") * (len(before) // 8), "little")
    difference = int.from_bytes(before, "little") ^ int.from_bytes(after, "little")
    return bool(difference & ~flags)
