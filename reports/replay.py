# SPDX-License-Identifier: GPL-2.0-only
"""Replays what a verdict file holds of a refutation: in QEMU once more, or up to its end in gdb."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.job_record import JobRecord
from harness.qemu import gdb
from harness.qemu.debugger import DebuggerError
from harness.qemu.job import OutcomeKind
from harness.qemu.machine import TARGET, Machine, NotReached
from harness.qemu.vm import VmDead
from harness.record import ClaimRecord, ReplayRecord, StepRecord
from harness.replay.compare import ANY_FAILURE, OUTCOME, shown
from harness.x86.given import as_assembled
from reports.summary import name_of, what_is_said
from trampoline.assemble import assemble
from trampoline.contract import Contract
from trampoline.elf import read_part
from trampoline.errors import UserError
from trampoline.image import load_image

NOT_64_BIT = (
    "gdb takes all code for 64-bit code: here, read the source lines, not what it disassembles"
)


SECOND = "the second start: "
"""Before what is said of the second of two starts that a claim compares."""


@dataclass(frozen=True)
class Again:
    """A second replay: what it shows beside what the verdict file says that one showed."""

    record: ClaimRecord
    inputs: dict[str, str]
    recorded: dict[str, str]
    observed: dict[str, str]
    differs: tuple[str, ...]

    @property
    def as_json(self) -> dict[str, object]:
        """For a program to read."""
        named = {"trampoline": self.record.trampoline, "claim": self.record.claim}
        return named | {key: value for key, value in vars(self).items() if key != "record"}


def replay(record: ClaimRecord, accel: str) -> Again:
    """Run what refutes the claim once more; of two starts that it compares both."""
    held = replayable(record)
    inputs = _inputs(record, held)
    again = _again(record, held, inputs, accel)
    second = record.witness.second_replayed if record.witness is not None else None
    if second is None or second.replay is None or second.replay.job is None:
        return again
    its = {f"{SECOND}{name}": value for name, value in second.inputs.items()}
    other = _again(record, second.replay, inputs | its, accel)
    recorded, observed = (
        one | {f"{SECOND}{name}": value for name, value in more.items()}
        for one, more in ((again.recorded, other.recorded), (again.observed, other.observed))
    )
    differs = (*again.differs, *(f"{SECOND}{name}" for name in other.differs))
    return Again(record, other.inputs, recorded, observed, differs)


def _again(record: ClaimRecord, held: ReplayRecord, inputs: dict[str, str], accel: str) -> Again:
    """One start once more."""
    given = _job(record, held)
    with _machine(record, given, accel) as machine:
        found = shown(given.job, machine.replay(given.job))
    observed = {name: found.get(name, "not seen") for name in held.observed}
    differs = tuple(name for name, value in observed.items() if not _same(held, name, value))
    return Again(record, inputs, held.observed, observed, differs)


def of_steps(before: ClaimRecord, now: ClaimRecord) -> Again:
    """Of a claim that is refuted by schedules, or by runs of the host's code: what was found and
    replayed now beside what was before."""
    recorded, observed = _of_all(before), _of_all(now)
    names = {**recorded, **observed}
    differs = tuple(name for name in names if recorded.get(name) != observed.get(name))
    seen = {name: observed.get(name, "not found") for name in names}
    was = {name: recorded.get(name, "nothing") for name in names}
    return Again(now, {}, was, seen, differs)


def _of_all(record: ClaimRecord) -> dict[str, str]:
    """What each schedule and each goal shows, by name."""
    found = {one.shows or "the schedule": one.replay for one in record.schedules}
    found |= {one.goal: one.replay for one in record.goals}
    return {
        f"{what}: {name}": value
        for what, shows in found.items()
        for name, value in {"evidence": str(shows.evidence), **shows.observed}.items()
    }


def tell(again: Again, console: Console) -> None:
    """Print it."""
    record = again.record
    console.print(f"{name_of(record)}: {what_is_said(record)}")
    if record.witness is not None and (another := record.witness.another) is not None:
        console.print(f"QEMU cannot show the smallest input ({another.why}); this one violates:")
        for condition in another.violated:
            console.print(f"  {condition}")
    for name, value in again.inputs.items():
        console.print(f"  {name} = {value}")
    console.print("seen:")
    for name, value in again.observed.items():
        before = f"  (the verdict file: {again.recorded[name]})" if name in again.differs else ""
        console.print(f"  {name} = {value}{before}")
    console.print("something differs" if again.differs else "as the verdict file says")


def debug(
    record: ClaimRecord,
    contract: Contract | None,
    accel: str,
    arguments: Sequence[str],
    console: Console,
) -> int:
    """Stop it before the last instruction of its path, and run gdb there; gdb's exit status.

    `contract`: of the trampoline, whose symbols and lines gdb then knows. `arguments`: more of
    gdb's.
    """
    gdb.check()
    held = replayable(record)
    given = _job(record, held)
    with (
        _machine(record, given, accel) as machine,
        tempfile.TemporaryDirectory(prefix="code-") as folder,
    ):
        try:
            vm = machine.stop_before(given.job, given.last, given.passes)
            rip, long = vm.debugger.registers(TARGET)["rip"], vm.cpu(TARGET).in_64_bit_mode
        except NotReached as error:
            raise UserError(f"{name_of(record)}: the CPU does not come to {error}.") from None
        except (VmDead, DebuggerError) as error:
            raise UserError(f"{name_of(record)}: QEMU fails ({error}); try once more.") from None
        console.print(_place(record, held, given))
        if record.witness is not None and record.witness.second_replayed is not None:
            console.print("of the two starts that the claim compares this is the first")
        symbols: list[str] = []
        if contract is not None and _is_of(contract, given):
            symbols = _symbols(contract, rip - given.offset, Path(folder))
        elif contract is not None:
            console.print(f"without symbols: {contract.path} makes another image than this by now")
        if not long:
            console.print(NOT_64_BIT)
        return gdb.debug(vm, TARGET, ["set pagination off", *symbols], arguments)


def replayable(record: ClaimRecord) -> ReplayRecord:
    """What refutes the claim, or contradicts its proof, by one start of one CPU. Raises UserError
    if there is none."""
    if record.witness is not None:
        return record.witness.replay
    if record.samples is not None and record.samples.contradictions:
        return record.samples.contradictions[0]
    why = f"it is {record.verdict}, and nothing refutes it"
    if record.schedules or record.goals:
        why = "steps of host and CPUs refute it, not one start of a CPU"
    raise UserError(f"{name_of(record)}: there is no input to be replayed: {why}.")


def _job(record: ClaimRecord, held: ReplayRecord) -> JobRecord:
    if held.job is None:
        raise UserError(f"{name_of(record)}: QEMU cannot show it: {held.reason}.")
    return held.job


@contextmanager
def _machine(record: ClaimRecord, given: JobRecord, accel: str) -> Iterator[Machine]:
    """The machine that a job is for. Raises UserError where the job is none for a machine."""
    lacking = frozenset(given.lacking)
    try:
        with Machine(given.phys_bits, lacking=lacking, accel=accel) as machine:
            yield machine
    except ValueError as error:  # BadJob is one
        if accel != "tcg":
            raise UserError(
                f"{name_of(record)}: the host's CPU cannot show it ({error}); leave out --accel."
            ) from None
        raise UserError(
            f"{name_of(record)}: its verdict file holds nothing that can be run ({error}); prove "
            "it again."
        ) from None


def _inputs(record: ClaimRecord, held: ReplayRecord) -> dict[str, str]:
    """Those that are replayed: of the smallest input, or of another one that QEMU can show."""
    if record.witness is None:
        return {name: value for name, value in held.predicted.items() if name not in held.observed}
    another = record.witness.another
    return record.witness.inputs if another is None else another.inputs


def _same(held: ReplayRecord, name: str, value: str) -> bool:
    """As observed before; or a failure again, where nothing else could be foretold."""
    if name == OUTCOME and held.predicted.get(name) == ANY_FAILURE:
        return value in set(OutcomeKind) - {OutcomeKind.HAND_OFF, OutcomeKind.DEAD}
    return value == held.observed[name]


def _place(record: ClaimRecord, held: ReplayRecord, given: JobRecord) -> str:
    """Where the CPU stands, in the words of the story, if that tells of this instruction."""
    steps: Sequence[StepRecord] = ()
    if record.witness is not None and record.witness.another is None:
        steps = record.witness.path  # of this input
    told = [one for one in steps if int(one.offset, 16) == given.offset and one.count]
    where = f"{given.last:#x} (offset {given.offset:#x} of the image)"
    if told:
        step = told[-1]
        where = f"{step.source or step.symbol}, {where}: {step.instruction} ({step.mode})"
    then = held.observed.get(OUTCOME, "")
    return f"stopped before the last instruction: {where}\nthen: {then}"


def _is_of(contract: Contract, given: JobRecord) -> bool:
    """The image that a job starts is the one that the contract makes now."""
    image = load_image(contract)
    return len(image.data) == len(given.image) and all(
        image.data[offset] == given.image[offset] for offset in as_assembled(contract, image)
    )


def _symbols(contract: Contract, start: int, folder: Path) -> list[str]:
    """Commands that load symbols and lines. `start`: RIP of the image's first byte."""
    image, beside = contract.image, contract.path.parent
    target = beside / (image.object or "")
    if image.source is not None:
        target = folder / "image.o"
        if (problem := assemble(beside / image.source, target)) is not None:
            raise UserError(problem)
    if image.symbols is not None and image.carrier is None:
        whole = read_part(target, image.section, None)
        if isinstance(whole, str):
            raise UserError(f"{target}: {whole}")
        start -= whole.symbols[image.symbols[0]]
    quiet = "| cat >/dev/null"
    where = f"-s {image.section} {start % (1 << 64):#x}"
    return [f'pipe add-symbol-file "{target}" {where} {quiet}']
