# SPDX-License-Identifier: GPL-2.0-only
"""Can the claims fail? Kill each executed instruction by nops and see which verdict turns.

    python -m proofs.mutants trampoline/multikernel/contract.toml [--jobs 2]

A claim that holds whatever the code does shows nothing. An instruction whose loss no claim notices
is either of no use or outside what the claims speak of: those are listed as SURVIVED. Nothing is
replayed here. Results go into a JSON file after each mutant, so a run that was interrupted goes on
where it stopped; it starts anew when image or contract changed.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.table import Table

from harness.replay.coverage import not_reached
from harness.replay.predict import Predictor
from harness.replay.story import source_of, symbol_before
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Verdict, worst
from harness.x86.execute import execute
from harness.x86.lift import MAX_LENGTH, lift
from harness.x86.run import Run
from models.modes import Mode
from proofs.prove import Prove
from proofs.subject import Subject
from proofs.test_descriptor_tables import test_descriptor_tables
from proofs.test_determined import test_determined
from proofs.test_frame import test_code, test_footprint, test_stack, test_untouched
from proofs.test_hand_off import test_hand_off
from proofs.test_identity_map import (
    test_boot_params_identity_map,
    test_image_identity_map,
    test_kernel_identity_map,
)
from proofs.test_no_fault import test_no_fault
from proofs.test_paths import test_paths
from proofs.test_stale import test_no_stale_translation
from proofs.test_status_word import test_status_word
from reports.files import OUT, write_atomically
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError
from trampoline.image import Image, load_image

NOP = b"\x90"
SURVIVED = "SURVIVED"
UNDECIDED = "UNDECIDED"
Claim = Callable[[Subject, Prove], None]
CHEAPEST_FIRST: tuple[Claim, ...] = (
    test_paths,
    test_no_fault,
    test_code,
    test_hand_off,
    test_status_word,
    test_descriptor_tables,
    test_stack,
    test_footprint,
    test_untouched,
    test_determined,
    test_image_identity_map,
    test_boot_params_identity_map,
    test_kernel_identity_map,
    test_no_stale_translation,
)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mutant(_Stored):
    """One instruction replaced by nops. `claim` is the first whose verdict is not PROVED."""

    offset: int  # of the instruction in the image, in bytes
    length: int  # in bytes
    source: str  # file:line
    symbol: str  # the symbol before it
    instruction: str
    verdict: str  # of the claim; or SURVIVED: all are PROVED; or UNDECIDED
    claim: str = ""
    reason: str = ""
    seconds: float = 0.0


class Campaign(_Stored):
    """All that is known so far of the mutants of one image and contract."""

    trampoline: str
    sha256: str  # of the image's bytes, then the contract file's
    instructions: int  # that some path executes
    not_reached: tuple[str, ...]
    mutants: tuple[Mutant, ...]


class _Turned(Exception):
    def __init__(self, claim: str, verdict: Verdict, reason: str) -> None:
        super().__init__(claim, verdict, reason)
        self.turned = claim, str(verdict), reason


def without(image: Image, offset: int, length: int) -> Image:
    """The image with `length` bytes from `offset` on replaced by nops of one byte each."""
    data = image.data[:offset] + NOP * length + image.data[offset + length :]
    return replace(image, data=data)


def first_turned(
    contract: Contract, image: Image, claims: Sequence[Claim] = CHEAPEST_FIRST
) -> tuple[str, str, str]:
    """(claim, verdict, reason) of the first claim that is not PROVED; SURVIVED if all are."""
    run = execute(contract, image)
    subject = Subject(contract, image, run)
    predictor = Predictor(contract, image, run)
    refused = subject.left_out

    def judge(claim: str, *obligations: Obligation, gaps: tuple[str, ...] = ()) -> None:
        if refused or gaps:
            raise _Turned(claim, Verdict.UNSUPPORTED, "; ".join((*refused, *gaps)))
        results = []
        for obligation in obligations:
            results.append(decide(obligation, predictor))
            if results[-1].verdict is not Verdict.PROVED:
                break
        verdict = worst([result.verdict for result in results])
        if verdict is not Verdict.PROVED:
            last = results[-1] if results else None
            reason = f"{last.obligation}: {last.reason}" if last else "it has no obligation"
            raise _Turned(claim, verdict, reason)

    try:
        for claim in claims:
            claim(subject, cast(Prove, judge))  # a claim does nothing with it but call it
    except _Turned as turned:
        return turned.turned
    return "", SURVIVED, ""


def candidates(image: Image, run: Run) -> Iterator[Mutant]:
    """A mutant for each executed instruction, in the image's order, not yet judged."""
    modes: dict[int, Mode] = {}
    for end in run.ends:
        for offset, name in end.trace:
            modes.setdefault(offset, Mode[name])
    for offset, mode in sorted(modes.items()):
        instruction = lift(image.data[offset : offset + MAX_LENGTH], offset, mode.bits)
        yield Mutant(
            offset=offset,
            length=instruction.length,
            source=source_of(image, offset),
            symbol=symbol_before(image, offset),
            instruction=str(instruction),
            verdict=UNDECIDED,
        )


def _work(path: Path, mutant: Mutant, answer: Connection) -> None:
    """In a process of its own: whatever a mutant does, the campaign goes on."""
    started = time.perf_counter()
    try:
        contract = load_contract(path)
        image = without(load_image(contract), mutant.offset, mutant.length)
        claim, verdict, reason = first_turned(contract, image)
    except KeyboardInterrupt:
        return
    except Exception as error:
        claim, verdict, reason = "", UNDECIDED, f"{type(error).__name__}: {error}"
    seconds = round(time.perf_counter() - started, 2)
    judged = {"claim": claim, "verdict": verdict, "reason": reason, "seconds": seconds}
    answer.send(mutant.model_copy(update=judged))


def judge_all(path: Path, mutants: Iterable[Mutant], jobs: int, limit: float) -> Iterator[Mutant]:
    """The mutants with their verdicts, as they come; UNDECIDED after `limit` seconds."""
    processes = multiprocessing.get_context("spawn")  # z3 does not survive a fork
    todo = list(mutants)[::-1]
    running: dict[Connection, tuple[Any, Mutant, float]] = {}
    try:
        while todo or running:
            while todo and len(running) < jobs:
                mutant = todo.pop()
                ours, theirs = processes.Pipe(duplex=False)
                process = processes.Process(target=_work, args=(path, mutant, theirs), daemon=True)
                process.start()
                theirs.close()
                running[ours] = process, mutant, time.monotonic() + limit
            soonest = min(deadline for _, _, deadline in running.values())
            ready = wait(list(running), timeout=max(soonest - time.monotonic(), 0))
            late = [pipe for pipe, job in running.items() if time.monotonic() > job[2]]
            for pipe in {*cast(list[Connection], ready), *late}:
                process, mutant, _ = running.pop(pipe)
                yield _outcome(pipe, process, mutant, limit)
    finally:
        for process, _, _ in running.values():
            process.kill()
            process.join()


def _outcome(pipe: Connection, process: Any, mutant: Mutant, limit: float) -> Mutant:
    try:
        if pipe.poll():
            return cast(Mutant, pipe.recv())
        reason = f"not decided within {limit:g} s"
    except EOFError:
        reason = "its process died"
    finally:
        process.kill()
        process.join()
        pipe.close()
    return mutant.model_copy(update={"reason": reason, "seconds": limit})


def _known(path: Path, fresh: Campaign) -> Campaign:
    """What the file holds of the same image and contract; UNDECIDED ones are tried again."""
    try:
        stored = Campaign.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return fresh
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name another file.") from None
    except ValidationError:
        raise UserError(f"{path}: holds no mutants; delete it or name another file.") from None
    if stored.sha256 != fresh.sha256:
        return fresh
    decided = tuple(mutant for mutant in stored.mutants if mutant.verdict != UNDECIDED)
    return fresh.model_copy(update={"mutants": decided})


def _line(mutant: Mutant) -> str:
    verdict = f"{mutant.claim} {mutant.verdict}".strip()
    return f"{mutant.offset:#05x}  {mutant.source}  {mutant.instruction}  {verdict}"


def print_campaign(campaign: Campaign, console: Console) -> None:
    """The table: what each mutant turned; then numbers, and what no path executes."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("offset", "source", "instruction", "turned"):
        table.add_column(heading, no_wrap=heading != "turned", overflow="fold")
    verdicts: dict[str, int] = {}
    for mutant in campaign.mutants:
        style = {SURVIVED: "yellow", UNDECIDED: "red"}.get(mutant.verdict, "")
        turned = f"{mutant.claim} {mutant.verdict}".strip()
        if mutant.verdict == UNDECIDED:
            turned += f": {mutant.reason}"
        table.add_row(
            f"{mutant.offset:#05x}", mutant.source, mutant.instruction, turned, style=style
        )
        verdicts[mutant.verdict] = verdicts.get(mutant.verdict, 0) + 1
    console.print(table)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    console.print(
        f"{campaign.trampoline}: {len(campaign.mutants)} of {campaign.instructions} executed "
        f"instructions killed: {counts or 'none'}",
        soft_wrap=True,
    )
    for place in campaign.not_reached:
        console.print(f"not executed on any path, so not tried: {place}", soft_wrap=True)


def campaign_of(
    path: Path, out: Path | None, jobs: int, limit: float, offsets: Sequence[int], console: Console
) -> Campaign:
    """Judge all mutants of the contract's image that `out` does not know yet. Raises UserError."""
    contract = load_contract(path)
    image = load_image(contract)
    run = execute(contract, image)
    out = out or OUT / "mutants" / f"{contract.name}.json"
    mutants = list(candidates(image, run))
    fresh = Campaign(
        trampoline=contract.name,
        sha256=hashlib.sha256(image.data + path.read_bytes()).hexdigest(),
        instructions=len(mutants),
        not_reached=not_reached(image, run.covered),
        mutants=(),
    )
    campaign = _known(out, fresh)
    known = {mutant.offset for mutant in campaign.mutants}
    wanted = set(offsets) or {mutant.offset for mutant in mutants}
    todo = [m for m in mutants if m.offset in wanted and m.offset not in known]
    for number, mutant in enumerate(judge_all(path, todo, jobs, limit), start=1):
        together = sorted((*campaign.mutants, mutant), key=lambda m: m.offset)
        campaign = campaign.model_copy(update={"mutants": tuple(together)})
        write_atomically({out: campaign.model_dump_json(indent=1).encode() + b"\n"})
        console.print(
            f"{number}/{len(todo)}  {_line(mutant)}  {mutant.seconds:.1f} s",
            soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip
    return campaign


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m proofs.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("contract", type=Path, metavar="PATH/contract.toml")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time; default: 1")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one; default: 600")
    parser.add_argument(
        "--out", type=Path, help="JSON file; default: reports/out/mutants/NAME.json"
    )
    parser.add_argument(
        "--at",
        type=lambda text: int(text, 0),
        action="append",
        default=[],
        metavar="OFFSET",
        help="only the instruction at this offset of the image (repeatable)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; 0 if every mutant tried is decided, 1 otherwise or with one sentence."""
    options = _options(arguments)
    console = Console()
    try:
        campaign = campaign_of(
            options.contract,
            options.out,
            max(options.jobs, 1),
            options.limit,
            options.at,
            console,
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print_campaign(campaign, console)
    return int(any(mutant.verdict == UNDECIDED for mutant in campaign.mutants))


def _run() -> NoReturn:
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # what is decided is in the file


if __name__ == "__main__":
    _run()
