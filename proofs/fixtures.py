# SPDX-License-Identifier: GPL-2.0-only
"""What the claims' tests ask for: a trampoline's run, its pair, who judges; with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from rich.console import Console

from harness.record import ClaimRecord
from harness.replay.evidence import Machines
from harness.solve.second import SecondSolver
from harness.x86.execute import execute
from proofs.pair import PairCourt
from proofs.prove import Court, Prove, accept
from proofs.stash import LOADED, RECORDS
from proofs.subject import Subject
from reports.files import write_atomically
from trampoline.errors import UserError


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """QEMU, started when the first input is replayed."""
    with Machines() as running:
        yield running


@pytest.fixture(scope="session")
def court(request: pytest.FixtureRequest, machines: Machines) -> Court:
    """One trampoline, executed for all inputs."""
    contract, image = request.config.stash[LOADED][request.param]
    say = _Say(request.config, contract.name)
    say("executing for all inputs")
    run = execute(contract, image, progress=say)
    say(f"executed: {len(run.ends)} paths in {run.seconds:.1f} s", keep=True)
    options = request.config.getoption
    return Court(
        Subject(contract, image, run),
        machines,
        say,
        safe_sets=options("--safe-sets"),
        second=_second(request.config),
        backwards=options("--backwards"),
    )


def _second(config: pytest.Config) -> SecondSolver | None:
    """The second solver, if one is wanted."""
    folder = config.getoption("--smt2")

    def keep(name: str, script: str) -> None:
        if folder is not None:
            try:
                write_atomically({folder / name: script.encode()})
            except UserError as error:
                pytest.exit(str(error), returncode=1)

    return SecondSolver(keep) if config.getoption("--second-solver") else None


@pytest.fixture
def subject(court: Court) -> Subject:
    """What the claim is about."""
    return court.subject


@pytest.fixture(scope="session")
def pair(court: Court, request: pytest.FixtureRequest) -> Iterator[PairCourt]:
    """The trampoline and its host."""
    subject = court.subject
    say = _Say(request.config, subject.contract.name)
    backwards = request.config.getoption("--backwards")
    with closing(PairCourt(subject, say, _second(request.config), backwards)) as found:
        yield found


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[ClaimRecord], None]:
    """Keeps a claim's record for the report; fails the test if it is not as expected."""

    def keep(record: ClaimRecord) -> None:
        request.config.stash[RECORDS].append(record)
        accept(record)

    return keep


@pytest.fixture
def prove(court: Court, request: pytest.FixtureRequest) -> Prove:
    """Judges the obligations of the claim that the test's docstring states."""
    sentence = request.function.__doc__ or ""
    return Prove(court, sentence, request.config.stash[RECORDS].append)


class _Say:
    """Progress on one line of the terminal; only what is to be kept when it is no terminal."""

    def __init__(self, config: pytest.Config, name: str) -> None:
        self._capture: Any = config.pluginmanager.getplugin("capturemanager")
        self._name = name
        self._worker = hasattr(config, "workerinput")  # one of several processes: nobody sees it
        self._console = Console(stderr=False)

    def __call__(self, text: str, keep: bool = False) -> None:
        """Show a line; it is overwritten by the next one unless it is kept."""
        if self._worker or (not keep and not self._console.is_terminal):
            return
        with self._capture.global_and_fixture_disabled():
            end = "\n" if keep else "\r"
            line = f"{self._name}: {text}"[: self._console.width - 1]
            print(f"\r\x1b[K{line}" if self._console.is_terminal else f"\n{line}", end=end)
