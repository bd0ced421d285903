# SPDX-License-Identifier: GPL-2.0-only
"""QEMU with three CPUs that do nothing by themselves: one at a time runs, as far as it is told.

INIT and SIPI are sent by CPU 0's own local APIC, for real, at the moment that a schedule says:
CPU 0 is diverted for that, and put back. CPUs 1 and 2 are targets.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from harness.qemu import firmware
from harness.qemu.debugger import Debugger, DebuggerError
from harness.qemu.link import Link
from harness.qemu.protocol import P
from harness.qemu.vm import QemuFailed, VirtualMachine, VmDead

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


class Stepper:
    """The three CPUs. Use it as a context manager. `area`: page-aligned address of the image, where
    a SIPI starts the targets; `phys_bits`: MAXPHYADDR."""

    def __init__(self, area: int, patience: float = PATIENCE, phys_bits: int = 40) -> None:
        """QEMU is started on entry."""
        self._area = area
        self._phys_bits = phys_bits
        self._patience = patience
        self._vm: VirtualMachine | None = None
        self._debugger: Debugger | None = None
        self._known: dict[int, dict[str, int]] = {}  # registers of CPUs that stand since then

    def __enter__(self) -> Self:
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
        """Start QEMU, and let CPU 0 come to where it waits. Raises QemuMissing, QemuFailed."""
        lacking = (frozenset[str](),) * TARGETS
        vm = VirtualMachine(firmware.rom(), self._phys_bits, PAGE, lacking, reboot=False)
        self._vm = vm
        try:
            link = Link(vm.own)
            deadline = time.monotonic() + BOOT_TIMEOUT
            while link.get("BOOTS") != 1:
                if time.monotonic() > deadline or not vm.alive():
                    raise VmDead("CPU 0 does not run the host image")
                time.sleep(1e-3)
            self._enter(vm, link)
        except BaseException as error:
            self.stop()
            if isinstance(error, (VmDead, DebuggerError, Lost)):
                raise QemuFailed(f"the guest does not start: {error}") from error
            raise

    def revive(self) -> None:
        """Start QEMU, if a triple fault has ended it."""
        if self._vm is None:
            self.start()

    def _enter(self, vm: VirtualMachine, link: Link) -> None:
        """Have CPU 0 leave the host image for where it waits, and stop it there."""
        raise NotImplementedError

    def _wires(self) -> int:
        """The address of wires.S."""
        raise NotImplementedError

    @property
    def _live(self) -> VirtualMachine:
        if self._vm is None:
            raise RuntimeError("the machine is used outside of its `with` block")
        return self._vm

    @property
    def _line(self) -> Debugger:
        if self._debugger is None:
            raise RuntimeError("the machine is used outside of its `with` block")
        return self._debugger

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
        """The linear address of a CPU's next instruction; its code segment is flat, or that of the
        SIPI: in real mode, and after it up to the far jump."""
        registers = self.registers(cpu)
        real = not registers["cr0"] & CR0_PE or registers["cs"] == self._area >> 4
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
        self._send(target, ICR_SIPI | self._area >> 12)
        self._go(target + 1)
        return self.where(target + 1)

    def _send(self, target: int, command: int) -> None:
        before = self.registers(HOST_CPU)
        diverted = {
            "rip": self._wires(),
            "rdx": P["LOCAL_APIC"],
            "rdi": target + 1 << 24,
            "rsi": command,
        }
        self._line.write_all(HOST_CPU, before | diverted)
        self._go(HOST_CPU)
        self._line.write_all(HOST_CPU, before)
        self._known[HOST_CPU] = before
