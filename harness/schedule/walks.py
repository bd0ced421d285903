# SPDX-License-Identifier: GPL-2.0-only
"""`python -m harness.schedule.walks PAIR`: random schedules, judged as they go."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.schedule.machine import Machine
from harness.schedule.subject import load_subject
from harness.schedule.walk import Walk, walk
from trampoline.errors import UserError


@dataclass
class Sum:
    """Of several walks. `broken`: property to number of walks; `differences`: by seed."""

    walks: int = 0
    events: int = 0
    jumps: int = 0
    rekicks: int = 0
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    differences: dict[int, str] = field(default_factory=dict)


def walk_all(machine: Machine, seeds: Iterable[int]) -> Iterator[Walk]:
    """One walk for each seed."""
    for seed in seeds:
        yield walk(machine, seed)


def add(walks: Iterable[Walk]) -> Sum:
    """All of them together."""
    found = Sum()
    for one in walks:
        found.walks += 1
        found.events += len(one.events)
        found.jumps += one.jumps
        found.rekicks += one.rekicks
        found.seconds += one.seconds
        found.verdicts.update(verdict for verdict in one.verdicts if verdict)
        found.broken.update(one.broken.keys())
        if one.difference:
            found.differences[one.seed] = one.difference
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if a property breaks or the machine does what the explorer does not know."""
    parser = ArgumentParser(prog="python -m harness.schedule.walks", description=__doc__)
    parser.add_argument("pair", help="a shipped trampoline, which has a host of the same name")
    parser.add_argument("--count", type=int, default=500, help="how many; default: 500")
    parser.add_argument("--seed", type=int, default=0, help="of the first; default: 0")
    given = parser.parse_args(arguments)
    try:
        with Machine(load_subject(given.pair)) as machine:
            found = add(walk_all(machine, range(given.seed, given.seed + given.count)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{found.walks} walks, {found.events} events, {found.seconds:.0f} s")
    print(f"jumps: {found.jumps}, kicked again: {found.rekicks}")
    for title, counted in (("verdicts", found.verdicts), ("broken", found.broken)):
        shown = ", ".join(f"{name} {count}" for name, count in counted.most_common())
        print(f"{title}: {shown or 'none'}")
    for seed, difference in found.differences.items():
        print(f"seed {seed}: {difference}")
    return int(bool(found.broken or found.differences))


if __name__ == "__main__":
    sys.exit(main())
