# SPDX-License-Identifier: GPL-2.0-only
"""pytest for proofs: which trampolines, their runs, progress, the table and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import z3
from rich.console import Console

from harness.record import ClaimRecord
from harness.replay.evidence import Machines
from harness.solve.second import SecondSolver
from harness.x86.execute import execute
from proofs import interrupt
from proofs.pair import PairCourt
from proofs.prove import Court, Prove, accept
from proofs.subject import Subject
from reports.files import OUT, read_all, write_atomically, write_records
from reports.html import write_page
from reports.summary import last_line
from reports.table import print_table
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError
from trampoline.image import Image, load_image

NO_VERDICT = 3
"""Exit status where a claim was asked and has no verdict: pytest's own for internal errors."""
OF_PAIRS = ("test_protocol.py", "test_host.py")
SHIPPED = Path(__file__).resolve().parent.parent / "trampoline"
_loaded: pytest.StashKey[dict[str, tuple[Contract, Image]]] = pytest.StashKey()
_records: pytest.StashKey[list[ClaimRecord]] = pytest.StashKey()
_asked: set[str] = set()
"""Node ids of the tests that ran, in this process or in one of several."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which trampolines beside the shipped ones, how deep, and where the report goes."""
    parser.addoption(
        "--trampoline",
        action="append",
        default=[],
        type=Path,
        metavar="PATH/contract.toml",
        help="prove this trampoline, too (repeatable)",
    )
    parser.addoption(
        "--safe-sets",
        action="store_true",
        help="find for which inputs a refuted claim holds, and prove it (a minute more)",
    )
    parser.addoption(
        "--second-solver",
        action="store_true",
        help="let a second solver decide each obligation, too; where they differ: DISAGREE",
    )
    parser.addoption(
        "--seed", type=int, default=0, metavar="N", help="z3's random seed (default: %(default)s)"
    )
    parser.addoption(
        "--backwards",
        action="store_true",
        help="decide the obligations of a claim in reverse order",
    )
    parser.addoption(
        "--smt2",
        type=Path,
        metavar="FOLDER",
        help="with --second-solver: keep what it is asked, in SMT-LIB 2",
    )
    parser.addoption(
        "--out",
        default=OUT,
        type=Path,
        metavar="FOLDER",
        help="where verdict files and page are written (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load every contract and image first: a mistake in one ends the run in one sentence."""
    interrupt.install()
    _asked.clear()
    for solver in ("smt", "sat"):
        z3.set_param(f"{solver}.random_seed", config.getoption("--seed"))
    loaded: dict[str, tuple[Contract, Image]] = {}
    paths = [*sorted(SHIPPED.glob("*/contract.toml")), *config.getoption("--trampoline")]
    try:
        for path in paths:
            contract = load_contract(path)
            if contract.name in loaded:
                raise UserError(
                    f"{path}: name: another trampoline is called {contract.name}; "
                    "give this one a name of its own."
                )
            loaded[contract.name] = (contract, load_image(contract))
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    if config.getoption("--smt2") and not config.getoption("--second-solver"):
        raise pytest.UsageError("--smt2: add --second-solver, which is asked what is kept there.")
    config.stash[_loaded] = loaded
    config.stash[_records] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each claim is asked of the trampolines whose contracts have the parts that it speaks of."""
    if "court" in metafunc.fixturenames:
        claim = metafunc.function.__name__.removeprefix("test_")
        names = [
            name
            for name, (contract, _) in metafunc.config.stash[_loaded].items()
            if claim in contract.claims or ("pair" in metafunc.fixturenames and contract.host)
        ]
        metafunc.parametrize("court", names, indirect=True, scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes, claims that share a run, or a pair, go to the same one."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByTrampoline(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, name = nodeid.partition("::")
            parameters = name.partition("[")[2].rstrip("]")
            of = [known for known in config.stash[_loaded] if parameters.startswith(known)]
            part = "pair" if Path(file).name in OF_PAIRS else "image"
            return f"{part} of {max(of, key=len, default=nodeid)}"

    config.option.loadscopereorder = False  # keep the longest first
    return ByTrampoline(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, the longest groups begin first: pairs."""
    items.sort(key=lambda item: "pair" not in getattr(item, "fixturenames", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several hands its records over."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        records = session.config.stash.get(_records, [])
        output["records"] = [record.model_dump_json() for record in records]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the records of a process that has ended."""
    for text in getattr(node, "workeroutput", {}).get("records", ()):
        node.config.stash[_records].append(ClaimRecord.model_validate_json(text))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the claims that were asked; with several processes, say what is decided: nobody else
    shows what each of them does."""
    if report.failed or (report.when == "call" and report.passed):
        _asked.add(report.nodeid)
    if report.when == "call" and getattr(report, "node", None) is not None:
        name = report.nodeid.rpartition("::test_")[2]
        print(f"\r\x1b[K{name} {report.outcome} in {report.duration:.1f} s", flush=True)


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """QEMU, started when the first input is replayed."""
    with Machines() as running:
        yield running


@pytest.fixture(scope="session")
def court(request: pytest.FixtureRequest, machines: Machines) -> Court:
    """One trampoline, executed for all inputs."""
    contract, image = request.config.stash[_loaded][request.param]
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
        request.config.stash[_records].append(record)
        accept(record)

    return keep


@pytest.fixture
def prove(court: Court, request: pytest.FixtureRequest) -> Prove:
    """Judges the obligations of the claim that the test's docstring states."""
    sentence = request.function.__doc__ or ""
    return Prove(court, sentence, request.config.stash[_records].append)


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


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Write verdict files and page, print the table."""
    records = config.stash.get(_records, [])
    if len(records) < len(_asked) and exitstatus != pytest.ExitCode.INTERRUPTED:
        lost = len(_asked) - len(records)
        terminalreporter.write_line(
            f"ERROR: {lost} of {len(_asked)} claims have no verdict; mend what is said above, then "
            "run again. (An older verdict of theirs may stand in the report.)", red=True,
        )  # fmt: skip
        terminalreporter._session.exitstatus = NO_VERDICT
    if not records:
        return
    console = Console()
    console.print()
    try:
        out = config.getoption("--out")
        write_records(records, out)
        page = out / "index.html"
        write_page(read_all(out), page)
        print_table(records, console)
        console.print(f"report: {page}", soft_wrap=True)
    except UserError as error:
        terminalreporter.write_line(f"ERROR: {error}", red=True)
        terminalreporter._session.exitstatus = 1
    if (line := last_line(records)) is not None:
        console.print(line, soft_wrap=True)
