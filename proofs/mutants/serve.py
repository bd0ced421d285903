# SPDX-License-Identifier: GPL-2.0-only
"""A worker's process: tries one mutant of a trampoline after another, as it is told by a pipe.

    python -m proofs.mutants.serve PATH/contract.toml FILE_DESCRIPTOR

It says READY when it knows the trampoline as it is. Each answer then is an outcome with the most
memory that the process had so far, in KiB; or why there is none, as a text. It ends when nobody
holds the pipe's other end any more.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

from harness.replay.evidence import Machines
from proofs.mutants.trial import Trial

READY = "ready"


def serve(path: Path, pipe: Connection) -> None:
    """Answer until the pipe ends, or the worker is gone."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with Machines() as machines:
        trial = Trial(path, machines)
        trial.original()  # so that what is proved of it need not be proved of mutants again
        pipe.send(READY)
        while True:
            try:
                task = pipe.recv()
                outcome = task(trial)
            except (EOFError, KeyboardInterrupt):
                return
            except Exception as error:
                pipe.send(f"{type(error).__name__}: {error}")
            else:
                pipe.send((outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def _end_with(worker: int) -> None:
    """Also amid a mutant, which may take for ever. (PR_SET_PDEATHSIG would look at the thread that
    has started this process, and a worker's threads come and go.)"""
    while os.getppid() == worker:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Connection(int(sys.argv[2])))
