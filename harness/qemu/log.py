# SPDX-License-Identifier: GPL-2.0-only
"""What the target CPU does, instruction by instruction, as QEMU logs it.

QEMU writes all registers before each instruction ("-d cpu" with "-singlestep"; QEMU, System
Emulation, "Invocation"), and which exception it raises ("-d int", which tells of the timer of
CPU 0, too); the plugin stores.c adds each store behind the instruction that makes it. Registers can
be logged of the instructions at some addresses only; of those in ROM, which CPU 0 runs and the
target CPU on its way to a 64-bit entry, they never are.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.qemu.firmware import AssemblerMissing
from harness.qemu.protocol import HERE, P

_PLUGIN = HERE / "stores.c"
_FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pipe")
_ADDRESSES = 1 << 52  # the physical ones that there can be: all that is executed lies there


def _outside_rom() -> tuple[range, ...]:
    below, above = P["ROM_BELOW_1_MIB"], P["ROM_BASE"]
    size = P["ROM_SIZE"]
    return range(below), range(below + size, above), range(above + size, _ADDRESSES)


EVERYWHERE = _outside_rom()
"""Linear addresses of all instructions of which registers can be logged."""


@dataclass(frozen=True)
class Logged:
    """The log of one job. `high`: QEMU's number, in all its RAM, for the first byte of high RAM."""

    text: bytes
    high: int

    def physical(self, ram: int) -> int:
        """The physical address of a byte of RAM by QEMU's number for it. Low RAM comes first."""
        return ram if ram < self.high else ram - self.high + P["HIGH_RAM_BASE"]


class Log:
    """A log of one QEMU, in anonymous memory, and the plugin that adds to it."""

    def __init__(self, of: Sequence[range]) -> None:
        """Compile the plugin. `of`: linear addresses of the instructions of which registers are
        logged, part of EVERYWHERE. Raises AssemblerMissing.
        """
        self._of = of
        self._plugin = os.memfd_create("plugin")
        self._file = os.memfd_create("log")
        self._read = 0
        try:
            _compile(_PLUGIN, self._plugin)
        except BaseException:
            self.close()
            raise

    @property
    def descriptors(self) -> tuple[int, int]:
        """Open files that QEMU must inherit."""
        return self._plugin, self._file

    def options(self, low: int, high: int) -> list[str]:
        """For QEMU's command line. `low` and `high`: descriptors of the files behind RAM."""
        return [
            *("-singlestep", "-d", "cpu,int,nochain,plugin", "-D", f"/proc/self/fd/{self._file}"),
            *("-dfilter", ",".join(f"{p.start:#x}..{p.stop - 1:#x}" for p in self._of)),
            *("-plugin", f"/proc/self/fd/{self._plugin},low={low},high={high}"),
        ]

    def take(self) -> bytes:
        """What was logged since this was last asked for. The pages that it took are given back.

        No CPU may run meanwhile, or the last record may lack its end.
        """
        size = os.fstat(self._file).st_size
        first = self._read & -mmap.PAGESIZE
        if size == first:
            return b""
        with mmap.mmap(self._file, size - first, offset=first) as part:
            text = part[self._read - first :]
            if whole := len(part) & -mmap.PAGESIZE:
                part.madvise(mmap.MADV_REMOVE, 0, whole)
        self._read = size
        return text

    def close(self) -> None:
        """Free both files."""
        os.close(self._plugin)
        os.close(self._file)


def _compile(source: Path, target: int) -> None:
    """Compile a plugin into an open file. Raises AssemblerMissing."""
    out = f"/proc/self/fd/{target}"
    try:
        done = subprocess.run(
            ["gcc", *_FLAGS, "-o", out, str(source)],
            pass_fds=[target],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise AssemblerMissing("gcc not found; install Debian's gcc and binutils") from None
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
