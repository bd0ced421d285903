# SPDX-License-Identifier: GPL-2.0-only
"""Runs a host's functions in a child process, and returns what happened, in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.native.build import NativeError, build
from trampoline.host_object import HostObject

SECONDS = 5  # for one run; one takes a few milliseconds

Event = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """Lines of a run, in order: calls of the platform, and the functions that were called.

    Numbers are unsigned, as the host's functions were given them; results signed.
    """

    events: tuple[Event, ...]

    def did(self, function: str) -> list[Event]:
        """The ends of a function, by its name without "multikernel_"."""
        return [event for event in self.events if event.get("did") == function]

    def calls(self, name: str) -> list[Event]:
        """The calls of a function of the platform."""
        return [event for event in self.events if event.get("call") == name]

    @property
    def changed(self) -> list[tuple[int, int]]:
        """Physical memory that the functions changed: first byte, first byte behind."""
        return [(first, end) for e in self.events for first, end in e.get("changed", ())]


class Native:
    """The program for one host. Use it as a context manager."""

    def __init__(self, host: HostObject) -> None:
        self.host = host

    def __enter__(self) -> Native:
        """Raises NativeError."""
        self._folder = tempfile.TemporaryDirectory(prefix="native-")
        self._program = Path(self._folder.name) / "host"
        try:
            build(self.host, self._program)
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the program."""
        self._folder.cleanup()

    def run(self, lines: tuple[str, ...], seconds: int = SECONDS) -> Record:
        """Do what the lines say (play.c), in a process of its own. Raises NativeError.

        The child ends with this thread, and after so many seconds, by its own request to Linux.
        """
        try:
            done = subprocess.run(
                [self._program, str(os.getpid()), str(seconds)],
                input="".join(f"{line}\n" for line in lines),
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * seconds,  # should its own limit fail
            )
        except subprocess.TimeoutExpired:
            raise NativeError(f"{self.host.name}: did not end within {2 * seconds} s.") from None
        events = tuple(json.loads(line) for line in done.stdout.splitlines() if line[-1:] == "}")
        problems = [event["problem"] for event in events if "problem" in event]
        if problems:
            raise NativeError(f"{self.host.name}: cannot be played: {problems[0]}.")
        if done.returncode != 0:
            raise NativeError(f"{self.host.name}: {_end(done.returncode, seconds)}{_last(events)}.")
        return Record(events)


def _end(code: int, seconds: int) -> str:
    if code == -signal.SIGALRM:
        return f"did not end within {seconds} s"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _last(events: tuple[Event, ...]) -> str:
    """The last thing that is known of a run."""
    if not events:
        return " before anything was recorded"
    last = events[-1]
    if "did" in last:
        return f" after {last['did']} had returned {last['result']}"
    return f" after it called {last['call']}({', '.join(map(hex, last['arguments']))})"
