# SPDX-License-Identifier: GPL-2.0-only
"""Decide the hand-off protocol of a trampoline and its host, and keep the invariant that proves it.

python -m harness.protocol trampoline/multikernel/contract.toml [--write]
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from harness.protocol.assembled import assemble, decide
from trampoline.contract import load_contract
from trampoline.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all six properties are proved or have nothing to decide, 1 otherwise."""
    parser = ArgumentParser(prog="python -m harness.protocol", description=__doc__.split("\n")[0])
    parser.add_argument("contract", type=Path, metavar="PATH/contract.toml")
    parser.add_argument(
        "--write", action="store_true", help="write the invariant into its file, if it changed"
    )
    options = parser.parse_args(arguments)
    try:
        assembled = assemble(load_contract(options.contract))
        decision = decide(assembled)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    for name, found in decision.verdicts.items():
        reason = f": {found.reason}" if found.reason else ""
        print(f"{found.verdict}  {name}{reason}")
        for step in found.schedule.events if found.schedule is not None else ():
            where = "" if step.location is None else f" (location {step.location})"
            print(f"    {step.who}: {step.what}{where}")
    if options.write and decision.invariant is not None:
        text = assembled.text(decision.invariant)
        if not assembled.kept.exists() or assembled.kept.read_bytes() != text.encode():
            try:
                assembled.kept.write_text(text, encoding="utf-8")
            except OSError as error:
                print(f"{assembled.kept}: cannot be written ({error.strerror}).", file=sys.stderr)
                return 1
            print(f"written: {assembled.kept}")
    elif decision.not_kept:
        print(decision.not_kept, file=sys.stderr)
    return int(
        any(found.verdict not in ("PROVED", "VACUOUS") for found in decision.verdicts.values())
    )


if __name__ == "__main__":
    sys.exit(main())
