# SPDX-License-Identifier: GPL-2.0-only
"""The hardened pair's sources, one thing left out or weakened at a time, and what that turns.

    python -m tests.protocol.pair_mutants [--jobs 2] [--only WORDS]

pair_mutants.toml has each access to a word of the protocol, each check of what was read, each lock
prefix, each fence and each message of host and trampoline once. What turns none of the six verdicts
is shown to the other claims on kick and wait, or on a trampoline; and what turns none of these
either has to say why there (`survives`).
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import time
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.host.area import setup_obligations
from harness.host.claims import kick_obligations
from harness.host.extract import extract
from harness.host.refusal import Refusal
from harness.protocol import follow, verdict
from harness.protocol.assembled import Assembled, assemble
from harness.protocol.explore import Explorer
from harness.protocol.history import PROPERTIES
from harness.protocol.target import process_of
from harness.x86.execute import execute
from models.process import Process
from models.protocol import Pair
from models.protocol_claims import CLAIMS
from proofs.mutants.judge import NONE, first_turned
from tests.host.judge import not_proved
from tests.proofs.variants import MULTIKERNEL, ONE_BASE, variant
from trampoline.contract import load_contract
from trampoline.errors import UserError
from trampoline.host_object import HOST_FOLDER, HostError, HostObject, load_host
from trampoline.image import load_image

LIST = Path(__file__).with_suffix(".toml")
SOURCE = "trampoline.S"
BASE = 0x90000


@dataclass(frozen=True)
class Mutant:
    """One text of one source replaced. `file`: below trampoline/host; or `SOURCE`.

    `survives`: why no verdict turns; empty if one does.
    """

    name: str
    file: str
    old: str
    new: str
    survives: str = ""


@dataclass(frozen=True)
class Turned:
    """By one mutant. `by`: "protocol", "extraction", or "other claims"; empty: nothing turned."""

    by: str
    what: str


def mutants() -> dict[str, Mutant]:
    """By name."""
    listed = [Mutant(**one) for one in tomllib.loads(LIST.read_text())["mutant"]]
    found = {mutant.name: mutant for mutant in listed}
    assert len(found) == len(listed)
    return found


@cache
def shipped() -> Assembled:
    """The pair without a change."""
    return assemble(load_contract(MULTIKERNEL / "contract.toml"))


def changed_host(mutant: Mutant, folder: Path) -> HostObject:
    """Compile the changed host in `folder`."""
    shutil.copytree(HOST_FOLDER, folder, dirs_exist_ok=True)
    source = folder / mutant.file
    text = source.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: {text.count(mutant.old)} times"
    source.write_text(text.replace(mutant.old, mutant.new))
    return load_host(folder / "multikernel")


def changed_pair(mutant: Mutant, folder: Path) -> Pair:
    """The pair of the changed source. UserError, Refusal: it is refused."""
    pair, contract = shipped().pair, shipped().contract
    if mutant.file != SOURCE:
        return replace(pair, host=extract(changed_host(mutant, folder), contract))
    edited = load_contract(variant(folder, MULTIKERNEL, {mutant.old: mutant.new}, ONE_BASE))
    image = load_image(edited)
    return replace(pair, cpu=process_of(edited, image, execute(edited, image, BASE)))


def behaviour(process: Process) -> Process:
    """Without the places in the code."""
    return replace(process, locations=tuple(replace(x, place="") for x in process.locations))


def turned(mutant: Mutant) -> Turned:
    """The first verdict that turns."""
    with TemporaryDirectory(prefix="mutant-") as work:
        folder = Path(work)
        try:
            pair = changed_pair(mutant, folder)
        except HostError:
            raise  # it has to compile
        except (UserError, Refusal) as error:
            return Turned("extraction", f"refused: {error}")
        if what := in_protocol(pair):
            return Turned("protocol", what)
        try:
            what = elsewhere(mutant, folder)
        except Refusal as error:
            what = f"refused: {error}"
        return Turned("other claims" if what else "", what)


def in_protocol(pair: Pair) -> str:
    """The first of the six verdicts that is not PROVED; empty: all are."""
    old = shipped().pair
    if (behaviour(pair.host), behaviour(pair.cpu)) == (behaviour(old.host), behaviour(old.cpu)):
        return ""
    if broken := refuted(pair):
        return f"{broken} REFUTED"
    found = verdict.decide(pair, searches=()).verdicts
    left = [
        f"{name} {one.verdict} ({one.reason})"
        for name, one in found.items()
        if one.verdict != "PROVED"
    ]
    return "; ".join(left)


def refuted(pair: Pair, properties: Sequence[str] = PROPERTIES) -> str:
    """A property that a schedule breaks, as both descriptions of the protocol say; or empty."""
    wanted = tuple(name for name in properties if name not in verdict.vacuous(pair))
    for bounds in verdict.SEARCHES:
        explorer = Explorer(pair.host, pair.cpu, pair.leave, bounds)
        for name, schedule in explorer.run(wanted, enough=1).schedules.items():
            claim = next(claim for claim in CLAIMS if claim.name == name)
            assert follow.breaks(pair, claim, schedule), name
            return name
    return ""


def elsewhere(mutant: Mutant, folder: Path) -> str:
    """What turns among the other claims: on kick and wait, or on the trampoline."""
    contract = shipped().contract
    if mutant.file != SOURCE:
        host = load_host(folder / "multikernel")
        found = not_proved([*kick_obligations(host, contract), *setup_obligations(host, contract)])
        return "; ".join(f"{goal}: {one}" for goal, one in found.items())
    edited = load_contract(folder / "contract.toml")
    first = first_turned(edited, load_image(edited))
    return "" if first == NONE else "{} {}: {}".format(*first)


def judged(mutant: Mutant) -> tuple[Mutant, Turned, float]:
    """In a process of its own."""
    start = time.perf_counter()
    try:
        result = turned(mutant)
    except Exception as error:
        result = Turned("nothing", f"UNDECIDED: {type(error).__name__}: {error}")
    return mutant, result, time.perf_counter() - start


def judge_all(listed: Sequence[Mutant], jobs: int) -> Iterator[tuple[Mutant, Turned, float]]:
    """As they come."""
    context = multiprocessing.get_context("spawn")  # z3 does not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for done in as_completed([pool.submit(judged, mutant) for mutant in listed]):
            yield done.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if each mutant turns a verdict or says why it does not."""
    parser = ArgumentParser(prog="python -m tests.protocol.pair_mutants")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time; default: 1")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="those whose file and name have these"
    )
    options = parser.parse_args(arguments)
    chosen = [
        mutant for mutant in mutants().values() if options.only in f"{mutant.file}  {mutant.name}"
    ]
    wrong = 0
    for mutant, found, seconds in judge_all(chosen, options.jobs):
        said = f"{found.by}: {found.what}" if found.by else f"SURVIVES: {mutant.survives or '?'}"
        wrong += bool(found.by) == bool(mutant.survives) or found.by == "nothing"
        print(f"{mutant.file}  {mutant.name}  |  {said}  |  {seconds:.0f} s", flush=True)
    print(f"{len(chosen)} mutants, {wrong} not as expected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
