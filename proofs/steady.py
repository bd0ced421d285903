# SPDX-License-Identifier: GPL-2.0-only
"""Do verdicts depend on luck? Prove all with other solver seeds, and obligations in reverse order.

    python -m proofs.steady [--seeds 20] [options of pytest proofs/]

Every variant must give the verdicts and witnesses of the first one (seed 0), and find the same
paths. No obligation, and no question of the symbolic execution, may come near its budget. The
verdict files of each are kept, so that a run which was interrupted goes on where it stopped; it
starts anew when anything in the project changed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from rich.console import Console

from harness.guard import GuardRecord
from harness.options import positive
from harness.record import ClaimRecord
from harness.solve import decide
from harness.x86 import prover
from reports.files import OUT, read_all, write_atomically
from reports.fingerprint import ROOT, fingerprint
from reports.guards import write_guard
from trampoline.errors import UserError

SEEDS = 20
COMPLETE = "complete"
"""Stands beside the verdict files of a variant that came to its end: what it was proved of."""
HEAD_ROOM = 5.0
"""The budget is to be so many times what the hardest question takes."""

Known = Mapping[tuple[str, str], ClaimRecord]
"""Verdicts by trampoline and claim."""


class Variant(NamedTuple):
    """One way to prove all: z3's random seed, and whether obligations come in reverse order."""

    seed: int
    backwards: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"seed-{self.seed}{'-backwards' if self.backwards else ''}"

    @property
    def options(self) -> list[str]:
        """What it adds to the options of `pytest proofs/`."""
        return ["--seed", str(self.seed), *(["--backwards"] if self.backwards else [])]


def variants(seeds: int) -> list[Variant]:
    """The first is what the others are compared with."""
    return [Variant(0), Variant(0, backwards=True), *map(Variant, range(1, seeds))]


def differences(first: Known, other: Known) -> Iterator[str]:
    """What another variant says otherwise, a line for each claim."""
    for key in sorted(first.keys() | other.keys()):
        here, there = first.get(key), other.get(key)
        name = " ".join(key)
        if here is None or there is None:
            yield f"{name}: decided by one of the two only"
        elif here.verdict != there.verdict:
            yield f"{name}: {here.verdict}, there {there.verdict} ({there.reason})"
        elif shown(here) != shown(there):
            yield f"{name}: {here.verdict} by another witness"
        elif on_the_way(here) != on_the_way(there):
            yield f"{name}: other paths, or other verdicts on single obligations"


def shown(record: ClaimRecord) -> object:
    """What refutes a claim, without what was seen when it was replayed."""
    witness = record.witness
    return (
        witness and (witness.inputs, witness.violated, witness.end, witness.path),
        witness and witness.another and (witness.another.inputs, witness.another.violated),
        [(one.shows, one.events) for one in record.schedules],
        [(one.goal, one.inputs) for one in record.goals],
    )


def on_the_way(record: ClaimRecord) -> object:
    """What was found out on the way to the verdict."""
    obligations = sorted((one.name, one.verdict) for one in record.obligations)
    return obligations, record.paths, record.not_reached, record.one_way


def head_room(records: Sequence[ClaimRecord]) -> tuple[float, str]:
    """How many times the hardest question fits into its budget, and which question that is.

    What an obligation took for all of its questions counts as one.
    """
    found = [
        (
            decide.RLIMIT / obligation.rlimit,
            f"{record.trampoline} {record.claim}, {obligation.name}",
        )
        for record in records
        for obligation in record.obligations
        if obligation.rlimit
    ]
    found += [
        (prover.RLIMIT / record.machine_rlimit, f"{record.trampoline}, the symbolic execution")
        for record in records
        if record.machine_rlimit
    ]
    return min(found, default=(float("inf"), "no question"))


def prove(variant: Variant, folder: Path, options: Sequence[str], mark: str) -> str:
    """Prove all in this way, if that is not done. "" or why there are no verdicts."""
    complete = folder / COMPLETE
    if complete.is_file() and complete.read_text(errors="replace") == mark:
        return ""
    for old in (complete, *folder.glob("*")):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "proofs/", "-q", "-n", "auto"]
    done = subprocess.run(
        [*command, *options, *variant.options, "--out", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):  # 1: a verdict that is not expected, which is compared
        return (done.stderr or done.stdout).strip().rpartition("\n")[2]
    if fingerprint(options, folder.parent) != mark:
        return "files of the project changed while it was proved; run again."
    write_atomically({complete: mark.encode()})
    return ""


def campaign(options: Namespace, more: Sequence[str], console: Console) -> GuardRecord:
    """Prove in every way; what differs, or has not head room to spare, is a problem.

    Raises UserError.
    """
    mark, problems, everything = fingerprint(more, options.out), [], []
    began, of = time.monotonic(), fingerprint()
    first: Known = {}
    todo = variants(options.seeds)
    for number, variant in enumerate(todo, start=1):
        folder = options.out / variant.name
        console.print(f"{number}/{len(todo)} {variant.name}: proving", soft_wrap=True)
        if why := prove(variant, folder, more, mark):
            raise UserError(f"{variant.name}: no verdicts: {why}")
        records = read_all(folder)
        known = {(record.trampoline, record.claim): record for record in records}
        everything += records
        first = first or known
        found = list(differences(first, known))
        for line in found:
            console.print(f"  {line}", style="bold red", soft_wrap=True, markup=False)
        console.print(f"  {len(known)} claims, {len(found)} differences", soft_wrap=True)
        problems += [
            f"{variant.name}: {line}" for line in found or ([] if known else ["no claims"])
        ]
    factor, hardest = head_room(everything)
    style = "bold red" if factor < HEAD_ROOM else ""
    said = f"head room: x {factor:.1f} (at least {HEAD_ROOM:.0f} is wanted): {hardest}"
    console.print(said, style=style, soft_wrap=True, markup=False)
    return GuardRecord(
        name="steady",
        shows="Verdicts and witnesses depend neither on the solver's seed nor on the order of the "
        "obligations; no question comes near its budget.",
        command="python -m proofs.steady",
        fingerprint=of,
        complete=options.seeds >= SEEDS and not more,
        figures={
            "variants": str(len(todo)),
            "claims each": str(len(first)),
            "head room": f"x {factor:.1f}",
        },
        problems=(*problems, *([said] if factor < HEAD_ROOM else [])),
        open=(f"least head room: {hardest}",),
        seconds=round(time.monotonic() - began, 1),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all variants agree; 1 if not, or with one sentence."""
    parser = ArgumentParser(
        prog="python -m proofs.steady", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "--seeds", type=positive, default=SEEDS, help="how many; default: %(default)s"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT / "steady", help="default: reports/out/steady"
    )
    options, more = parser.parse_known_args(arguments)
    try:
        guard = campaign(options, more, Console(highlight=False))
        if not more:
            write_guard(guard, options.out.parent)
        return int(bool(guard.problems))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1


def _run() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # the variants that are complete are kept


if __name__ == "__main__":
    _run()
