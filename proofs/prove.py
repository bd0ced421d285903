# SPDX-License-Identifier: GPL-2.0-only
"""From obligations to the verdict on a claim, its evidence, and the record of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import pytest
import z3

from harness.qemu.machine import Machine
from harness.record import (
    AnotherRecord,
    ClaimRecord,
    Evidence,
    ObligationRecord,
    PictureRecord,
    ReplayRecord,
    SamplesRecord,
    SecondRecord,
    SecondStartRecord,
    WitnessRecord,
    deciding,
)
from harness.replay.another import Another, show_another
from harness.replay.coverage import not_reached, one_way
from harness.replay.cpu import QEMU_CPU
from harness.replay.evidence import Machines, Shown, sample, show, usual_phys_bits
from harness.replay.expect import PAYLOAD
from harness.replay.names import first_start, in_words, second_start
from harness.replay.picture import picture
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Predictor
from harness.replay.story import story
from harness.solve.decide import decide, smallest
from harness.solve.obligation import Obligation, Result, Verdict, Witness, worst
from harness.solve.second import SecondSolver
from harness.x86.execute import bases
from harness.x86.given import word_name
from harness.x86.inputs import Inputs
from harness.x86.prover import prover_of
from harness.x86.tables import LINEAR_MAX
from harness.x86.terms import ENTRY, VECTOR
from proofs.golden import claim_record
from proofs.safe import describe
from proofs.subject import Subject
from reports.causes import cause
from reports.summary import commands, smallest_input

Progress = Callable[[str], None]
MIB = 1 << 20
KERNEL_SIZE = "kernel_size"
HOST_CHOOSES = ("kernel_phys_addr", "boot_params_phys_addr", KERNEL_SIZE)
DEFAULT_BASE = 0x90000
OF_THE_RUN = "paths"
"""The claim whose record has the picture of the run."""


class Court:
    """Judges all claims on one trampoline; sampling is done once and serves all of them."""

    def __init__(
        self,
        subject: Subject,
        machines: Machines,
        progress: Progress,
        safe_sets: bool = False,
        second: SecondSolver | None = None,
        backwards: bool = False,
    ) -> None:
        """`second` is asked, too. `backwards`: obligations are decided in reverse order."""
        self.subject = subject
        self._machines = machines
        self.progress = progress
        self._safe_sets = safe_sets
        self._second = second
        self._backwards = backwards
        self.predictor = Predictor(subject.contract, subject.image, subject.run)
        self._bases = bases(subject.contract, subject.image)
        self._decided: dict[tuple[tuple[int, ...], ...], tuple[Obligation, Result]] = {}
        self._satisfied = Inputs(most=64)
        self._phys_bits = usual_phys_bits(subject.contract)
        self._steady = Machine(self._phys_bits)  # never started: only its memory map is asked for

    def judge(
        self,
        claim: str,
        sentence: str,
        obligations: tuple[Obligation, ...],
        gaps: tuple[str, ...] = (),
    ) -> ClaimRecord:
        """Decide all obligations of a claim and gather evidence.

        `gaps`: what the machine refused on other runs that the claim speaks of.
        """
        started = time.perf_counter()
        turn = -1 if self._backwards else 1
        results = []
        for obligation in obligations[::turn]:
            self.progress(f"{claim}: {obligation.name}")
            results.append(self._decide(obligation))
        results = results[::turn]
        gaps = (*self.subject.gaps, *gaps)
        verdicts = [result.verdict for result in results]
        verdicts += [Verdict.UNSUPPORTED for _ in gaps]
        verdicts += [Verdict.INCOMPLETE] if self.subject.run.lost else []
        verdict = worst(verdicts)
        witness, samples, safe = None, None, None
        if verdict is Verdict.REFUTED:
            judged = list(zip(obligations, results, strict=True))
            shown = smallest(judged, self.defaults, self._preferred, self.predictor)
            assert shown is not None  # a refuted obligation has a witness
            obligation, result = shown
            results = [result, *(r for r in results if r.obligation != result.obligation)]
            assert result.witness is not None
            refuted = [o for o, r in judged if r.verdict is Verdict.REFUTED]
            witness = self._witness(claim, obligation, result.witness, refuted)
            if self._safe_sets and self._describable:
                self.progress(f"{claim}: for which inputs does it hold?")
                safe = describe(self.subject, obligations, self.defaults)
        elif verdict is Verdict.PROVED:
            samples = self.samples
        reasons = {
            Verdict.UNSUPPORTED: list(gaps),
            Verdict.INCOMPLETE: [self.subject.run.lost],
        }.get(verdict, [f"{r.obligation}: {r.reason}" for r in results if r.verdict is verdict][:1])
        return self.record(
            claim,
            sentence,
            verdict,
            "" if verdict is Verdict.PROVED else "; ".join(reasons),
            time.perf_counter() - started,
            promises=tuple(promise for o in obligations for promise in o.promises),
            obligations=tuple(map(recorded, results)),
            witness=witness,
            samples=samples,
            safe_set=safe,
        )

    @property
    def _describable(self) -> bool:
        """The host chooses what decides; not registers and tables that a 64-bit entry finds, for
        which there are no quantities to describe a safe set in."""
        return all(entry.mode == "real" for entry in self.subject.contract.entry)

    def _decide(self, obligation: Obligation) -> Result:
        """Decide an obligation, once even if several claims have it."""
        sides = (obligation.hypotheses, obligation.goals.values())
        # Unique while they live: kept beside.
        key = tuple(tuple(term.get_id() for term in terms) for terms in sides)
        if key not in self._decided:
            result = decide(obligation, self.predictor, self._satisfied)
            if self._second is not None:
                result = self._second.judge(obligation, result)
            self._decided[key] = (obligation, result)
        return replace(self._decided[key][1], obligation=obligation.name)

    @cached_property
    def _from_any_registers(self) -> Predictor:
        """Predicts starts with registers and flags that hold anything."""
        subject = self.subject.from_any_registers
        return Predictor(subject.contract, subject.image, subject.run)

    @cached_property
    def _left_out(self) -> dict[str, tuple[str, ...]]:
        """What the run's paths do not execute, and which ways they do not take."""
        image, run = self.subject.image, self.subject.run
        return {"not_reached": not_reached(image, run.covered), "one_way": one_way(image, run)}

    @cached_property
    def samples(self) -> SamplesRecord:
        """Inputs replayed in QEMU beside the proofs."""
        self.progress("replaying samples in QEMU")
        subject = self.subject
        return sample(subject.contract, self.predictor, self._machines, subject.run, self._bases)

    @cached_property
    def _picture(self) -> PictureRecord | None:
        """What the everyday start does; None if that is outside of what is promised."""
        given = as_on_qemu(self.predictor, self.defaults, {})
        chosen = [name for name in HOST_CHOOSES if name in self.subject.run.inputs]
        inputs = {name: f"{self.defaults[name]:#x}" for name in chosen}
        try:
            return picture(self.predictor, self.predictor.predict(given), inputs)
        except ValueError:
            return None

    @cached_property
    def defaults(self) -> dict[str, int]:
        """What a witness keeps where it can: an everyday input on the machine that replays it.

        What the host chooses comes first, as that may be moved first.
        """
        low, high = self._bases
        return {
            "kernel_phys_addr": 16 * MIB,
            "boot_params_phys_addr": 0x20000,
            "kernel_size": min(16 * MIB, self.subject.contract.kernel.size_max or 16 * MIB),
            **{word_name(word.symbol): word.must for word in self.subject.contract.word},
            VECTOR: min(max(DEFAULT_BASE, low), high) >> 12,
            "maxphyaddr": self._phys_bits,
            **QEMU_CPU,
        }

    @cached_property
    def _preferred(self) -> tuple[z3.BoolRef, ...]:
        """Inputs that QEMU can replay: RAM at the kernel, or a kernel that is never reached."""
        kernel = self.subject.kernel
        windows = [w for w in self._steady.ram if w.start >= MIB]
        return (
            z3.Or(
                *(
                    z3.And(z3.UGE(kernel, w.start), z3.ULE(kernel, w.stop - PAYLOAD))
                    for w in windows
                ),
                z3.UGE(kernel, LINEAR_MAX),
            ),
            self.subject.maxphyaddr == self._phys_bits,
        )

    def _witness(
        self, claim: str, obligation: Obligation, witness: Witness, refuted: list[Obligation]
    ) -> WitnessRecord:
        """The witness for people, and its replay, or that of another one."""
        self.progress(f"{claim}: replaying the witness in QEMU")
        predictor = self._from_any_registers if obligation.any_registers else self.predictor
        contract = self.subject.contract
        shown = show(contract, predictor, self._machines, obligation, witness)
        another = None
        if shown.evidence is Evidence.NOT_REPLAYABLE:
            self.progress(f"{claim}: another input that QEMU can show?")
            alike = [o for o in refuted if o.any_registers is obligation.any_registers]
            another = show_another(
                predictor, self._machines, self._steady, alike, self.defaults, self._preferred
            )
        return WitnessRecord(
            inputs=self._inputs(witness),
            violated=witness.violated,
            end=predictor.predict_witness(witness).end.words,
            path=story(contract, predictor, witness, obligation),
            replay=shown.replay if another is None else another.shown.replay,
            another=self._another(predictor, shown, another) if another is not None else None,
            second=self._second_start(
                predictor, witness, obligation, shown.second if another is None else None
            ),
        )

    def _another(self, predictor: Predictor, shown: Shown, another: Another) -> AnotherRecord:
        """Another input, replayed in the place of the one of which `shown` was all to be seen."""
        obligation, witness, its = another
        return AnotherRecord(
            why=deciding(*shown).reason,
            inputs=self._inputs(witness),
            violated=witness.violated,
            second=self._second_start(predictor, witness, obligation, its.second),
        )

    def _second_start(
        self,
        predictor: Predictor,
        witness: Witness,
        obligation: Obligation,
        replay: ReplayRecord | None,
    ) -> SecondStartRecord | None:
        """The second start, if the claim compares two."""
        if (other := second_start(witness)) is None:
            return None
        first = {**dict.fromkeys(other.values, 0), **self.defaults, **witness.values}
        own = {name: v for name, v in first_start(other).items() if v != first[name]}
        return SecondStartRecord(
            inputs=self._named(own),
            end=predictor.predict_witness(other).end.words,
            path=story(self.subject.contract, predictor, other, obligation),
            replay=replay,
        )

    def _inputs(self, witness: Witness) -> dict[str, str]:
        """What is worth reading of a witness, by name; of two starts of the first."""
        inputs = self.subject.run.inputs  # a kernel at a fixed place is none
        chosen = [name for name in HOST_CHOOSES if name in inputs or name == KERNEL_SIZE]
        second = second_start(witness)
        other = second.values if second is not None else {}
        shown = {
            name: value
            for name, value in first_start(witness).items()
            if name in chosen
            or value != self.defaults.get(name, 0)
            or value != other.get(name, value)
        }
        shown.pop(VECTOR, None)
        return {
            "base": f"{witness.values[VECTOR] << 12:#x}",
            **self._named(shown),
            **{f"byte at {a:#x}": f"{b:#x}" for a, b in sorted(witness.entry_bytes.items())},
        }

    def _named(self, values: Mapping[str, int]) -> dict[str, str]:
        """Values by names that people use; an entry by its name."""
        entries = self.subject.run.entries
        shown = {in_words(name): f"{value:#x}" for name, value in values.items()}
        if ENTRY in values and values[ENTRY] < len(entries):
            shown[ENTRY] = entries[values[ENTRY]]
        return shown

    def record(
        self,
        claim: str,
        sentence: str,
        verdict: str,
        reason: str,
        seconds: float,
        promises: tuple[str, ...] = (),
        **fields: object,
    ) -> ClaimRecord:
        """The record of a claim. `promises`: what it takes for granted beyond what the run does;
        `fields`: more of the record's."""
        subject = self.subject
        known = [sentence for sentence, _ in subject.run.assumptions]
        said: dict[str, object] = {
            "assumptions": (*known, *dict.fromkeys(promises)),
            "bases": (f"{self._bases[0]:#x}", f"{self._bases[1]:#x}"),
            "paths": tuple(end.words for end in subject.ends),
            **self._left_out,
            "picture": self._picture if claim == OF_THE_RUN else None,
            "machine_rlimit": max(subject.run.hardest, prover_of(subject.run).hardest),
        }
        return claim_record(
            subject.contract, claim, sentence, verdict, reason, seconds, **said | fields
        )


class Prove:
    """`prove(claim, *obligations)` in a test: judges, records, and fails what is not expected."""

    def __init__(self, court: Court, sentence: str, keep: Callable[[ClaimRecord], None]) -> None:
        self._court = court
        self._sentence = sentence
        self._keep = keep

    def __call__(self, claim: str, *obligations: Obligation, gaps: tuple[str, ...] = ()) -> None:
        """Judge the claim; the docstring of the test is its sentence. `gaps`: see Court.judge."""
        record = self._court.judge(claim, self._sentence, obligations, gaps)
        self._keep(record)
        accept(record)


def recorded(result: Result) -> ObligationRecord:
    """An obligation's verdict for the report."""
    return ObligationRecord(
        name=result.obligation,
        verdict=result.verdict,
        seconds=result.seconds,
        rlimit=result.rlimit,
        reason=result.reason,
        second=SecondRecord.model_validate(vars(result.second)) if result.second else None,
    )


def accept(record: ClaimRecord) -> None:
    """Fail the test whose verdict is not the expected one."""
    if not record.as_expected:
        pytest.fail(explain(record), pytrace=False)


def explain(record: ClaimRecord) -> str:
    """Why a verdict is not the expected one, in a few lines, the last of them what to do next."""
    wanted = record.expected or Verdict.PROVED
    wanted = "not as expected" if wanted == record.verdict else f"expected {wanted}"
    lines = [f"{record.trampoline}, {record.claim}: {record.verdict}, {wanted}. {record.reason}"]
    if record.witness is not None:
        root = cause(record)
        at = f" (at {root.source}, {root.place} {root.operation})" if root and root.source else ""
        lines.append(f"witness: {smallest_input(record.witness)}")
        lines.append(f"violated: {'; '.join(record.witness.violated)}{at}")
        lines.append(f"replay: {record.evidence}")
    if record.samples is not None:
        lines += [f"contradiction: {c.reason} {c.predicted}" for c in record.samples.contradictions]
    if record.verdict == Verdict.REFUTED:
        told = f"tramp explain {record.trampoline}.{record.claim}"
        lines.append(f"next: {'; '.join((*commands(record)[-1:], told, 'tramp triage'))}")
    return "\n".join(lines)
