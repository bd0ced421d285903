# SPDX-License-Identifier: GPL-2.0-only
"""The symbolic machine beside another CPU: whole trampolines, or single instructions.

    python -m harness.lockstep [PATH/contract.toml ...] [--inputs 100] [--qemu]
    python -m harness.lockstep --single [PATH/contract.toml ...] [--states 1000]

Without a contract: all shipped trampolines. What is done is kept, so that a campaign which was
interrupted goes on where it stopped; it starts anew when anything of the project changed.
"""

from __future__ import annotations

import hashlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import ValidationError
from rich.console import Console

from harness.lockstep.record import MismatchRecord, SingleRecord, WholeRecord
from harness.lockstep.singles import MODES, compare_mode, not_compared, of_trampolines
from harness.lockstep.whole import QEMU, UNICORN, step_through
from reports.files import OUT, write_atomically
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("harness", "models", "trampoline")
Record = TypeVar("Record", WholeRecord, SingleRecord)


def fingerprint(contracts: Sequence[Path]) -> str:
    """Changes when any file does that a comparison depends on."""
    digest = hashlib.sha256()
    folders = [*(ROOT / part for part in PARTS), *(path.resolve().parent for path in contracts)]
    files = {path for folder in folders for path in folder.rglob("*")}
    for path in sorted((*files, ROOT / "requirements.lock")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def kept(path: Path, kind: type[Record], mark: str, asked: int) -> Record | None:
    """What an earlier campaign has compared, if it is what is asked for and nothing differed."""
    try:
        record = kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    same = record.of == mark and record.asked == asked and record.mismatch is None
    return record if same else None


def whole(options: Namespace, console: Console) -> bool:
    """Step through trampolines. Whether all agree."""
    mark, good = fingerprint(options.contracts), True
    beside = QEMU if options.qemu else UNICORN
    for contract in map(load_contract, options.contracts):
        path = options.out / f"{contract.name}{'-qemu' if options.qemu else ''}.json"
        record = kept(path, WholeRecord, mark, options.inputs)
        if record is None or record.beside != beside.name():
            with console.status(contract.name) as status:
                say = _saying(status.update, contract.name)
                record = step_through(contract, options.inputs, mark, say, beside)
            write_atomically({path: record.model_dump_json(indent=2).encode() + b"\n"})
        inputs = ", ".join(f"{name} {count}" for name, count in record.inputs.items())
        console.print(
            f"{record.trampoline}: {inputs} inputs; {record.steps:,} steps, "
            f"{record.registers:,} registers, {record.writes:,} writes compared, "
            f"{int(record.mismatch is not None)} mismatches ({record.seconds:.0f} s)",
            soft_wrap=True,
        )
        good = _told(console, record.trampoline, record.beside, record.mismatch) and good
    return good


def single(options: Namespace, console: Console) -> bool:
    """Compare single instructions. Whether all agree, and something was compared of each form."""
    mark, good = fingerprint(options.contracts), True
    contracts: list[Contract] = [load_contract(path) for path in options.contracts]
    shipped = None
    for mode in MODES:
        path = options.out / f"single-{mode.name.lower()}.json"
        record = kept(path, SingleRecord, mark, options.states)
        if record is None:
            with console.status(mode.value) as status:
                say = _saying(status.update, mode.value)
                if shipped is None:
                    say("executing the trampolines")
                    shipped = of_trampolines(contracts)
                record = compare_mode(mode, shipped, options.states, mark, say)
            write_atomically({path: record.model_dump_json(indent=2).encode() + b"\n"})
        forms = record.forms
        own, states, compared, faults = (
            sum(getattr(one, name) for one in forms)
            for name in ("shipped", "states", "compared", "faults")
        )
        limits = sum(sum(one.limits.values()) for one in forms)
        console.print(
            f"{mode.value}: {len(forms)} forms ({own} shipped), {states:,} states: {compared:,} "
            f"compared ({faults:,} faults), {limits:,} where the CPU is known to differ, "
            f"{states - compared - limits:,} not executed by the machine; "
            f"{int(record.mismatch is not None)} mismatches ({record.seconds:.0f} s)",
            soft_wrap=True,
        )
        good = _told(console, "single instruction", record.beside, record.mismatch) and good
        if record.mismatch is None and (empty := not_compared(forms)):
            _complain(console, f"{mode.value}: nothing was compared of {', '.join(empty)}")
            good = False
    return good


def _saying(update: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda text: update(f"{name}: {text}")


def _told(console: Console, name: str, beside: str, found: MismatchRecord | None) -> bool:
    """Whether there is no mismatch; one line if there is one. `beside`: the CPU's name, version."""
    if found is None:
        return True
    values = ", ".join(f"{name} = {value}" for name, value in found.values.items())
    source = f" ({found.source})" if found.source else ""
    _complain(
        console,
        f"{name}: {found.where}: `{found.instruction}`{source}: {found.what}: the {found.by} says "
        f"{found.predicted}, {beside.split()[0]}'s CPU {found.observed}; with {values}",
    )
    return False


def _complain(console: Console, text: str) -> None:
    console.print(text, style="bold red", soft_wrap=True, markup=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all that was compared agrees; 1 if not, or with one sentence."""
    parser = ArgumentParser(prog="python -m harness.lockstep", description=__doc__.split("\n")[0])
    parser.add_argument("contracts", nargs="*", type=Path, metavar="PATH/contract.toml")
    parser.add_argument("--inputs", type=_positive, default=100, help="for each entry; default 100")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--qemu", action="store_true", help="beside QEMU's CPU, not unicorn's")
    kind.add_argument("--single", action="store_true", help="single instructions instead")
    parser.add_argument("--states", type=_positive, default=1000, help="of each; default 1000")
    parser.add_argument(
        "--out", type=Path, default=OUT / "lockstep", help="default: reports/out/lockstep"
    )
    options = parser.parse_args(arguments)
    options.contracts = options.contracts or sorted((ROOT / "trampoline").glob("*/contract.toml"))
    console = Console(highlight=False)
    try:
        return 0 if (single if options.single else whole)(options, console) else 1
    except UserError as error:
        print(error, file=sys.stderr)
        return 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _run() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what is complete is kept


if __name__ == "__main__":
    _run()
