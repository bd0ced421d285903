# SPDX-License-Identifier: GPL-2.0-only
"""The machine for CPUs that are started in one image: two of them, and nothing else runs.

CPU 0 only sends INIT and SIPI. What the host prepares is there from the start. A kernel gives the
lock back, if there is one, when a schedule says so, and halts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.qemu import firmware
from harness.qemu.link import Link
from harness.qemu.protocol import P
from harness.qemu.vm import VirtualMachine
from harness.schedule import stepper
from harness.schedule.stepper import HOST_CPU, PATIENCE, TARGETS, Lost, Stepper
from models.at_once import FREE

WIRES = Path(stepper.__file__).parent / "guest" / "wires.S"
GIVE_BACK = bytes((0xC7, 0x04, 0x25))
"""movl of an immediate to a 32-bit address, in 64-bit code; address and immediate follow."""
HALT = bytes((0xF4, 0xEB, 0xFD))
"""hlt, and back to it."""


@dataclass(frozen=True)
class Scene:
    """What lies in memory before the first start. Physical addresses, which linear ones equal.

    `area`: of the image; `parts`: address and bytes of all that is put there, the image included;
    `kernel`: where both CPUs arrive; `lock`: of the lock; None: there is none. `phys_bits`:
    MAXPHYADDR.
    """

    area: int
    parts: tuple[tuple[int, bytes], ...]
    kernel: int
    lock: int | None
    phys_bits: int


class Machine(Stepper):
    """Two CPUs and an image. Use it as a context manager."""

    def __init__(self, scene: Scene, patience: float = PATIENCE) -> None:
        """QEMU is started on entry."""
        super().__init__(scene.area, patience, scene.phys_bits)
        self.scene = scene
        store = b""
        if scene.lock is not None:
            store = GIVE_BACK + scene.lock.to_bytes(4, "little") + FREE.to_bytes(4, "little")
        self.left = scene.kernel + len(store)
        """Where a kernel halts that has left the image."""
        self._parts = [*scene.parts, (scene.kernel, store + HALT)]
        self._breakpoints: set[int] = set()

    def _wires(self) -> int:
        return P["STAGE"]

    def _enter(self, vm: VirtualMachine, link: Link) -> None:
        wires = firmware.assemble(WIRES)
        vm.write(self._wires(), wires.code)
        for address, data in self._parts:
            vm.write(address, data)
        end = self._wires() + wires.labels["wires_end"]
        debugger = self._debugger = vm.debugger
        self._breakpoints = set()
        debugger.breakpoint(end, wanted=True)
        link.enter(1, end)
        debugger.go()
        if not debugger.stopped(self._patience) or self.where(HOST_CPU) != end:
            raise Lost("CPU 0 does not come to where it waits")

    def restore(self) -> None:
        """Memory is as before the first start; both CPUs wait, whatever they did."""
        self.revive()
        for address, data in self._parts:
            held = self._live.read(address, len(data))
            for start in range(0, len(data), stepper.PAGE):
                part = data[start : start + stepper.PAGE]
                if held[start : start + stepper.PAGE] != part:
                    self._line.write_memory(HOST_CPU, address + start, part)
        self.stop_at(set())
        for number in range(TARGETS):
            self.send_init(number)
        self.forget()

    def run(self, cpu: int) -> int:
        """Let a CPU run on to where it is to stop, one instruction at least, and say where that is:
        its linear address. The others stand. Raises Lost."""
        if self.where(cpu) in self._breakpoints or not self.stands_at_string(cpu):
            return super().run(cpu)
        self._go(cpu)
        return self.where(cpu)

    def stop_at(self, places: set[int]) -> None:
        """From now on CPUs stop at these linear addresses, and at no others."""
        for address in self._breakpoints - places:
            self._line.breakpoint(address, wanted=False)
        for address in places - self._breakpoints:
            self._line.breakpoint(address, wanted=True)
        self._breakpoints = set(places)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of physical memory."""
        return self._live.read(address, size)
