# SPDX-License-Identifier: GPL-2.0-only
"""One QEMU process: how it is started, looked into, and ended. It knows nothing of jobs."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qemu.qmp import QMPClient, QMPError

from harness.qemu.debugger import Debugger
from harness.qemu.entry64 import tables_of_small_pages
from harness.qemu.log import Log
from harness.qemu.protocol import HERE, P
from trampoline.errors import UserError

QEMU = "qemu-system-x86_64"
GIB = 1 << 30
QMP_TIMEOUT = 10.0  # seconds
EFER_LMA = 0x400  # SDM 3A 2.2.1


class QemuMissing(UserError):
    """QEMU is not installed."""

    def __init__(self, text: str = "") -> None:
        """Name the program and the package, unless there is a text (of another process)."""
        super().__init__(text or f"{QEMU} not found; install Debian's qemu-system-x86")


class QemuFailed(UserError):
    """QEMU is there but does not start, or ends before the host image is up."""


class VmDead(Exception):
    """The process ended, or does not answer."""


@dataclass(frozen=True)
class CpuState:
    """Where a CPU stands: linear address of its next instruction; whether it is halted; whether it
    is in 64-bit mode."""

    address: int
    halted: bool
    in_64_bit_mode: bool


RESET_VECTOR = 0xFFFFFFF0  # SDM 3A 10.1.4; also where a CPU stands that waits for a SIPI


class VirtualMachine:
    """A PC of `phys_bits` physical address bits with `high` bytes of RAM from 4 GiB on.

    CPU 0, which runs the host image, has all features. `targets`: for each CPU from 1 on those
    that it lacks. `reboot`: whether a triple fault resets the machine; else it ends QEMU. `logs`:
    of the instructions at which linear addresses registers are logged, and all stores with them
    (log.py). `accel`: "tcg", QEMU's own CPU, or "kvm", the host's.
    RAM and ROM are anonymous files that Python shares with QEMU through inherited descriptors; QMP
    and the debugger's line are socket pairs: there is no path to clean up, and when both processes
    are gone, so is all.
    """

    def __init__(
        self,
        rom: bytes,
        phys_bits: int,
        high: int,
        targets: Sequence[frozenset[str]] = (frozenset(),),
        *,
        reboot: bool = True,
        logs: Sequence[range] = (),
        accel: str = "tcg",
    ) -> None:
        """Start QEMU, with the CPUs running `rom`.

        Raises QemuMissing, QemuFailed, AssemblerMissing.
        """
        program = shutil.which(QEMU)
        if program is None:
            raise QemuMissing
        self.log = Log(logs) if logs else None
        self._loop = asyncio.new_event_loop()
        self._qmp = QMPClient("replay")
        self._fds = [os.memfd_create(name) for name in ("rom", "low", "high", "said")]
        self._rom, self._low, self._high, self._said = self._fds
        os.write(self._rom, rom)
        os.ftruncate(self._low, P["LOW_RAM_SIZE"])
        os.ftruncate(self._high, high)
        self.own = mmap.mmap(self._low, P["OWN_SIZE"], offset=P["OWN_BASE"])
        if accel != "tcg":  # some hosts' CPU 0 needs them (firmware.S)
            tables = tables_of_small_pages(P["HOST_TABLES"], P["HIGH_RAM_BASE"] + high)
            at = P["HOST_TABLES"] - P["OWN_BASE"]
            self.own[at : at + len(tables)] = tables
        ours, theirs = socket.socketpair()
        self.gdb, gdb = socket.socketpair()
        ends = theirs.fileno(), gdb.fileno()
        command = [program, *self._arguments(phys_bits, high, targets, accel, *ends)]
        # One host thread for all CPUs: `pause` and `hlt` of one give the next its turn.
        command += ["-accel", f"{accel},thread=single" if accel == "tcg" else accel]
        command += [] if reboot else ["-no-reboot"]
        command += self.log.options(self._low, self._high) if self.log is not None else []
        logged = self.log.descriptors if self.log is not None else ()
        # A session of its own: Ctrl-C at the terminal goes to Python alone, which then ends QEMU.
        self._process = subprocess.Popen(
            [sys.executable, "-IS", str(HERE / "lifeline.py"), str(os.getpid()), *command],
            pass_fds=[*self._fds, *logged, *ends],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
        )
        theirs.close()
        gdb.close()
        try:
            self._wait(self._qmp.connect(ours))
        except BaseException as error:
            ours.close()
            said = self.close()
            if isinstance(error, VmDead):
                why = said.splitlines()[0] if said else str(error)
                raise QemuFailed(f"{program} did not start: {why}") from error
            raise

    def _arguments(
        self,
        phys_bits: int,
        high: int,
        targets: Sequence[frozenset[str]],
        accel: str,
        qmp: int,
        gdb: int,
    ) -> list[str]:
        cpu = f"max,vendor=GenuineIntel,phys-bits={phys_bits}"
        if phys_bits == 40 or any(
            "lm" in lacking for lacking in targets
        ):  # such a CPU without long mode takes no width
            cpu = "max"
        host = ""
        if accel != "tcg":  # else MAXPHYADDR is the host's, and some hosts take not all of "max"
            host = f",host-phys-bits=off,phys-bits={phys_bits},arch-capabilities=off"
            cpu = f"max{host}"
        devices = []
        for number, lacking in enumerate(targets, 1):
            off = host + "".join(f",{flag}=off" for flag in sorted(lacking))
            place = f"socket-id={number},core-id=0,thread-id=0"
            devices += ["-device", f"max-x86_64-cpu,{place}{off}"]
        sockets = 1 + len(targets)
        low = P["LOW_RAM_SIZE"]
        file = "share=on,prealloc=off,reserve=off,mem-path=/proc/self/fd"
        return [
            *("-no-user-config", "-nodefaults", "-display", "none", "-nic", "none"),
            *("-cpu", cpu, "-smp", f"1,sockets={sockets},maxcpus={sockets}", *devices),
            *("-M", "pc,memory-backend=low,smm=off,hpet=off,vmport=off,usb=off"),
            # Room for the DIMM to be aligned to 1 GiB.
            *("-m", f"size={low}B,slots=1,maxmem={low + high + GIB}B"),
            *("-object", f"memory-backend-file,id=low,size={low}B,{file}/{self._low}"),
            *("-object", f"memory-backend-file,id=high,size={high}B,{file}/{self._high}"),
            *("-device", f"pc-dimm,memdev=high,addr={P['HIGH_RAM_BASE']:#x}"),
            *("-bios", f"/proc/self/fd/{self._rom}"),
            *("-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"),
            *("-chardev", f"socket,id=gdb,fd={gdb}"),
        ]

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes of RAM from physical `address` on."""
        if address >= P["HIGH_RAM_BASE"]:
            return os.pread(self._high, size, address - P["HIGH_RAM_BASE"])
        return os.pread(self._low, size, address)

    def write(self, address: int, data: bytes) -> None:
        """Write to low RAM. Code that a CPU has run already must stay the same."""
        os.pwrite(self._low, data, address)

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def ends(self, timeout: float) -> bool:
        """Whether the process has ended, or does in `timeout` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def cpu_seconds(self) -> float:
        """Return the processor time that QEMU has used, user and system."""
        try:
            with open(f"/proc/{self._process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError as error:
            raise VmDead("QEMU ended") from error
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5)

    def without(self, features: Collection[str], index: int) -> frozenset[str]:
        """Those of the features, by QEMU's names, that a CPU does not have: with "kvm" it has no
        more than the host's KVM gives. Raises VmDead."""
        cpus: Any = self._wait(self._qmp.execute("query-cpus-fast"))
        path = next(cpu["qom-path"] for cpu in cpus if cpu["cpu-index"] == index)
        return frozenset(
            feature
            for feature in features
            if not self._wait(self._qmp.execute("qom-get", {"path": path, "property": feature}))
        )

    def registers(self, index: int) -> str:
        """QEMU's dump of all registers of a CPU. Raises VmDead."""
        arguments = {"command-line": "info registers", "cpu-index": index}
        return str(self._wait(self._qmp.execute("human-monitor-command", arguments)))

    def cpu(self, index: int) -> CpuState:
        """Look at a CPU. Raises VmDead."""
        text = self.registers(index)
        fields = dict(re.findall(r"\b([RE]IP|HLT|EFER)=([0-9a-f]+)", text))
        code = re.search(r"^CS =[0-9a-f]+ ([0-9a-f]+)(.*)", text, re.MULTILINE)
        counter = fields.get("RIP") or fields.get("EIP")
        if code is None or counter is None:
            raise VmDead(f"QEMU's register dump is not understood: {text[:80]!r}")
        long = bool(int(fields["EFER"], 16) & EFER_LMA) and "CS64" in code[2]
        return CpuState(int(code[1], 16) + int(counter, 16), fields["HLT"] == "1", long)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """No CPU runs meanwhile, and none is in the middle of anything. Raises VmDead."""
        self._wait(self._qmp.execute("stop"))
        yield
        self._wait(self._qmp.execute("cont"))

    @cached_property
    def high_ram(self) -> int:
        """QEMU's number, in all its RAM, for the first byte of high RAM. Raises VmDead."""
        command = {"command-line": "info ramblock"}
        text = str(self._wait(self._qmp.execute("human-monitor-command", command)))
        found = re.search(r"^\s*high\s.*?(0x[0-9a-f]+)", text, re.MULTILINE)
        if found is None:
            raise VmDead(f"QEMU's list of RAM is not understood: {text[:80]!r}")
        return int(found[1], 16)

    @cached_property
    def debugger(self) -> Debugger:
        """QEMU's debugger, attached when first asked for; that stops all CPUs."""
        command = {"command-line": "gdbserver chardev:gdb"}
        self._wait(self._qmp.execute("human-monitor-command", command))
        return Debugger(self.gdb)

    def paused(self) -> Debugger:
        """The debugger, with all CPUs stopped. Raises VmDead, DebuggerError."""
        if "debugger" in self.__dict__:
            self.debugger.pause()
        return self.debugger

    def close(self) -> str:
        """End the process, free everything; return what QEMU wrote to standard error."""
        self._process.kill()
        self._process.wait()
        said = os.pread(self._said, 4096, 0).decode(errors="replace").strip()
        with suppress(VmDead):  # the usual answer of a connection whose peer was killed
            self._wait(self._qmp.disconnect())
        self._loop.close()
        self.gdb.close()
        self.own.close()
        for fd in self._fds:
            os.close(fd)
        if self.log is not None:
            self.log.close()
        return said

    def _wait(self, coroutine: Coroutine[Any, Any, object]) -> object:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(coroutine, QMP_TIMEOUT))
        except (QMPError, OSError, EOFError) as error:
            raise VmDead(f"QMP: {error}") from error
        except AssertionError as error:
            if _follows_interrupt(error):  # the library's own: Ctrl-C came while it connected
                raise KeyboardInterrupt from None
            raise


def _follows_interrupt(error: BaseException | None) -> bool:
    """It was raised while a KeyboardInterrupt was handled."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
