# SPDX-License-Identifier: GPL-2.0-only
"""A machine of three CPUs that does nothing by itself: one CPU at a time runs to its next event.

CPU 0 runs the host's object, CPUs 1 and 2 are targets. Breakpoints stand at all instructions that
are locations of the two processes. INIT and SIPI are sent by CPU 0's own local APIC, for real, at
the moment that a schedule says: CPU 0 is diverted for that, and put back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType

from harness.qemu import firmware
from harness.qemu.debugger import Debugger, DebuggerError
from harness.qemu.link import Link
from harness.qemu.protocol import P
from harness.qemu.vm import QemuFailed, VirtualMachine, VmDead
from harness.schedule.build import build
from harness.schedule.subject import BASE, Subject
from models.process import Process

ATTEMPTS = 8
"""Kernels that can be told apart."""
KERNELS = 0x200_0000
BOOT_PARAMS = 0x300_0000
PAGE = 0x1000
HOST_CPU = 0
TARGETS = 2
PATIENCE = 10.0  # seconds until a CPU that runs on counts as lost; it takes milliseconds
ENDING = 2.0  # seconds for QEMU to end in
BOOT_TIMEOUT = 20.0  # seconds
ICR_INIT, ICR_SIPI = 0x4500, 0x4600  # SDM 3A 11.6.1
REPEATS = (0xF2, 0xF3)  # prefixes of string instructions (SDM vol. 2A 2.1.1)
PREFIXES = (*REPEATS, 0x66, 0x67, *range(0x40, 0x50))
MAX_LENGTH = 15
CR0_PE = 1


class Lost(Exception):
    """A CPU does not come to a next event: it runs on, or has shut the machine down."""


class Machine:
    """QEMU with a guest for one subject. Use it as a context manager."""

    def __init__(self, subject: Subject, patience: float = PATIENCE) -> None:
        """Build the guest; QEMU is started on entry. Raises AssemblerMissing."""
        self.subject = subject
        self._patience = patience
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
        self._vm: VirtualMachine | None = None
        self._debugger: Debugger | None = None
        self._known: dict[int, dict[str, int]] = {}  # registers of CPUs that stand since then

    def __enter__(self) -> Machine:
        """Start QEMU. Raises QemuMissing, QemuFailed."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End QEMU."""
        self.stop()

    def stop(self) -> None:
        """End QEMU, if it runs."""
        if self._vm is not None:
            self._vm.close()
        self._vm = self._debugger = None
        self._known = {}

    def start(self) -> None:
        """Start QEMU, and let the host set up the area and load, up to its first attempt."""
        lacking = (frozenset[str](),) * TARGETS
        vm = VirtualMachine(firmware.rom(), 40, PAGE, lacking, reboot=False)
        self._vm = vm
        try:
            self._enter(vm)
        except BaseException as error:
            self.stop()
            if isinstance(error, (VmDead, DebuggerError, Lost)):
                raise QemuFailed(f"the guest does not start: {error}") from error
            raise

    def _enter(self, vm: VirtualMachine) -> None:
        link = Link(vm.own)
        deadline = time.monotonic() + BOOT_TIMEOUT
        while link.get("BOOTS") != 1:
            if time.monotonic() > deadline or not vm.alive():
                raise VmDead("CPU 0 does not run the host image")
            time.sleep(1e-3)
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

    @property
    def _live(self) -> VirtualMachine:
        if self._vm is None:
            raise RuntimeError("Machine is used outside of its `with` block")
        return self._vm

    @property
    def _line(self) -> Debugger:
        if self._debugger is None:
            raise RuntimeError("Machine is used outside of its `with` block")
        return self._debugger

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

    def revive(self) -> None:
        """Start QEMU, if a triple fault has ended it."""
        if self._vm is None:
            self.start()

    def _put_back(self) -> None:
        for address, data in self._saved:
            self._live.write(address, data)
        self._line.write_all(HOST_CPU, self._registers)
        self._known = {HOST_CPU: self._registers}
        for number in range(TARGETS):
            self.send_init(number)

    # Running it. Targets have numbers from 0 on, as in the explorer.

    def run(self, cpu: int) -> int:
        """Let a CPU (0: the host's) run on to the next location, and say where that is: its
        linear address. The others stand. Raises Lost."""
        if self.stands_at_string(cpu):  # one step would be one repetition
            here = self.where(cpu)
            self._line.breakpoint(here, wanted=False)
            self._go(cpu)
            self._line.breakpoint(here, wanted=True)
        else:
            self._go(cpu, step=True)
            self._go(cpu)
        return self.where(cpu)

    def run_string(self, cpu: int) -> None:
        """Let a CPU do the string instruction that it stands at, with all repetitions, and no more.

        Raises Lost.
        """
        here = self.where(cpu)
        code = self._live.read(here, MAX_LENGTH)
        # The opcode, of one byte, ends it (SDM vol. 2B "REP").
        behind = here + 1 + next(n for n, byte in enumerate(code) if byte not in PREFIXES)
        for address, wanted in ((here, False), (behind, True)):
            self._line.breakpoint(address, wanted=wanted)
        self._go(cpu)
        for address, wanted in ((here, True), (behind, False)):
            self._line.breakpoint(address, wanted=wanted)

    def stands_at_string(self, cpu: int) -> bool:
        """Whether its next instruction is a repeated string instruction."""
        return self._live.read(self.where(cpu), 1)[0] in REPEATS

    def _go(self, cpu: int, *, step: bool = False) -> None:
        self._known.pop(cpu, None)
        try:
            self._line.go_alone(cpu, step=step)
            if not self._line.stopped(self._patience):
                self._line.pause()
                raise Lost(f"it runs on, and is at {self.where(cpu):#x}")
        except DebuggerError as error:
            shut_down = self._live.ends(ENDING)
            self.stop()
            raise Lost("it shuts the machine down" if shut_down else str(error)) from None

    def where(self, cpu: int) -> int:
        """The linear address of a CPU's next instruction; its code segment is flat, or real."""
        registers = self.registers(cpu)
        real = not registers["cr0"] & CR0_PE
        return registers["rip"] + (registers["cs"] << 4 if real else 0)

    def registers(self, cpu: int) -> dict[str, int]:
        """Of a CPU that stands, and has taken all its INITs."""
        if cpu not in self._known:
            self._known[cpu] = self._line.registers(cpu)
        return self._known[cpu]

    def forget(self) -> None:
        """Registers are asked for anew, also of CPUs that should not have moved."""
        self._known = {}

    def send_init(self, target: int) -> None:
        """INIT to a target. It takes it when it is run next."""
        self._send(target, ICR_INIT)

    def start_target(self, target: int) -> int:
        """SIPI to a target, which takes it, and goes on to its first location: where that is."""
        self._send(target, ICR_SIPI | BASE >> 12)
        self._go(target + 1)
        return self.where(target + 1)

    def _send(self, target: int, command: int) -> None:
        symbols = self._guest.symbols
        before = self.registers(HOST_CPU)
        diverted = {
            "rip": symbols["wires"],
            "rdx": P["LOCAL_APIC"],
            "rdi": target + 1 << 24,
            "rsi": command,
        }
        self._line.write_all(HOST_CPU, before | diverted)
        self._go(HOST_CPU)
        self._line.write_all(HOST_CPU, before)
        self._known[HOST_CPU] = before

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
