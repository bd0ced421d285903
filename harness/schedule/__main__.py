# SPDX-License-Identifier: GPL-2.0-only
"""`python -m harness.schedule FILE`: replay a schedule, again and again."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from harness.schedule import file
from harness.schedule.machine import Machine
from harness.schedule.plan import Misfit
from harness.schedule.replay import Outcome, Replayer, plan_for
from harness.schedule.subject import Subject, load_parts
from trampoline.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: every replay went as predicted. 1: not, or there was none; one sentence."""
    parser = ArgumentParser(prog="python -m harness.schedule", description=__doc__)
    parser.add_argument("file", type=Path, help="a schedule (harness.schedule.find writes some)")
    parser.add_argument("--repeat", type=int, default=10, help="how often; default: 10")
    given = parser.parse_args(arguments)
    try:
        return _replay(given.file, max(given.repeat, 1))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1


def _replay(path: Path, repeat: int) -> int:
    saved = file.read(path)
    parts = load_parts(saved.trampoline)
    file.check(path, saved, parts)
    subject = Subject(parts, parts.pair())
    try:
        planned = plan_for(subject, saved.events, saved.breaks)
    except Misfit as error:
        raise file.ScheduleError(f"{path}: {error}") from None
    outcomes: Counter[Outcome] = Counter()
    seconds = []
    with Machine(subject) as machine:
        replayer = Replayer(machine)
        for _ in range(repeat):
            outcomes[replayer.replay(planned, saved.around)] += 1
            seconds.append(replayer.seconds)
    for outcome, count in outcomes.items():
        print(f"{count} of {repeat} times: {_said(outcome)}")
    print(f"{1e3 * median(seconds):.0f} ms each")
    return int(len(outcomes) > 1 or any(outcome.difference for outcome in outcomes))


def _said(outcome: Outcome) -> str:
    if outcome.difference:
        return outcome.difference
    breaks = f", which breaks {', '.join(sorted(outcome.broken))}" if outcome.broken else ""
    more = f"; then {outcome.aftermath}" if outcome.aftermath else ""
    return f"all {outcome.steps} steps as predicted{breaks}{more}"


if __name__ == "__main__":
    sys.exit(main())
