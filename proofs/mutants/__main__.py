# SPDX-License-Identifier: GPL-2.0-only
"""Can the claims fail? Try every mutant of a trampoline.

    python -m proofs.mutants [PATH/contract.toml ...] [--jobs 2] [--scheduler tcp://HOST:PORT]

A mutant is killed if some claim is not PROVED of it. One that no claim notices is EQUIVALENT if its
run is the same, but for registers that a kernel must not rely on; else it has SURVIVED, and how its
run differs is said, or a reason in the file survivors.toml beside the contract has EXPLAINED it. In
either case all is PROVED of it, so it is replayed in QEMU with a few inputs: CONTRADICTED if that
does otherwise. A claim that kills none is of no use; one that kills none alone is redundant.

Without contracts, the shipped trampolines of which all is proved. What is known goes into a JSON
file every few seconds, so that a run that was interrupted goes on where it stopped; it starts anew
when anything in the project changed.
"""

from __future__ import annotations

import hashlib
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from distributed import Client
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.guard import GuardRecord
from harness.options import positive
from harness.replay.coverage import not_reached
from proofs.mutants import trial, workers
from proofs.mutants.judge import NONE, asked_of
from proofs.mutants.kinds import Change
from proofs.mutants.record import Campaign, Mutant, known
from proofs.mutants.survivors import EXPLAINED, explained, survivors_of, unused
from proofs.mutants.trial import CONTRADICTED, EQUIVALENT, NOT_BUILT, SURVIVED, Trial
from proofs.mutants.workers import UNDECIDED
from reports.files import OUT
from reports.fingerprint import SURVIVORS, fingerprint
from reports.guards import write_guard
from trampoline.errors import UserError
from trampoline.shipped import contracts as all_shipped

EVERY = 5.0
"""Seconds between two times that the file is written."""
LEFT = (SURVIVED, UNDECIDED, CONTRADICTED)
"""Each of these is a problem."""
NAMES = ("REFUTED", "NOT PROVED", EQUIVALENT, NOT_BUILT, EXPLAINED, *LEFT)
"""What may come of a mutant. NOT PROVED: the machine refuses it, or the solver gives up."""
UNNOTICED = (EQUIVALENT, EXPLAINED, SURVIVED, CONTRADICTED)
"""All is PROVED of these, too."""
SAID = (EXPLAINED, NOT_BUILT)
"""Each of these is named, with the reason."""
ALONE_TRIES = 8
"""So many mutants that a claim kills are tried for one that no other claim kills."""


def campaign_of(client: Client, path: Path, options: Namespace, console: Console) -> Campaign:
    """Try all mutants wanted of one trampoline that its file does not know yet."""
    subject = Trial(path)
    found = subject.original()
    if found != NONE:
        claim, verdict, reason = found
        raise UserError(
            f"{path}: {claim} is {verdict} of the trampoline as it is ({reason}); a mutant can be "
            "told from it by claims that are PROVED only, so mend it or its [expected] first."
        )
    out = options.out / f"{subject.contract.name}.json"
    fresh = Campaign(
        trampoline=subject.contract.name,
        fingerprint=fingerprint(contracts=[path]),
        possible=len(subject.changes),
        claims=asked_of(subject.contract),
        not_reached=not_reached(subject.image, subject.run.covered),
    )
    campaign = known(out, fresh)
    wanted = in_order(subject.changes)
    if options.at:
        wanted = [change for change in wanted if change.offset in options.at]
    if options.sample:
        wanted = wanted[: options.sample]
    run = Runner(client, path, options, console, out)
    campaign = run(campaign, _untried(campaign, wanted), "mutants")
    for turn in range(1, ALONE_TRIES + 1):
        if todo := _alone(campaign, wanted):
            campaign = run(campaign, todo, f"by all claims but one, {turn} of {ALONE_TRIES}")
    return campaign


def with_reasons(path: Path, campaign: Campaign) -> Campaign:
    """The campaign, survivors explained that the file beside the contract speaks of."""
    known = survivors_of(path)
    if len(campaign.mutants) == campaign.possible and (left := unused(campaign.mutants, known)):
        raise UserError(
            f"{path.parent / SURVIVORS}: no mutant that survives is spoken of by the reason "
            f'"{left[0].why}"; take it out.'
        )
    mutants = tuple(explained(campaign.mutants, known))
    return campaign.model_copy(update={"mutants": mutants})


Todo = list[tuple[Change, workers.Task]]


def _untried(campaign: Campaign, wanted: Sequence[Change]) -> Todo:
    tried = {mutant.name for mutant in campaign.mutants}
    return [(change, workers.of(change)) for change in wanted if change.name not in tried]


def _alone(campaign: Campaign, wanted: Sequence[Change]) -> Todo:
    """For each claim that is not known to kill one alone: one that it kills, for all others."""
    changes = {change.name: change for change in wanted}
    todo: Todo = []
    for claim in campaign.claims:
        mine = [one for one in campaign.mutants if one.claim == claim and one.name in changes]
        asked = sum(one.alone is not None for one in mine)
        if asked == ALONE_TRIES or any(one.alone for one in mine):
            continue
        mine = [one for one in mine if one.alone is None]
        mine.sort(key=lambda one: (one.verdict != "REFUTED", _shuffled(changes[one.name])))
        todo += [(changes[one.name], workers.of(changes[one.name], claim)) for one in mine[:1]]
    return todo


class Runner:
    """Has mutants tried, shows how far it is, and writes what is known every few seconds."""

    def __init__(
        self, client: Client, path: Path, options: Namespace, console: Console, out: Path
    ) -> None:
        self._client, self._path, self._console, self._out = client, path, console, out
        self._limit = options.limit
        self._until = time.monotonic() + 60 * options.minutes if options.minutes else None
        self._reasons = survivors_of(path)

    def __call__(self, campaign: Campaign, todo: Todo, what: str) -> Campaign:
        """The campaign with the outcomes of these."""
        before = {mutant.name: mutant for mutant in campaign.mutants}
        new: list[Mutant] = []
        written = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        try:
            with Progress(*columns, TimeRemainingColumn(), console=self._console) as progress:
                bar = progress.add_task(f"{campaign.trampoline}, {what}", total=len(todo))
                for change, outcome in workers.tried(
                    self._client, self._path, todo, self._limit, self._until
                ):
                    progress.advance(bar)
                    known = before.get(change.name)
                    new.append(_with(known, outcome) if known else Mutant.of(change, outcome))
                    (shown,) = explained(new[-1:], self._reasons)
                    if shown.verdict in LEFT:
                        progress.console.print(_line(shown), markup=False, soft_wrap=True)
                    if time.monotonic() > written + EVERY:
                        campaign = campaign.with_more(new)
                        campaign.write(self._out)
                        written = time.monotonic()
        finally:
            if new:
                campaign = campaign.with_more(new)
                campaign.write(self._out)
        return campaign


def _with(killed: Mutant, by_others: trial.Outcome) -> Mutant:
    """A mutant that one claim has killed, with what came of it without that claim."""
    if by_others.verdict == UNDECIDED:
        return killed
    alone = by_others.verdict in (EQUIVALENT, SURVIVED)
    return killed.model_copy(update={"alone": alone})


def _line(mutant: Mutant) -> str:
    why = mutant.reason or ", ".join(mutant.differs)
    return f"{mutant.verdict}: {mutant}; {why}"


def in_order(changes: Sequence[Change]) -> list[Change]:
    """An order that has nothing to do with the image's, and is always the same."""
    return sorted(changes, key=_shuffled)


def _shuffled(change: Change) -> bytes:
    return hashlib.sha256(change.name.encode()).digest()


def print_campaigns(campaigns: Sequence[Campaign], console: Console) -> None:
    """How many mutants were killed, how many not; and which claims kill any, alone or not."""
    for campaign in campaigns:
        counts = Counter(map(_name_of, campaign.mutants))
        said = ", ".join(f"{counts[name]} {name.lower()}" for name in NAMES if counts[name])
        console.print(
            f"{campaign.trampoline}: {len(campaign.mutants)} of {campaign.possible} mutants tried: "
            f"{said or 'none'}",
            style="bold", soft_wrap=True,
        )  # fmt: skip
    for line in (*of_claims(campaigns), of_replays(campaigns)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for campaign in campaigns:
        for place in campaign.not_reached:
            console.print(
                f"{campaign.trampoline}: not executed on any path, so not tried: {place}",
                soft_wrap=True,
            )


def guard_of(campaigns: Sequence[Campaign], mark: str, seconds: float) -> GuardRecord:
    """What the campaigns show, for the trust page. `mark`: the fingerprint they began with."""
    mutants = [(campaign.trampoline, one) for campaign in campaigns for one in campaign.mutants]
    counts = Counter(_name_of(one) for _, one in mutants)
    possible = sum(campaign.possible for campaign in campaigns)
    return GuardRecord(
        name="mutants",
        shows="A claim can fail: it is not PROVED of an image in which one thing is wrong.",
        command="python -m proofs.mutants",
        fingerprint=mark,
        complete=len(mutants) == possible,
        figures={
            f"of {possible:,} mutants tried": f"{len(mutants):,}",
            **{name.lower(): f"{counts[name]:,}" for name in NAMES},
            "replays of those that no claim notices": f"{sum(one.replays for _, one in mutants):,}",
        },
        problems=tuple(f"{name}: {_line(one)}" for name, one in mutants if one.verdict in LEFT),
        open=(
            *of_claims(campaigns),
            of_replays(campaigns),
            *(f"{name}: {_line(one)}" for name, one in mutants if one.verdict in SAID),
        ),
        seconds=round(seconds, 1),
    )


def _name_of(mutant: Mutant) -> str:
    if mutant.verdict in NAMES:
        return mutant.verdict
    return "NOT PROVED"


def of_claims(campaigns: Sequence[Campaign]) -> Iterator[str]:
    """For each claim: how many mutants it was the first to notice, and whether it alone did one."""
    claims = dict.fromkeys(claim for campaign in campaigns for claim in campaign.claims)
    for claim in claims:
        mine = [
            (campaign.trampoline, one)
            for campaign in campaigns
            for one in campaign.mutants
            if one.claim == claim
        ]
        alone = [f"{name}, {one}" for name, one in mine if one.alone]
        asked = sum(one.alone is not None for _, one in mine)
        said = f"alone: {alone[0]}" if alone else f"none of {asked} alone: others notice these, too"
        if not mine:  # what it alone notices it is the first to notice
            said = "so whatever it notices is noticed by others, too"
        yield f"{claim}: first to notice {len(mine)}; {said}"


def of_replays(campaigns: Sequence[Campaign]) -> str:
    """Of how many mutants that no claim notices QEMU was asked."""
    unnoticed = [m for one in campaigns for m in one.mutants if m.verdict in UNNOTICED]
    replayed = sum(mutant.replays > 0 for mutant in unnoticed)
    return f"replayed in QEMU: {replayed} of the {len(unnoticed)} that no claim notices"


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m proofs.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("contracts", type=Path, nargs="*", metavar="PATH/contract.toml")
    parser.add_argument("--jobs", type=positive, default=2, help="mutants at a time; default: 2")
    parser.add_argument(
        "--scheduler", metavar="tcp://HOST:PORT", help="of a Dask cluster, instead of this machine"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds for one; default: 300")
    parser.add_argument("--sample", type=positive, help="only so many of each trampoline's")
    parser.add_argument(
        "--minutes", type=float, help="for each trampoline; the next run tries the rest"
    )
    parser.add_argument("--out", type=Path, default=OUT / "mutants", help="folder of JSON files")
    parser.add_argument(
        "--at",
        type=lambda text: int(text, 0),
        action="append",
        default=[],
        metavar="OFFSET",
        help="only those of the instruction at this offset of the image (repeatable)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns; 0 if every mutant tried is killed, equivalent or explained, else 1."""
    options = _options(arguments)
    console = Console()
    began, mark = time.monotonic(), fingerprint()
    shipped = [path for path in all_shipped() if trial.all_proved(path)]
    contracts = options.contracts or shipped
    try:
        with workers.cluster(options.jobs, options.scheduler) as client:
            found = [campaign_of(client, path, options, console) for path in contracts]
        campaigns = list(map(with_reasons, contracts, found))
        if contracts == shipped:
            guard = guard_of(campaigns, mark, time.monotonic() - began)
            write_guard(guard, options.out.parent)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print_campaigns(campaigns, console)
    return int(any(one.verdict in LEFT for campaign in campaigns for one in campaign.mutants))


def _main() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what is decided is in the files


if __name__ == "__main__":
    _main()
