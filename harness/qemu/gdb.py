# SPDX-License-Identifier: GPL-2.0-only
"""gdb on a machine that stands still: our end of QEMU's debugger is passed on to it."""

from __future__ import annotations

import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.qemu.vm import VirtualMachine
from trampoline.errors import UserError

GDB = "gdb"
SOCKET = "qemu"
SHORT = 80  # characters
_LOOK_EVERY = 0.1  # seconds between two looks whether gdb has ended
_PART = 0x10000  # bytes


class GdbMissing(UserError):
    """gdb is not installed."""

    def __init__(self) -> None:
        """Name the program and the package."""
        super().__init__(f"{GDB} not found; install Debian's gdb")


def check() -> None:
    """Raises GdbMissing."""
    if shutil.which(GDB) is None:
        raise GdbMissing


def debug(vm: VirtualMachine, cpu: int, before: Sequence[str], arguments: Sequence[str]) -> int:
    """Run gdb, at this terminal, on a machine whose CPUs stand; return its exit status.

    It looks at one CPU, from 0. `before`: its commands before it is connected. `arguments`: more of
    its own. Raises GdbMissing.
    """
    check()
    with (
        tempfile.TemporaryDirectory(prefix="gdb-", dir=_short()) as folder,
        _listening(folder) as at,
    ):
        # At first QEMU names one CPU and shows the registers of another one, which gdb keeps.
        first = (
            f"target remote {folder}/{SOCKET}",
            f"thread {cpu or 2}",
            "maintenance flush register-cache",
        )
        quietly = [f"pipe {command} | cat >/dev/null" for command in first]
        commands = [*before, *quietly, f"thread {cpu + 1}"]
        options = [option for command in commands for option in ("-ex", command)]
        with _interrupts_left_to_gdb():
            gdb = subprocess.Popen([GDB, "-q", *options, *arguments])
            try:
                _pass_on(gdb, at, vm.gdb)
                return gdb.wait()
            finally:
                gdb.kill()
                gdb.wait()


def _short() -> str | None:
    """A folder whose name leaves room for that of a socket (unix(7)); None: the usual one."""
    return "/tmp" if len(tempfile.gettempdir()) > SHORT or " " in tempfile.gettempdir() else None


@contextmanager
def _listening(folder: str) -> Iterator[socket.socket]:
    """A socket that nobody else may open: QEMU's monitor is behind it."""
    with socket.socket(socket.AF_UNIX) as at:
        at.bind(f"{folder}/{SOCKET}")
        at.listen(1)
        yield at


@contextmanager
def _interrupts_left_to_gdb() -> Iterator[None]:
    """Ctrl-C at the terminal reaches both: gdb stops the CPUs on it, and nothing ends here."""
    held = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, held)


def _pass_on(gdb: subprocess.Popen[bytes], at: socket.socket, qemu: socket.socket) -> None:
    """All bytes both ways, until gdb has ended or either end is closed."""
    at.settimeout(_LOOK_EVERY)
    while gdb.poll() is None:
        try:
            connection, _ = at.accept()
        except TimeoutError:
            continue
        with connection, selectors.DefaultSelector() as selector:
            connection.setblocking(True)
            qemu.setblocking(True)
            selector.register(connection, selectors.EVENT_READ, qemu)
            selector.register(qemu, selectors.EVENT_READ, connection)
            while gdb.poll() is None:
                for key, _ in selector.select(_LOOK_EVERY):
                    data = key.fileobj.recv(_PART)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)
