# SPDX-License-Identifier: GPL-2.0-only
"""`python -m reports`: render the page again from verdict files and print the table."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reports.files import OUT, ReportError, read_all
from reports.html import write_page
from reports.table import print_cautions, print_table
from trampoline.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Render what the folder holds; returns the exit code: 1 with one sentence if that fails."""
    parser = ArgumentParser(prog="python -m reports", description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=OUT,
        help="holds the verdict files, gets index.html; default: reports/out",
    )
    folder: Path = parser.parse_args(arguments).folder
    console = Console()
    try:
        records = read_all(folder)
        if not records:
            raise ReportError(f"{folder}: holds no verdict files; run make prove first.")
        write_page(records, folder / "index.html")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print_table(records, console)
    console.print(f"report: {folder / 'index.html'}", markup=False, highlight=False, soft_wrap=True)
    print_cautions(records, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
