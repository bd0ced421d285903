# SPDX-License-Identifier: GPL-2.0-only
"""The command line: `tramp`. Exit status, of every command: 0 all is as expected, 1 something was
found or has changed, 2 the command could not do what it was asked to, and one sentence says why.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from harness.record import ClaimRecord, file_name
from reports import explain as explanation
from reports import triage as triaging
from reports.changes import Kind, changes
from reports.files import OUT, ReportError, read_all, read_one, schema, write_atomically
from reports.html import write_page
from reports.junit import junit
from reports.markdown import summary
from reports.nights import folder as folder_of
from reports.run_proofs import NOTHING_ASKED, run_proofs
from reports.sarif import sarif
from reports.summary import is_contradicted, smallest_input, verdict_words
from reports.table import print_cautions, print_table
from trampoline.contract import load_contract
from trampoline.errors import UserError
from trampoline.shipped import contract_of
from trampoline.shipped import contracts as shipped

Accel = Literal["tcg", "kvm"]

FOUND = 1
FAILED = 2

app = typer.Typer(
    name="tramp",
    help="Prove trampolines, and read what was found.\n\nExit status: 0 all is as expected, "
    "1 something was found or has changed, 2 it could not be done.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Folder = Annotated[Path, typer.Option("--out", help="Folder of the verdict files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def prove(
    contracts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONTRACT]...", help="A shipped trampoline's name, or PATH/contract.toml."
        ),
    ] = None,
    claims: Annotated[
        list[str] | None, typer.Option("--claim", help="Only this claim (repeatable).")
    ] = None,
    safe_sets: Annotated[
        bool, typer.Option("--safe-sets", help="Find for which inputs a refuted claim holds.")
    ] = False,
    second_solver: Annotated[
        bool, typer.Option("--second-solver", help="Let a second solver decide all again.")
    ] = False,
    out: Folder = OUT,
    as_json: AsJson = False,
) -> None:
    """Prove trampolines: all shipped ones, or those given.

    Example: tramp prove multikernel --claim hand_off
    """
    paths = [_contract(name) for name in contracts or []]
    names = [load_contract(path).name for path in paths]
    depth = ["--safe-sets"] * safe_sets + ["--second-solver"] * second_solver
    output = sys.stderr.fileno() if as_json else None
    status = run_proofs(paths, names, claims or (), out, depth, output)
    if status == NOTHING_ASKED:
        raise UserError(
            f"{', '.join(claims or names)}: no such claim is asked there; see README.md."
        )
    if status not in (0, 1):
        raise typer.Exit(FAILED)
    if as_json:
        records = [one for one in read_all(out) if not names or one.trampoline in names]
        _print_json([one.model_dump() for one in records])
    raise typer.Exit(FOUND if status else 0)


@app.command()
def report(
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")
    ] = None,
    sarif_file: Annotated[
        Path | None, typer.Option("--sarif", help="Write SARIF 2.1.0 to this file.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write a summary in Markdown to this file.")
    ] = None,
    schema_file: Annotated[
        Path | None, typer.Option("--schema", help="Write the JSON Schema of verdict files here.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option("--since", help="Say in the summary what changed since then.")
    ] = None,
    out: Folder = OUT,
    as_json: AsJson = False,
) -> None:
    """Write the page again, and other forms of it, from verdict files.

    Example: tramp report --sarif proofs.sarif --junit proofs.xml
    """
    records = _records(out)
    before = None if since is None else _records(since)
    changed = None if before is None else changes(before, records)
    write_page(records, out / "index.html")
    contents: dict[Path, bytes] = {}
    if junit_file is not None:
        contents[junit_file] = junit(records)
    if sarif_file is not None:
        contents[sarif_file] = sarif(records)
    if markdown_file is not None:
        contents[markdown_file] = summary(records, changed).encode()
    if schema_file is not None:
        contents[schema_file] = schema()
    write_atomically(contents)
    if as_json:
        _print_json([one.model_dump() for one in records])
    else:
        console = Console()
        print_table(records, console)
        for path in (out / "index.html", *contents):
            console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)
        print_cautions(records, console)
    raise typer.Exit(FOUND if any(map(_amiss, records)) else 0)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A night's name, or a folder of verdict files.")],
    after: Annotated[str, typer.Argument(help="The same of a later one.")],
    out: Folder = OUT,
    as_json: AsJson = False,
) -> None:
    """Say what changed between two nights.

    Example: tramp diff 2026-11-29 2026-11-30
    """
    found = changes(_records(folder_of(out, before)), _records(folder_of(out, after)))
    if as_json:
        _print_json([change.model_dump(mode="json") for change in found])
    else:
        for change in found:
            print(change.line)
        if not found:
            print("nothing changed")
    # As a night's own status has it: the time that a proof takes is the machine's affair, too.
    raise typer.Exit(FOUND if any(change.kind is not Kind.SLOWER for change in found) else 0)


@app.command()
def explain(
    finding: Annotated[
        str, typer.Argument(help="A finding's id, TRAMPOLINE.CLAIM, or a verdict file.")
    ],
    out: Folder = OUT,
    as_json: AsJson = False,
) -> None:
    """Tell a finding: what is violated, by which input, and how the code comes to it.

    Example: tramp explain MKRFC-2
    """
    record = _record(finding, out)
    if as_json:
        _print_json(record.model_dump())
    else:
        explanation.tell(record, Console(soft_wrap=True, highlight=False, markup=False))


@app.command()
def replay(
    finding: Annotated[
        str,
        typer.Argument(
            metavar="WITNESS|FINDING",
            help="A verdict file, a finding's id, or TRAMPOLINE.CLAIM.",
        ),
    ],
    gdb_arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- GDB_OPTION...]", help="With --gdb: more options of gdb's."),
    ] = None,
    gdb: Annotated[
        bool, typer.Option("--gdb", help="Stop before the last instruction, and run gdb there.")
    ] = False,
    accel: Annotated[
        Accel, typer.Option(help="QEMU's own CPU, or the host's; KVM has no known limits listed.")
    ] = "tcg",
    contract: Annotated[
        Path | None,
        typer.Option(help="Of a trampoline that is not shipped; gdb then knows its symbols."),
    ] = None,
    out: Folder = OUT,
    as_json: AsJson = False,
) -> None:
    """Run the input that refutes a claim in QEMU once more, or stop at its end in gdb.

    Example: tramp replay MKRFC-8 --gdb
    """
    from reports import replay as replaying  # z3 and QEMU's client: a second, for this one alone

    record = _record(finding, out)
    if gdb_arguments and not gdb:
        raise UserError("options of gdb's belong to --gdb; give that, too.")
    if gdb and as_json:
        raise UserError("--gdb and --json exclude each other; give one of them.")
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if gdb:
        path = contract or contract_of(record.trampoline)
        known = load_contract(path) if contract or path.is_file() else None
        if known is not None and known.name != record.trampoline:
            raise UserError(f"{path}: is of {known.name}; give that of {record.trampoline}.")
        status = replaying.debug(record, known, accel, gdb_arguments or (), console)
        raise typer.Exit(FAILED if status else 0)
    if record.schedules or record.goals:
        again = replaying.of_steps(record, _found_again(record, contract))
    else:
        again = replaying.replay(record, accel)
    if as_json:
        _print_json(again.as_json)
    else:
        replaying.tell(again, console)
    raise typer.Exit(FOUND if again.differs else 0)


@app.command()
def triage(
    accept: Annotated[
        str | None, typer.Option(metavar="ID", help="Write this one into its contract.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="The finding in one line; with --accept.")
    ] = None,
    contract: Annotated[
        Path | None,
        typer.Option(help="The contract, if the trampoline is none of the shipped ones."),
    ] = None,
    out: Folder = OUT,
    as_json: AsJson = False,
) -> None:
    """Group refutations that no contract expects by their cause, or accept one as a finding.

    Example: tramp triage --accept MKRFC-20 --reason "RSP is not aligned"
    """
    records = _records(out)
    groups = triaging.triage(records)
    if accept is not None:
        _accept(groups, accept, reason, contract)
        return
    if reason is not None or contract is not None:
        raise UserError("--reason and --contract belong to --accept; give that, too.")
    if as_json:
        _print_json([_as_json(group) for group in groups])
    else:
        print("\n".join(map(_told, groups)) or "every refutation is a known finding")
    for record in (undecided := triaging.undecided(records)):
        said = f"{record.trampoline} {record.claim}: {verdict_words(record)}: {record.reason}"
        print(said, file=sys.stderr)
    raise typer.Exit(FOUND if groups or undecided else 0)


def _accept(
    groups: Sequence[triaging.Group], name: str, reason: str | None, contract: Path | None
) -> None:
    group = next((one for one in groups if one.proposed == name.upper()), None)
    if group is None:
        known = ", ".join(one.proposed for one in groups) or "there is none"
        raise UserError(f"{name}: no new refutation has this id; those that have one: {known}.")
    if reason is None:
        raise UserError(f'--accept {name}: say what the finding is, with --reason "...".')
    path = contract or contract_of(group.cause.trampoline)
    if not path.is_file():
        raise UserError(f"{path}: there is no such contract; give it with --contract.")
    triaging.accept(group, path, reason)
    for one in group.records:
        if one.finding:
            print(f"it takes the place of {one.finding} in what {one.claim} is expected to be")
    print(f"written: {path}: {group.proposed} for {', '.join(group.claims)}; now prove again")


def _told(group: triaging.Group) -> str:
    first = group.records[0]
    lines = [
        f"{group.proposed}: {group.title}",
        f"  refutes {', '.join(group.claims)} of {group.cause.trampoline}; cause "
        f"{group.cause.fingerprint}",
    ]
    if first.witness is not None:
        lines.append(f"  smallest input: {smallest_input(first.witness)}")
    lines.append(f"  tramp explain {first.trampoline}.{first.claim}")
    lines.append(f'  tramp triage --accept {group.proposed} --reason "..."')
    return "\n".join(lines)


def _as_json(group: triaging.Group) -> dict[str, object]:
    root = group.cause
    return {
        "proposed": group.proposed,
        "title": group.title,
        "trampoline": root.trampoline,
        "claims": list(group.claims),
        "fingerprint": root.fingerprint,
        "condition": root.condition,
        "place": root.place,
        "operation": root.operation,
        "source": root.source,
        "entry": triaging.entries_text(group, group.title),
    }


def _amiss(record: ClaimRecord) -> bool:
    return not record.as_expected or is_contradicted(record)


def _records(folder: Path) -> list[ClaimRecord]:
    records = read_all(folder)
    if not records:
        raise ReportError(f"{folder}: holds no verdict files; run tramp prove first.")
    return records


def _found_again(record: ClaimRecord, contract: Path | None) -> ClaimRecord:
    """Prove its claim again, with all that is then run; the new verdict."""
    path = contract or _contract(record.trampoline)
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        out = Path(folder)
        print("proving it again, to replay what is then found", file=sys.stderr)
        named = [record.trampoline], [record.claim]
        if run_proofs([path], *named, out, (), subprocess.DEVNULL) not in (0, 1):
            raise UserError(f"{record.trampoline}: it cannot be proved again; see: tramp prove.")
        return read_one(out / file_name(record.trampoline, record.claim))


def _record(name: str, out: Path) -> ClaimRecord:
    """Of a verdict file's path, or by the name of a finding or claim."""
    if name.endswith(".json"):
        return read_one(Path(name))
    return explanation.find(_records(out), name)


def _contract(name: str) -> Path:
    """Of a shipped trampoline's name, or of a path."""
    if (path := contract_of(name)).is_file():
        return path
    path = Path(name)
    if path.is_file():
        return path.resolve()
    known = [path.parent.name for path in shipped()]
    raise UserError(
        f"{name}: neither a contract nor a shipped trampoline; give a path to a contract.toml, or "
        f"one of {', '.join(known)}."
    )


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a mistake ends in one sentence and status 2."""
    try:
        app(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
