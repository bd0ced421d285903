# SPDX-License-Identifier: GPL-2.0-only
"""Is each assumption needed? Which ones the proofs of each claim use.

    python -m proofs.needed [PATH/contract.toml ...]

An assumption that no proof uses may still be used by the symbolic execution, which asks whether a
way can be taken under all of them. Sentences that restrict no input, but say what the machine takes
for granted, are left out. Without contracts, all shipped trampolines.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import z3
from rich.console import Console

from harness.guard import GuardRecord
from harness.processes import all_cores
from harness.solve.core import core
from harness.x86.execute import execute
from proofs.asked import asked
from proofs.mutants.judge import named, proved_of
from proofs.subject import Subject
from proofs.two_starts import Other
from reports.files import OUT
from reports.fingerprint import fingerprint
from reports.guards import write_guard
from trampoline.contract import load_contract
from trampoline.errors import UserError
from trampoline.image import load_image
from trampoline.shipped import contracts


@dataclass(frozen=True)
class Needed:
    """Of one trampoline: each assumption, with the claims whose proofs use it.

    `hypotheses` counts those of all obligations, paths' conditions among them, `unused` those of
    them that their obligation does not need. `open`: obligations of which nothing is known.
    """

    trampoline: str
    uses: dict[str, tuple[str, ...]]
    claims: tuple[str, ...]
    obligations: int
    hypotheses: int
    unused: int
    open: tuple[str, ...]


def needed(path: Path) -> Needed:
    """Find it out for a contract's trampoline and the claims that are PROVED of it."""
    contract = load_contract(path)
    image = load_image(contract)
    subject = Subject(contract, image, execute(contract, image))
    conditions = assumed(subject)
    uses: dict[str, dict[str, None]] = {one: {} for _, said in conditions.values() for one in said}
    obligations = hypotheses = unused = 0
    unknown = []
    claims = proved_of(contract)
    for claim in claims:
        for obligation in asked(claim, subject)[0]:
            used = core(obligation.hypotheses, obligation.goal)
            obligations += 1
            if used is None:
                unknown.append(f"{named(claim)}, {obligation.name}")
                continue
            hypotheses += len(obligation.hypotheses)
            unused += len(obligation.hypotheses) - len(used)
            for index in used:
                _, sentences = conditions.get(obligation.hypotheses[index].get_id(), (None, ()))
                for sentence in sentences:
                    uses[sentence][named(claim)] = None
    return Needed(
        contract.name,
        {sentence: tuple(by) for sentence, by in uses.items()},
        tuple(map(named, claims)),
        obligations,
        hypotheses,
        unused,
        tuple(unknown),
    )


def assumed(subject: Subject) -> dict[int, tuple[z3.BoolRef, tuple[str, ...]]]:
    """Each condition that an assumption is, with its sentences, by its id; and the same of the
    other one, where a claim compares two starts."""
    found: dict[int, tuple[z3.BoolRef, tuple[str, ...]]] = {}
    for one in dict.fromkeys((subject, subject.from_any_registers)):
        others = (Other(one), Other(one, same_entry=False))
        for sentence, condition in one.run.assumptions:
            for term in (condition, *(other.of(condition) for other in others)):
                if not z3.is_true(term):
                    _, known = found.get(term.get_id(), (term, ()))
                    found[term.get_id()] = term, tuple(dict.fromkeys((*known, sentence)))
    return found


def lines(found: Needed) -> list[str]:
    """A line for each assumption."""
    said = []
    for sentence, by in found.uses.items():
        who = ", ".join(by) if len(by) < len(found.claims) else "every claim"
        said.append(f"{found.trampoline}: {sentence}: used by {who or 'no proof'}")
    return said


def guard_of(found: Sequence[Needed], mark: str, seconds: float, complete: bool) -> GuardRecord:
    """For the trust page. `mark`: the fingerprint of the project's files at the begin."""
    return GuardRecord(
        name="needed",
        shows="Which assumptions the proofs use: what none uses, at most the symbolic execution "
        "rests on.",
        command="python -m proofs.needed",
        fingerprint=mark,
        complete=complete,
        figures={
            "obligations": f"{sum(one.obligations for one in found):,}",
            "hypotheses": f"{sum(one.hypotheses for one in found):,}",
            "of them not needed": f"{sum(one.unused for one in found):,}",
        },
        problems=(
            *(
                f"{one.trampoline}: {name}: no proof was found"
                for one in found
                for name in one.open
            ),
            *(f"{one.trampoline}: it has no obligation" for one in found if not one.obligations),
        ),
        open=tuple(line for one in found for line in lines(one)),
        seconds=round(seconds, 1),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if it could be found out for every obligation; 1 if not, or with one sentence."""
    parser = ArgumentParser(prog="python -m proofs.needed", description=__doc__.split("\n")[0])
    parser.add_argument("contracts", type=Path, nargs="*", metavar="PATH/contract.toml")
    given = parser.parse_args(arguments).contracts
    shipped = contracts()
    mark, console, began, found = fingerprint(), Console(highlight=False), time.monotonic(), []
    try:
        with all_cores() as pool:
            for one in pool.map(needed, given or shipped):
                found.append(one)
                console.print(
                    f"{one.trampoline}: {one.obligations} obligations, {one.hypotheses} hypotheses,"
                    f" {one.unused} of them not needed",
                    soft_wrap=True,
                )
                for line in lines(one):
                    console.print(f"  {line}", soft_wrap=True, markup=False)
        guard = guard_of(found, mark, time.monotonic() - began, complete=not given)
        if not given:
            write_guard(guard, OUT)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in guard.problems:
        console.print(problem, style="bold red", soft_wrap=True, markup=False)
    return int(bool(guard.problems))


def _main() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    _main()
