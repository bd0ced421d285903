# SPDX-License-Identifier: GPL-2.0-only
"""Evidence for verdicts: refutations shown in QEMU, proofs sampled there."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple

import z3

from harness.qemu.machine import Machine
from harness.qemu.vm import QemuMissing
from harness.record import Evidence, ReplayRecord, SamplesRecord, deciding
from harness.replay.cpu import lacking
from harness.replay.names import second_start
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Input, Prediction, Predictor
from harness.replay.replay import not_replayed, replay
from harness.replay.sample import corners, randoms, region
from harness.solve.evaluate import evaluate
from harness.solve.obligation import END, IMAGE, NOTHING, OUTSIDE, Obligation, Witness
from harness.x86.run import Run
from harness.x86.terms import OTHER
from trampoline.contract import Contract

PHYS_BITS = 40  # MAXPHYADDR of the machine that most replays run on, if the contract allows it
WANTED = 200  # replays beside the proofs of one trampoline; fewer are said to be too few
OTHER_PHYS_BITS = (36, 46)
SHARE = 0.1  # of the samples, on each of the other machines
FEW = 0.04  # of the samples, where a few are enough
ROUNDS_MAX = 20  # of that share of more samples, where many cannot be replayed
MISSING = "qemu-system-x86_64 not found"
NO_REGISTERS = frozenset({END, IMAGE, OUTSIDE, NOTHING})
"""What else than registers may show a violation. Of two starts that are compared it shows in one of
them; that a register is not the same shows in both, if nothing else is violated."""
NOT_VIOLATED = "nothing is violated on a CPU and with memory as QEMU has them"


class Machines:
    """QEMU machines by MAXPHYADDR and missing features, started when first needed.

    Use it as a context manager.
    """

    def __init__(self) -> None:
        self._running: dict[tuple[int, frozenset[str]], Machine] = {}
        self.missing = False

    def __enter__(self) -> Machines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all machines."""
        for machine in self._running.values():
            machine.__exit__(kind, error, trace)
        self._running.clear()

    def get(self, phys_bits: int, lacking: frozenset[str] = frozenset()) -> Machine | None:
        """The machine with this MAXPHYADDR whose target CPU lacks these features, by QEMU's names.

        None if there is no QEMU.
        """
        key = phys_bits, lacking
        if key not in self._running and not self.missing:
            machine = Machine(phys_bits=phys_bits, lacking=lacking)
            try:
                self._running[key] = machine.__enter__()
            except QemuMissing:
                self.missing = True
        return self._running.get(key)


class Shown(NamedTuple):
    """The replay of a refutation; of two starts that are compared both, the second one where the
    first is CONFIRMED."""

    replay: ReplayRecord
    second: ReplayRecord | None = None

    @property
    def evidence(self) -> Evidence:
        """What both come to."""
        return deciding(self.replay, self.second).evidence


def show(
    contract: Contract,
    predictor: Predictor,
    machines: Machines,
    obligation: Obligation,
    witness: Witness,
) -> Shown:
    """Replay a refutation: CONFIRMED if QEMU does just what was predicted, and what is violated
    was itself seen."""
    given = as_on_qemu(predictor, witness.values, witness.entry_bytes)
    second = None
    if (other_start := second_start(witness)) is not None:
        # The goals speak of both starts: let them be the two that are replayed.
        second = as_on_qemu(predictor, other_start.values, other_start.entry_bytes)
        other = {f"{name}_{OTHER}": value for name, value in second.values.items()}
        both = {name: value for name, value in other.items() if name in witness.values}
        given = replace(given, values={**given.values, **both})
    machine = machines.get(given.values["maxphyaddr"], lacking(given.values))
    if machine is None:
        return Shown(not_replayed(Evidence.NOT_REPLAYED, MISSING))
    prediction = predictor.predict(given)
    probes: tuple[int, ...] = ()
    if obligation.probe is not None:
        probes = (evaluate(obligation.probe, given.values, prediction.memory),)
    violated = _violated(obligation, prediction)
    if not violated:
        return Shown(not_replayed(Evidence.NOT_REPLAYABLE, NOT_VIOLATED))
    shown_by = [obligation.shown_by.get(goal, (END,)) for goal in violated]
    record = replay(contract, predictor, machine, given, probes, shown_by)
    if second is None or record.evidence is not Evidence.CONFIRMED:
        return Shown(record)
    by_registers = all(NO_REGISTERS.isdisjoint(names) for names in shown_by)
    after = replay(contract, predictor, machine, second, (), shown_by if by_registers else None)
    return Shown(record, after)


def _violated(obligation: Obligation, prediction: Prediction) -> list[str]:
    """The goals that the input violates; none if it is outside of the hypotheses."""

    def holds(term: z3.BoolRef) -> bool:
        return bool(evaluate(term, prediction.values, prediction.memory))

    if not all(holds(hypothesis) for hypothesis in obligation.hypotheses):
        return []
    return [name for name, goal in obligation.goals.items() if not holds(goal)]


def sample(
    contract: Contract, predictor: Predictor, machines: Machines, run: Run, bases: tuple[int, int]
) -> SamplesRecord:
    """Replay corner inputs and random ones and compare each whole outcome with the prediction."""
    times: list[float] = []
    spread: Counter[str] = Counter()
    contradictions: list[ReplayRecord] = []
    for machine, given in _inputs(contract, predictor, machines, bases, spread):
        record = _sample_one(contract, predictor, machine, given, times)
        if record.evidence is Evidence.NOT_REPLAYABLE:
            continue
        spread[region(evaluate(run.kernel, given.values, lambda address: 0))] += 1
        if record.evidence is Evidence.CONTRADICTED:
            contradictions.append(record)
    if machines.missing:
        return SamplesRecord(
            count=0, agreed=0, contradictions=(), spread={}, milliseconds=0.0, reason=MISSING
        )
    count = spread.total()
    return SamplesRecord(
        count=count,
        agreed=count - len(contradictions),
        contradictions=tuple(contradictions),
        spread=dict(sorted(spread.items())),
        milliseconds=1000 * statistics.median(times) if times else 0.0,
        reason="" if count >= WANTED else f"only {count} inputs could be replayed",
    )


def sample_few(
    contract: Contract, predictor: Predictor, machines: Machines, bases: tuple[int, int]
) -> list[ReplayRecord]:
    """A few random inputs that could be replayed, each whole outcome compared with the prediction.

    Empty without QEMU.
    """
    machine = machines.get(usual_phys_bits(contract))
    if machine is None:
        return []
    inputs = randoms(predictor, bases, machine, FEW)
    records = [_sample_one(contract, predictor, machine, given, []) for given in inputs]
    return [record for record in records if record.evidence is not Evidence.NOT_REPLAYABLE]


def _inputs(
    contract: Contract,
    predictor: Predictor,
    machines: Machines,
    bases: tuple[int, int],
    replayed: Counter[str],
) -> Iterator[tuple[Machine, Input]]:
    """Each input with the machine to replay it on: corners, random ones, and a few for other
    MAXPHYADDR; then random ones until enough could be replayed, but not for ever."""
    usual = usual_phys_bits(contract)
    lowest, highest = contract.cpu.maxphyaddr
    others = [bits for bits in OTHER_PHYS_BITS if lowest <= bits <= highest and bits != usual]
    for phys_bits in (usual, *others):
        machine = machines.get(phys_bits)
        if machine is None:
            return
        if phys_bits == usual:
            main = machine
            yield from ((main, given) for given in corners(predictor, main))
        share = 1.0 if machine is main else SHARE
        yield from ((machine, given) for given in randoms(predictor, bases, machine, share))
    for again in range(1, ROUNDS_MAX):
        if replayed.total() >= WANTED:
            break
        more = randoms(predictor, bases, main, SHARE, again)
        yield from ((main, given) for given in more)


def usual_phys_bits(contract: Contract) -> int:
    """MAXPHYADDR of the machine for most replays: the contract's value nearest to 40."""
    lowest, highest = contract.cpu.maxphyaddr
    return min(max(PHYS_BITS, lowest), highest)


def _sample_one(
    contract: Contract,
    predictor: Predictor,
    machine: Machine,
    given: Input,
    times: list[float],
) -> ReplayRecord:
    length = len(predictor.image.data)
    kernel, boot_params = predictor.run.kernel, predictor.run.boot_params
    wanted = [evaluate(kernel, given.values, lambda address: 0) + 0x1000]
    if boot_params is not None:
        wanted.append(evaluate(boot_params, given.values, lambda address: 0) + 0xFF8)
    wanted += [given.base, given.base + length - 8]
    started = time.perf_counter()
    probes = tuple(address % (1 << 64) for address in wanted)
    record = replay(contract, predictor, machine, given, probes)
    if record.evidence is not Evidence.NOT_REPLAYABLE:
        times.append(time.perf_counter() - started)
    if record.evidence is Evidence.CONTRADICTED:
        shown = {name: hex(value) for name, value in given.values.items() if value}
        record = _with_input(record, shown)
    return record


def _with_input(record: ReplayRecord, inputs: dict[str, str]) -> ReplayRecord:
    """The record with its input named beside what was predicted."""
    return record.model_copy(update={"predicted": {**inputs, **record.predicted}})
