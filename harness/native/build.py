# SPDX-License-Identifier: GPL-2.0-only
"""Links a host's compiled object with a platform into a program that runs on this CPU."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from elftools.elf.elffile import ELFFile

from trampoline.assemble import INCLUDE_FOLDER
from trampoline.elf_structs import read_structs
from trampoline.errors import UserError
from trampoline.host_object import HOST_FOLDER, STRUCTS, HostObject

HERE = Path(__file__).parent
_FLAGS = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-fno-pie")


class NativeError(UserError):
    """The host's object cannot be run on this machine, or did not run to its end."""


def build(host: HostObject, target: Path) -> None:
    """Link the program for one host into the file `target`. Raises NativeError."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        raise NativeError(f"{host.name}: runs on x86-64 Linux only; replay it there.")
    around, object_file = target.with_suffix(".platform.o"), target.with_suffix(".host.o")
    object_file.write_bytes(host.elf)
    includes = [f"-I{one}" for one in (HERE, HOST_FOLDER / "include", INCLUDE_FOLDER)]
    sources = map(str, sorted(HERE.glob("*.c")))
    _gcc(host, *_FLAGS, *includes, "-r", "-nostdlib", *sources, "-o", str(around))
    _check_layout(host, around)
    # The host's object is compiled for a fixed place, so the program has one.
    parts = (str(around), str(object_file))
    _gcc(host, "-no-pie", "-z", "noexecstack", *parts, "-o", str(target))


def _gcc(host: HostObject, *arguments: str) -> None:
    try:
        done = subprocess.run(
            ["gcc", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise NativeError(f"{host.name}: cannot be run without gcc; install gcc.") from None
    if done.returncode != 0:
        errors = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        problem = (errors or ["gcc failed without a message"])[0].rstrip(".")
        raise NativeError(f"{host.name}: does not fit the platform of replays: {problem}.")


def _check_layout(host: HostObject, around: Path) -> None:
    """Platform and object must agree on the structures, or the platform would misread memory."""
    with around.open("rb") as file:
        here = read_structs(ELFFile(file))
    for name in STRUCTS:
        if name in here and here[name] != host.structs[name]:
            raise NativeError(
                f"{host.name}: struct {name} is laid out in another way than in "
                f"{HOST_FOLDER / 'include' / 'host.h'}; replay with that header."
            )
