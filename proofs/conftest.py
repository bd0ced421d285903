# SPDX-License-Identifier: GPL-2.0-only
"""pytest for proofs: which trampolines, who proves what, the table and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import z3
from rich.console import Console

from harness.record import ClaimRecord
from proofs import interrupt
from proofs.stash import LOADED, RECORDS
from reports.files import OUT, locked, read_all, write_records
from reports.html import write_page
from reports.summary import last_line
from reports.table import print_table
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError
from trampoline.image import Image, load_image
from trampoline.shipped import contracts

NO_VERDICT = 3
"""Exit status where a claim was asked and has no verdict: pytest's own for internal errors."""
OF_PAIRS = ("test_protocol.py", "test_host.py")
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
    paths = [*contracts(), *config.getoption("--trampoline")]
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
    config.stash[LOADED] = loaded
    config.stash[RECORDS] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """A process that only hands tests out to others need not wait until angr is loaded."""
    manager = session.config.pluginmanager
    if not manager.hasplugin("dsession"):
        manager.import_plugin("proofs.fixtures")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each claim is asked of the trampolines whose contracts have the parts that it speaks of."""
    if "court" in metafunc.fixturenames:
        claim = metafunc.function.__name__.removeprefix("test_")
        names = [
            name
            for name, (contract, _) in metafunc.config.stash[LOADED].items()
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
            of = [known for known in config.stash[LOADED] if parameters.startswith(known)]
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
        records = session.config.stash.get(RECORDS, [])
        output["records"] = [record.model_dump_json() for record in records]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the records of a process that has ended."""
    for text in getattr(node, "workeroutput", {}).get("records", ()):
        node.config.stash[RECORDS].append(ClaimRecord.model_validate_json(text))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the claims that were asked; with several processes, say what is decided: nobody else
    shows what each of them does."""
    if report.failed or (report.when == "call" and report.passed):
        _asked.add(report.nodeid)
    if report.when == "call" and getattr(report, "node", None) is not None:
        name = report.nodeid.rpartition("::test_")[2]
        print(f"\r\x1b[K{name} {report.outcome} in {report.duration:.1f} s", flush=True)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Write verdict files and page, print the table."""
    records = config.stash.get(RECORDS, [])
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
        page = out / "index.html"
        with locked(out):  # two runs at once leave the page of all that both have found
            write_records(records, out)
            write_page(read_all(out), page)
        print_table(records, console)
        console.print(f"report: {page}", soft_wrap=True)
    except UserError as error:
        terminalreporter.write_line(f"ERROR: {error}", red=True)
        terminalreporter._session.exitstatus = 1
    if (line := last_line(records)) is not None:
        console.print(line, soft_wrap=True)
