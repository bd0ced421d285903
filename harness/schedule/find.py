# SPDX-License-Identifier: GPL-2.0-only
"""`python -m harness.schedule.find PAIR FOLDER`: write a shortest schedule for all that breaks."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from harness.protocol.history import Schedule
from harness.protocol.verdict import search
from harness.schedule import file
from harness.schedule.replay import around, plan_for
from harness.schedule.subject import Subject, load_subject
from trampoline.errors import UserError


def saved(subject: Subject, breaks: str, schedule: Schedule) -> file.SavedSchedule:
    """A schedule that was found, ready to be written. Raises Misfit."""
    planned = plan_for(subject, schedule.events, breaks)
    return file.of(subject.parts, schedule.events, around(planned), breaks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1, with one sentence, for a pair that there is not, or a folder of no use."""
    parser = ArgumentParser(prog="python -m harness.schedule.find", description=__doc__)
    parser.add_argument("pair", help="a shipped trampoline, which has a host of the same name")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        _find(given.pair, given.folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _find(pair: str, folder: Path) -> None:
    subject = load_subject(pair)
    for name, schedule in search(subject.pair).items():
        if schedule.not_replayable:
            print(f"{name}: NOT REPLAYABLE ({schedule.not_replayable})")
            continue
        path = folder / f"{re.sub('[^a-z]+', '_', name.lower())}.json"
        file.write(path, saved(subject, name, schedule), subject.pair)
        print(f"{name}: {len(schedule.events)} events, {path}")


if __name__ == "__main__":
    sys.exit(main())
