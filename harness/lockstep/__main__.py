# SPDX-License-Identifier: GPL-2.0-only
"""The symbolic machine beside another CPU: whole trampolines, or single instructions.

    python -m harness.lockstep [PATH/contract.toml ...] [--inputs 100] [--qemu | --kvm]
    python -m harness.lockstep --single [PATH/contract.toml ...] [--states 1000] [--qemu]

Without a contract: all shipped trampolines. What is done is kept, so that a campaign which was
interrupted goes on where it stopped; it starts anew when anything of the project changed.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from pydantic import ValidationError
from rich.console import Console

from harness.guard import GuardRecord
from harness.lockstep import kvm
from harness.lockstep.guards import INPUTS, STATES, of_single, of_whole
from harness.lockstep.record import SingleRecord, WholeRecord
from harness.lockstep.singles import MODES, asked, compare_mode, of_trampolines
from harness.lockstep.whole import BESIDE, step_through
from harness.lockstep.workers import stepped, workers
from harness.options import positive
from reports.files import OUT, write_atomically
from reports.fingerprint import fingerprint
from reports.guards import write_guard
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError
from trampoline.shipped import contracts

Record = TypeVar("Record", WholeRecord, SingleRecord)


class Of(NamedTuple):
    """What is compared: see `WholeRecord` and `SingleRecord`. `name`: of the trampoline or mode."""

    name: str
    beside: str
    mark: str
    asked: int


def kept(path: Path, kind: type[Record], of: Of) -> Record | None:
    """What an earlier campaign has compared, if it is what is asked for and nothing differed."""
    try:
        record = kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    name = record.trampoline if isinstance(record, WholeRecord) else record.mode
    same = Of(name, record.beside, record.of, record.asked) == of and record.mismatch is None
    return record if same else None


def whole(options: Namespace, console: Console) -> GuardRecord:
    """Step through trampolines."""
    whole_mark = fingerprint()
    mark, records = fingerprint(contracts=options.contracts), list[WholeRecord]()
    name = BESIDE[options.beside].name()
    known: dict[Path, WholeRecord | None] = {}
    for path in options.contracts:
        of = Of(load_contract(path).name, name, mark, options.inputs)
        known[path] = kept(_file(options, of.name), WholeRecord, of)
    todo = [path for path, record in known.items() if record is None]
    found = _found(todo, options, mark, console)
    for record in known.values():
        if record is None:
            record = next(found)
            document = record.model_dump_json(indent=2).encode() + b"\n"
            write_atomically({_file(options, record.trampoline): document})
        records.append(record)
        if record.not_compared:
            console.print(f"{record.trampoline}: {record.not_compared}", soft_wrap=True)
            continue
        inputs = ", ".join(f"{name} {count}" for name, count in record.inputs.items())
        console.print(
            f"{record.trampoline}: {inputs} inputs; {record.steps:,} steps, "
            f"{record.registers:,} registers, {record.writes:,} writes compared, "
            f"{int(record.mismatch is not None)} mismatches ({record.seconds:.0f} s)",
            soft_wrap=True,
        )
    return of_whole(records, whole_mark)


def _found(
    todo: Sequence[Path], options: Namespace, mark: str, console: Console
) -> Iterator[WholeRecord]:
    """Records in this order. One trampoline alone shows its progress; several share the cores."""
    if len(todo) == 1:
        contract = load_contract(todo[0])
        with console.status(contract.name) as status:
            say = _saying(status.update, contract.name)
            record = step_through(contract, options.inputs, mark, say, options.beside)
        yield record
        return
    found = stepped(todo, options.inputs, mark, options.beside)
    for number, path in enumerate(todo, start=1):
        with console.status(f"{number} of {len(todo)} trampolines: {path.parent.name}"):
            record = next(found)
        yield record


def _file(options: Namespace, name: str) -> Path:
    """What is kept of a trampoline or a mode."""
    suffix = "" if options.beside == "unicorn" else f"-{options.beside}"
    file: Path = options.out / f"{name}{suffix}.json"
    return file


def single(options: Namespace, console: Console) -> GuardRecord:
    """Compare single instructions."""
    whole_mark = fingerprint()
    mark, records = fingerprint(contracts=options.contracts), list[SingleRecord]()
    contracts: list[Contract] = [load_contract(path) for path in options.contracts]
    name = BESIDE[options.beside].name()
    shipped = None
    with workers(options.beside == "qemu") as compare:
        for mode in MODES:
            path = _file(options, f"single-{mode.name.lower()}")
            record = kept(path, SingleRecord, Of(mode.value, name, mark, options.states))
            if record is None:
                with console.status(mode.value) as status:
                    say = _saying(status.update, mode.value)
                    if shipped is None:
                        say("executing the trampolines")
                        shipped = of_trampolines(contracts)
                    everything = asked(mode, shipped, options.states)
                    given = options.states, mark, say, name, compare
                    record = compare_mode(mode, everything, *given)
                write_atomically({path: record.model_dump_json(indent=2).encode() + b"\n"})
            console.print(_line(record), soft_wrap=True)
            records.append(record)
    return of_single(records, whole_mark)


def _line(record: SingleRecord) -> str:
    own, states, compared, faults = (
        sum(getattr(one, name) for one in record.forms)
        for name in ("shipped", "states", "compared", "faults")
    )
    limits = sum(sum(one.limits.values()) for one in record.forms)
    return (
        f"{record.mode}: {len(record.forms)} forms ({own} shipped), {states:,} states: "
        f"{compared:,} compared ({faults:,} faults), {limits:,} where the CPU is known to differ, "
        f"{states - compared - limits:,} not executed; "
        f"{int(record.mismatch is not None)} mismatches ({record.seconds:.0f} s)"
    )


def _saying(update: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda text: update(f"{name}: {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all that was compared agrees; 1 if not, or with one sentence."""
    parser = ArgumentParser(prog="python -m harness.lockstep", description=__doc__.split("\n")[0])
    parser.add_argument("contracts", nargs="*", type=Path, metavar="PATH/contract.toml")
    parser.add_argument("--inputs", type=positive, help="for each entry; default 100, beside KVM 3")
    beside = parser.add_mutually_exclusive_group()
    for name, what in (("qemu", "QEMU's CPU"), ("kvm", "that of the host's KVM")):
        chosen = f"beside {what}, not unicorn's"
        beside.add_argument(
            f"--{name}", dest="beside", action="store_const", const=name, help=chosen
        )
    parser.set_defaults(beside="unicorn")
    parser.add_argument("--single", action="store_true", help="single instructions instead")
    parser.add_argument(
        "--states", type=positive, default=STATES, help="of each; default %(default)s"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT / "lockstep", help="default: reports/out/lockstep"
    )
    options = parser.parse_args(arguments)
    options.inputs = options.inputs or INPUTS[options.beside]
    shipped = contracts()
    options.contracts = options.contracts or shipped
    console = Console(highlight=False)
    try:
        if options.beside == "kvm" and options.single:
            raise UserError("Single instructions go beside unicorn and QEMU only; leave out --kvm.")
        if options.beside == "kvm" and not kvm.opens():
            raise UserError(f"{kvm.DEVICE} does not open: this host gives no KVM, or not to you.")
        guard = (single if options.single else whole)(options, console)
        if options.contracts == shipped:
            write_guard(guard, options.out.parent)
        for problem in guard.problems:
            console.print(problem, style="bold red", soft_wrap=True, markup=False)
        return int(bool(guard.problems))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1


def _run() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what is complete is kept


if __name__ == "__main__":
    _run()
