# SPDX-License-Identifier: GPL-2.0-only
"""Would a wrong rule of a model be noticed? Each is changed in every place: a row must fail.

    python -m tests.models

For the trust page; pytest asks the same (test_every_rule_matters.py).
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from harness.guard import GuardRecord
from reports.files import OUT
from reports.fingerprint import fingerprint
from reports.guards import write_guard
from tests.models.rules import MODELS, Model, tried, wrong
from trampoline.errors import UserError


def campaign(models: Sequence[Model], console: Console) -> GuardRecord:
    """Change each of the models; a change that no row notices, and no reason explains, is a
    problem."""
    began, mark = time.monotonic(), fingerprint()
    changes = rows = noticed = 0
    problems: list[str] = []
    explained: list[str] = []
    for model in models:
        problems += [f"{model.name}: wrong as it is: {rule}" for rule in wrong(model)]
        outcomes = dict(tried(model))
        left = {change for change, seen in outcomes.items() if not seen}
        problems += [
            f"{model.name}: unnoticed: {one}" for one in sorted(left - {*model.equivalent})
        ]
        stale = sorted({*model.equivalent} - left)
        problems += [f"{model.name}: explained, but not left: {one}" for one in stale]
        explained += [f"{model.name}: {c}: {why}" for c, why in model.equivalent.items()]
        changes, rows = changes + len(outcomes), rows + len(model.rows)
        noticed += len(outcomes) - len(left)
        console.print(f"{model.name}: {len(outcomes)} changes, {len(left)} unnoticed")
    for problem in problems:
        console.print(f"  {problem}", style="bold red", soft_wrap=True, markup=False)
    return GuardRecord(
        name="model-rules",
        shows="Each part of each rule of the models is needed: with it changed, a case that was "
        "worked out by hand from the manual comes out wrong.",
        command="python -m tests.models",
        fingerprint=mark,
        complete=len(models) == len(MODELS),
        figures={
            "models": str(len(models)),
            "cases": str(rows),
            "changes": str(changes),
            "noticed": str(noticed),
        },
        problems=tuple(problems),
        open=tuple(explained),
        seconds=round(time.monotonic() - began, 1),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every change is noticed or explained; 1 if not, or with one sentence."""
    parser = ArgumentParser(prog="python -m tests.models", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="default: reports/out")
    options = parser.parse_args(arguments)
    try:
        guard = campaign(MODELS, Console(highlight=False))
        write_guard(guard, options.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return int(bool(guard.problems))


def _main() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    _main()
