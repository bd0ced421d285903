# SPDX-License-Identifier: GPL-2.0-only
"""Everything at full depth: the proofs, and each check on the suite itself; then the page.

    python -m proofs.nightly [--only STAGE]

A stage that fails does not keep the others from running. What a stage has found stays: a night that
was interrupted goes on where it stopped, and starts anew when anything in the project changed.
Exit status: 0 all is as expected, and as in the last night; 1 something was found, or has changed
(but for times); 2 some stage could not be run, or something not be decided; 3 a contradiction: two
solvers disagree, or QEMU does something else than was proved.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console

from harness.lockstep import kvm
from harness.record import ClaimRecord
from reports.causes import PROVED, REFUTED
from reports.files import OUT, ReportError, read_all, write_atomically
from reports.fingerprint import ROOT, fingerprint
from reports.guards import read_guards
from reports.nights import Entry, keep
from reports.summary import is_contradicted
from trampoline.errors import UserError

FOLDER = "nightly"
"""Below that of the verdict files."""
FILE = f"{FOLDER}/stages.json"
LOCK = f"{FOLDER}/lock"
FOUND = 1
NOT_RUN = 2
CONTRADICTION = 3


class Stage(NamedTuple):
    """One command: 0 if all is as expected, 1 if it has found something, else it was not run.

    `guard`: name of what it leaves for the page; without that, whole, it was not run, whatever its
    exit status.
    """

    name: str
    module: str
    options: tuple[str, ...] = ()
    guard: str = ""

    @property
    def command(self) -> list[str]:
        """As it is started."""
        return [sys.executable, "-m", self.module, *self.options]


KVM = "lock-step-kvm"
"""The guard that only a host with KVM can leave."""
PROVE = ("proofs/", "-q", "-n", "auto", "--safe-sets", "--second-solver")
STAGES = (
    Stage("proofs", "pytest", PROVE),
    Stage("needed", "proofs.needed", guard="needed"),
    Stage("rules of the models", "tests.models", guard="model-rules"),
    Stage("single instructions", "harness.lockstep", ("--single",), "lock-step-single"),
    Stage(
        "single instructions beside QEMU",
        "harness.lockstep",
        ("--single", "--qemu"),
        "lock-step-single-qemu",
    ),
    Stage("beside unicorn", "harness.lockstep", guard="lock-step-unicorn"),
    Stage("beside QEMU", "harness.lockstep", ("--qemu",), "lock-step-qemu"),
    Stage("beside KVM", "harness.lockstep", ("--kvm",), KVM),
    Stage("certificates", "proofs.certify", guard="certificates"),
    Stage("steady", "proofs.steady", guard="steady"),
    Stage("mutants", "proofs.mutants", guard="mutants"),
)


class Done(BaseModel):
    """How a stage ended, and how long it took, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: int
    seconds: float
    fingerprint: str  # of the project's files


class Night(BaseModel):
    """What is known of each stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: dict[str, Done] = {}


def night(stages: Sequence[Stage], out: Path, console: Console, whole: bool = False) -> int:
    """Run what is not done yet; the exit status. A `whole` night is kept. Raises UserError."""
    with _alone(out):
        now, started = datetime.now(UTC), time.monotonic()
        known = _read(out / FILE)
        mark = fingerprint()
        worst = 0
        for number, stage in enumerate(stages, start=1):
            before = known.stages.get(stage.name)
            if _is_done(before, mark, stage, out):
                assert before is not None
                _say(console, f"{number}/{len(stages)} {stage.name}: done before", before.status)
                worst = max(worst, before.status)
                continue
            took = f"; it took {_minutes(before.seconds)} the last time" if before else ""
            _say(console, f"{number}/{len(stages)} {stage.name}{took}")
            began = time.monotonic()
            code = subprocess.run(stage.command, cwd=ROOT, check=False).returncode
            if code == 130:
                raise KeyboardInterrupt
            status = _status(code, stage, out)
            done = Done(status=status, seconds=time.monotonic() - began, fingerprint=mark)
            if fingerprint() != mark:
                raise UserError("Files of the project changed in this night; begin it anew.")
            known = Night(stages={**known.stages, stage.name: done})
            write_atomically({out / FILE: known.model_dump_json(indent=2).encode() + b"\n"})
            _say(console, f"  {stage.name}: {_minutes(done.seconds)}", status)
            worst = max(worst, status)
        command = [sys.executable, "-m", "reports.tramp", "report", "--out", str(out)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode not in (0, FOUND):
            return NOT_RUN
        worst = max(worst, _of_verdicts(read_all(out)))
        if whole:
            kept = keep(out, mark, worst, time.monotonic() - started, now)
            console.print(_told(kept), markup=False, soft_wrap=True)
            worst = kept.status
        return worst


def _of_verdicts(records: Sequence[ClaimRecord]) -> int:
    """What the verdicts say of the exit status: a stage tells only whether they are as expected."""
    if any(one.verdict == "DISAGREE" or is_contradicted(one) for one in records):
        return CONTRADICTION
    return NOT_RUN if any(one.verdict not in (PROVED, REFUTED) for one in records) else 0


def _told(kept: Entry) -> str:
    """What changed, in the terminal; `tramp diff` says it in full."""
    if kept.changes is None:
        return f"the night {kept.name}: nothing to compare with"
    found = [f"  {change.line}" for change in kept.changes]
    count = f"{len(found)} change{'s' * (len(found) > 1)}" if found else "nothing changed"
    head = f"the night {kept.name}: {count}"
    return "\n".join([head, *found])


def _is_done(before: Done | None, mark: str, stage: Stage, out: Path) -> bool:
    same = before is not None and before.fingerprint == mark
    return before is not None and same and _status(before.status, stage, out) != NOT_RUN


def _status(code: int, stage: Stage, out: Path) -> int:
    """What a stage's exit status means, with the guard that it has left."""
    whole = {guard.name: not guard.problems for guard in read_guards(out) if guard.complete}
    if code not in (0, FOUND) or (stage.guard and code == 0 and not whole.get(stage.guard)):
        return NOT_RUN
    return code


def _say(console: Console, text: str, status: int = 0) -> None:
    said = {0: "", FOUND: "; it has found something", NOT_RUN: "; it could not be run"}
    console.print(text + said[status], style="bold red" if status else "", soft_wrap=True)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _read(path: Path) -> Night:
    try:
        return Night.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Night()
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValidationError:
        raise ReportError(f"{path}: is damaged; delete it, and the night begins anew.") from None


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two nights at once would write the same files."""
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as error:
        raise ReportError(f"{out}: cannot be written ({error.strerror}).") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("Another night is running here; let it end first.") from None
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the night, or one stage of it."""
    parser = ArgumentParser(prog="python -m proofs.nightly", description=__doc__.split("\n")[0])
    names = [stage.name for stage in STAGES]
    parser.add_argument("--only", choices=names, help="this stage alone")
    only = parser.parse_args(arguments).only
    stages = [stage for stage in STAGES if only in (None, stage.name)]
    console = Console(highlight=False)
    if only is None and not kvm.opens():
        stages = [stage for stage in stages if stage.guard != KVM]
        said = f"without the stage beside KVM: {kvm.DEVICE} does not open here"
        console.print(said, soft_wrap=True)
    try:
        return night(stages, OUT, console, whole=only is None)
    except UserError as error:
        print(error, file=sys.stderr)
        return NOT_RUN


def _main() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what is done is kept


if __name__ == "__main__":
    _main()
