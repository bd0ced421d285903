# SPDX-License-Identifier: GPL-2.0-only
"""The machine for a pair: CPU 0 runs the host's object, CPUs 1 and 2 the trampoline.

Breakpoints stand at all instructions that are locations of the two processes.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.qemu.debugger import DebuggerError
from harness.qemu.link import Link
from harness.qemu.vm import VirtualMachine
from harness.schedule.build import build
from harness.schedule.stepper import HOST_CPU, PAGE, PATIENCE, TARGETS, Lost, Stepper
from harness.schedule.subject import BASE, Subject
from models.process import Process

ATTEMPTS = 8
"""Kernels that can be told apart."""
KERNELS = 0x200_0000
BOOT_PARAMS = 0x300_0000


class Machine(Stepper):
    """QEMU with a guest for one subject. Use it as a context manager."""

    def __init__(self, subject: Subject, patience: float = PATIENCE) -> None:
        """Build the guest; QEMU is started on entry. Raises AssemblerMissing."""
        super().__init__(BASE, patience)
        self.subject = subject
        self._guest = build(subject.parts.host)
        shared = subject.parts.contract.shared
        self._status = BASE + subject.parts.image.symbols[shared.status.word]
        self._mailbox = [
            BASE + subject.parts.image.symbols[word] for word in (shared.kernel, shared.boot_params)
        ]
        self._size = -(-len(subject.parts.image.data) // PAGE) * PAGE
        self._owner = subject.parts.host.structs["host"].members["owner"]
        symbols = self._guest.symbols
        self.left = symbols["payload_left"] - symbols["payload"]
        """Where a kernel halts, from its start on."""

    def _wires(self) -> int:
        return self._guest.symbols["wires"]

    def _enter(self, vm: VirtualMachine, link: Link) -> None:
        """Let the host set up the area and load, up to its first attempt."""
        for address, data in self._guest.parts:
            vm.write(address, data)
        self._fill()
        debugger = self._debugger = vm.debugger
        for address in self._places():
            debugger.breakpoint(address, wanted=True)
        link.enter(1, self._guest.symbols["start"])
        debugger.go()
        if not debugger.stopped(self._patience):
            raise Lost("the host does not come to an attempt")
        if self.where(HOST_CPU) != self._guest.symbols["start_of_attempt"]:
            raise Lost("the host does not set up and load")
        if self.signed("setup_result") != 0:
            raise Lost(f"the host's load gives {self.signed('setup_result')}")
        self._registers = debugger.registers(HOST_CPU)
        self._saved = [(at, vm.read(at, size)) for at, size in self._ranges()]

    def _fill(self) -> None:
        """What Python tells the guest once and for all."""
        image, symbols = self.subject.parts.image, self._guest.symbols
        self._put("area_base", BASE, 8)
        self._put("kernels", KERNELS, 8)
        self._live.write(symbols["staged_image"], image.data)
        words = {
            "size": len(image.data),
            "status": self._status - BASE,
            "kernel": self._mailbox[0] - BASE,
            "boot_params": self._mailbox[1] - BASE,
        }
        for name, value in words.items():
            at, size = self.subject.parts.host.structs["trampoline"].members[name]
            self._live.write(symbols["trampoline"] + at, value.to_bytes(size, "little"))
        start, end = symbols["payload"], symbols["payload_end"]
        payload = self._live.read(start, end - start)
        for number in range(ATTEMPTS):
            self._live.write(symbols["staged"] + number * PAGE, payload)
        if self.subject.pair.leave is not None:
            expected, new = self.subject.pair.leave
            self._put("leaves", 1, 4)
            self._put("leave_from", expected, 4)
            self._put("leave_to", new, 4)
            self._put("leave_word", self._status, 8)

    def _places(self) -> list[int]:
        """Where CPUs are stopped."""
        pair, symbols = self.subject.pair, self._guest.symbols
        names = ("start_of_attempt", "end_of_attempt", "next_attempt", "wires_end")
        found = {symbols[name] for name in names}
        found |= {self._guest.text + at for at in _addresses(pair.host)}
        found |= {BASE + at for at in _addresses(pair.cpu)}
        for number in range(ATTEMPTS):
            found |= {KERNELS + number * PAGE, KERNELS + number * PAGE + self.left}
        return sorted(found)

    def _ranges(self) -> Iterable[tuple[int, int]]:
        """The memory that a schedule may change: the guest's, the area, the kernels."""
        first = self._guest.parts[0][0]
        yield first, self._guest.end - first
        yield BASE, self._size
        yield KERNELS, ATTEMPTS * PAGE

    # From schedule to schedule.

    def restore(self) -> None:
        """Everything is as before the first attempt; the targets wait, whatever they did.

        Raises QemuFailed.
        """
        self.revive()
        try:
            self._put_back()
        except (Lost, DebuggerError):
            self.stop()
            self.start()
            self._put_back()

    def _put_back(self) -> None:
        for address, data in self._saved:
            self._live.write(address, data)
        self._line.write_all(HOST_CPU, self._registers)
        self._known = {HOST_CPU: self._registers}
        for number in range(TARGETS):
            self.send_init(number)

    # Looking at it, and telling it.

    def host_address(self, offset: int) -> int:
        """Where an instruction of the host's object is, by its offset in .text."""
        return self._guest.text + offset

    def symbol(self, name: str) -> int:
        """The address of a symbol of the guest."""
        return self._guest.symbols[name]

    def status(self) -> int:
        """The status word."""
        return self._get(self._status, 4)

    def mailbox(self) -> tuple[int, int]:
        """Both words: kernel, boot_params."""
        kernel, boot_params = (self._get(at, 8) for at in self._mailbox)
        return kernel, boot_params

    def owner(self) -> int:
        """The host's own word."""
        at, size = self._owner
        return self._get(self._guest.symbols["host"] + at, size)

    def tables(self) -> bytes:
        """The area's page tables."""
        symbols, tables = (
            self.subject.parts.image.symbols,
            self.subject.parts.contract.shared.tables,
        )
        start, end = symbols[tables.start], symbols[tables.end]
        return self._live.read(BASE + start, end - start)

    def area(self) -> bytes:
        """All of the area, with 0 for the three words."""
        data = bytearray(self._live.read(BASE, self._size))
        for at, size in ((self._status, 4), *((at, 8) for at in self._mailbox)):
            data[at - BASE : at - BASE + size] = bytes(size)
        return bytes(data)

    def word(self, name: str) -> int:
        """A word of 4 bytes of the guest, by its symbol."""
        return self._get(self._guest.symbols[name], 4)

    def signed(self, name: str) -> int:
        """The same as a signed number."""
        value = self.word(name)
        return value - (value >> 31 << 32)

    def put(self, **words: int) -> None:
        """Set words of 4 bytes of the guest, by their symbols."""
        for name, value in words.items():
            self._put(name, value, 4)

    def put_member(self, struct: str, member: str, value: int) -> None:
        """Set a member of the guest's `host` or `image`."""
        at, size = self.subject.parts.host.structs[struct].members[member]
        self._live.write(self._guest.symbols[struct] + at, value.to_bytes(size, "little"))

    def _put(self, name: str, value: int, size: int) -> None:
        self._live.write(self._guest.symbols[name], value.to_bytes(size, "little"))

    def _get(self, address: int, size: int) -> int:
        return int.from_bytes(self._live.read(address, size), "little")


def _addresses(process: Process) -> set[int]:
    """Of the locations, but for those that are a fault: nobody halts there."""
    return {at for one in process.locations if not one.fault for at in one.addresses}
