# SPDX-License-Identifier: GPL-2.0-only
"""Mutants are tried by workers of a Dask cluster: one on this machine, or any other.

Each worker keeps a process that tries one mutant after another. Whatever a mutant does to that, or
if it does not come to an end, the process is replaced and the campaign goes on.
"""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, TypeVar, cast

from distributed import Client, LocalCluster, as_completed, get_worker

from proofs.mutants.kinds import Change
from proofs.mutants.trial import Outcome, Trial
from reports.fingerprint import ROOT, fingerprint, shown
from trampoline.errors import UserError

UNDECIDED = "UNDECIDED"
MEMORY = 3 << 20
"""In KiB: a process that has grown to this is replaced."""
PATIENCE = 30.0
"""Seconds to reach a scheduler."""
Job = TypeVar("Job")
Task = Callable[[Trial], Outcome]


@dataclass(eq=False)
class _Process:
    """A process of a worker's own, which knows one trampoline (`serve`)."""

    path: Path
    process: subprocess.Popen[bytes]
    pipe: Any  # multiprocessing.connection.Connection, which has a type on each platform

    running: ClassVar[set[_Process]] = set()
    stopping: ClassVar[Lock] = Lock()

    @classmethod
    def started(cls, path: Path) -> _Process:
        ours, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-m", "proofs.mutants.serve", str(path), str(theirs.fileno())]
        process = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        started = cls(path, process, ours)
        cls.running.add(started)
        try:
            ours.recv()  # it knows the trampoline; how long that takes is no mutant's fault
        except EOFError:
            started.stop()
            raise
        return started

    def ask(self, task: Task, limit: float) -> Outcome:
        """Raises EOFError if the process dies, TimeoutError if it does not answer."""
        self.pipe.send(task)
        if not self.pipe.poll(limit):
            raise TimeoutError
        answer = self.pipe.recv()
        if isinstance(answer, str):
            return Outcome(UNDECIDED, "", answer, (), 0.0)
        outcome, grown = answer
        if grown > MEMORY:
            self.stop()
        return cast(Outcome, outcome)

    def stop(self) -> None:
        """End it, whatever it does; also when the worker and whoever ends the campaign, in
        threads of their own, do so at once."""
        with self.stopping:
            self.running.discard(self)
            self.process.kill()
            self.process.wait()
            self.pipe.close()


def _on_worker(path: str, task: Task, limit: float, mark: str) -> Outcome:
    """On a worker, whose copy of the project must be the same as where the campaign was begun."""
    worker: Any = get_worker()
    place = ROOT / path
    if fingerprint(contracts=[place]) != mark:  # each time: they may change while it goes on
        raise UserError(
            f"The worker at {worker.address} has other files of the project below {ROOT} than the "
            "campaign began with; let nobody change them, and give all workers the same checkout."
        )
    process: _Process | None = getattr(worker, "mutants", None)
    if process is not None and (process.path != place or process.process.poll() is not None):
        process.stop()
        process = None
    try:
        if process is None:
            process = worker.mutants = _Process.started(place)
        return process.ask(task, limit)
    except (EOFError, OSError) as error:  # a TimeoutError is one, too
        if process is not None:
            process.stop()
        late = isinstance(error, TimeoutError)
        why = f"not decided within {limit:g} s" if late else "its process died"
        return Outcome(UNDECIDED, "", why, (), limit if late else 0.0)


@contextmanager
def cluster(jobs: int, scheduler: str | None) -> Iterator[Client]:
    """Workers of this machine, `jobs` of them; or those of the scheduler at an address."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is None:
        with (
            LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                processes=False,
                dashboard_address="127.0.0.1:0",
            ) as local,
            Client(local) as client,
        ):
            try:
                yield client
            finally:
                for process in list(_Process.running):  # a worker may wait for one
                    process.stop()
        return
    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise UserError(f"{scheduler}: no Dask scheduler answers ({error}).") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise UserError(f"{scheduler}: it has no workers; start some: dask worker {scheduler}")
        yield client


def tried(
    client: Client,
    path: Path,
    jobs: Sequence[tuple[Job, Task]],
    limit: float,
    until: float | None = None,
) -> Iterator[tuple[Job, Outcome]]:
    """Each job with its outcome, as they come; UNDECIDED after `limit` seconds.

    `path`: of the contract. What is not begun `until` a time
    of the monotonic clock, is left out.
    """
    path = path.resolve()
    mark = fingerprint(contracts=[path])
    run = partial(_on_worker, shown(path), limit=limit, mark=mark)
    futures = {client.submit(run, task, pure=False): job for job, task in jobs}
    try:
        for future in as_completed(list(futures)):
            yield futures[future], future.result()
            if until is not None and time.monotonic() > until:
                return
    finally:
        client.cancel(list(futures))


def of(change: Change, without: str = "") -> Task:
    """The task to try a mutant by all claims, but for one."""
    return partial(_of, change, without)


def _of(change: Change, without: str, trial: Trial) -> Outcome:
    return trial.of(change, without)
