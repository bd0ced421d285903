# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's debugger: stop a CPU at an instruction, run one while the others stand, change registers.

The GDB remote protocol (GDB manual, appendix E) over a connected socket, the few packets needed.
The packages for it are not maintained, and gdb itself would be one more program to install.
"""

from __future__ import annotations

import re
import socket
import time

GENERAL = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()
"""In the order of QEMU's target description (i386-64bit.xml); RIP comes next. 8 bytes each."""
_THREAD = re.compile(rb"thread:p[0-9a-f]+\.([0-9a-f]+);")
_CS, _CR0 = 17 * 8 + 4, 17 * 8 + 7 * 4 + 3 * 8  # behind RIP, EFLAGS, six selectors, three bases
_PART = 0x400  # bytes of memory in one packet; QEMU takes 4096 characters
ANSWER_TIMEOUT = 5.0  # seconds
INTERRUPT = b"\x03"
HARDWARE = "1"  # breakpoint type: no byte of memory is changed


class DebuggerError(Exception):
    """QEMU's debugger answers nothing, or not what the protocol says."""


class Debugger:
    """One end of the connection. QEMU pauses all CPUs when the debugger is attached."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a machine that is paused. Raises DebuggerError."""
        self._socket = connection
        self._received = b""
        self._selected: int | None = None
        self._ask("qSupported:multiprocess+")
        self._ask("qXfer:features:read:target.xml:0,ffb")  # before it P is not understood

    def go(self) -> None:
        """Let all CPUs run on."""
        self._send("vCont;c")

    def go_alone(self, cpu: int, *, step: bool = False) -> None:
        """Let one CPU (from 0) run on, or do one instruction, which no breakpoint stops."""
        self._send(f"vCont;{'s' if step else 'c'}:p1.{cpu + 1:x}")

    def pause(self) -> None:
        """Stop all CPUs. Raises DebuggerError."""
        self._write(INTERRUPT)
        self._selected = None
        try:
            self._receive(ANSWER_TIMEOUT)
        except TimeoutError as error:
            raise DebuggerError("the CPUs do not stop") from error

    def breakpoint(self, linear: int, *, wanted: bool) -> None:
        """Set or remove a breakpoint at a linear address, for all CPUs, while they are stopped."""
        self._expect(f"{'Z' if wanted else 'z'}{HARDWARE},{linear:x},1")

    def stopped(self, timeout: float) -> bool:
        """Wait until a CPU has met a breakpoint; whether one has, in `timeout` seconds.

        Raises DebuggerError, too if QEMU ends.
        """
        try:
            answer = self._receive(timeout)
        except TimeoutError:
            return False
        if answer.startswith(b"W"):
            raise DebuggerError("QEMU ended")
        stopped = _THREAD.search(answer)  # QEMU then speaks of this CPU
        self._selected = int(stopped[1], 16) - 1 if stopped else None
        return True

    def registers(self, cpu: int) -> dict[str, int]:
        """The general registers and RIP of a stopped CPU (from 0), 64 bits each; CS and CR0."""
        self._select(cpu)
        data = bytes.fromhex(self._ask("g").decode())
        places = {name: (8 * number, 8) for number, name in enumerate([*GENERAL, "rip"])}
        places |= {"cs": (_CS, 4), "cr0": (_CR0, 8)}
        return {
            name: int.from_bytes(data[at : at + size], "little")
            for name, (at, size) in places.items()
        }

    def write_all(self, cpu: int, registers: dict[str, int]) -> None:
        """Set all general registers and RIP of a stopped CPU; it must be in 64-bit mode."""
        self._select(cpu)
        data = b"".join(registers[name].to_bytes(8, "little") for name in [*GENERAL, "rip"])
        self._expect(f"G{data.hex()}")

    def write(self, cpu: int, name: str, value: int) -> None:
        """Set a general register of a stopped CPU to 64 bits.

        Outside of 64-bit mode QEMU sets the lower half, of the first eight, and clears the upper.
        """
        self._select(cpu)
        self._expect(f"P{GENERAL.index(name):x}={value.to_bytes(8, 'little').hex()}")

    def write_rflags(self, cpu: int, value: int) -> None:
        """Set RFLAGS of a stopped CPU, 32 bits, in any mode."""
        self._select(cpu)
        self._expect(f"P{len(GENERAL) + 1:x}={value.to_bytes(4, 'little').hex()}")

    def write_memory(self, cpu: int, address: int, data: bytes) -> None:
        """Write as this stopped CPU addresses memory. Code may change: QEMU translates it anew."""
        self._select(cpu)
        for start in range(0, len(data), _PART):
            part = data[start : start + _PART]
            self._expect(f"M{address + start:x},{len(part):x}:{part.hex()}")

    def _select(self, cpu: int) -> None:
        if cpu != self._selected:
            self._expect(f"Hgp1.{cpu + 1:x}")
            self._selected = cpu

    def _expect(self, packet: str) -> None:
        if (answer := self._ask(packet)) != b"OK":
            raise DebuggerError(f"{packet}: {answer!r}")

    def _ask(self, packet: str) -> bytes:
        self._send(packet)
        try:
            return self._receive(ANSWER_TIMEOUT)
        except TimeoutError as error:
            raise DebuggerError(f"{packet}: no answer") from error

    def _send(self, packet: str) -> None:
        data = packet.encode()
        self._write(b"$%s#%02x" % (data, sum(data) & 0xFF))

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise DebuggerError("the connection ended") from error

    def _receive(self, timeout: float) -> bytes:
        """The next packet, acknowledged. Raises TimeoutError, DebuggerError."""
        deadline = time.monotonic() + timeout
        while True:
            start = self._received.find(b"$")
            end = self._received.find(b"#", start)
            if 0 <= start < end and end + 3 <= len(self._received):
                packet = self._received[start + 1 : end]
                self._received = self._received[end + 3 :]
                self._write(b"+")
                return packet
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                more = b""
            if not more:
                raise DebuggerError("the connection ended")
            self._received += more
