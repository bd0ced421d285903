# SPDX-License-Identifier: GPL-2.0-only
"""The trial of one mutant after another of one trampoline, in one process.

A mutant is executed at one base first: what is refuted there is refuted. Only one that no claim
notices there is executed at all bases, and compared with the original. A claim that looks at other
executions, which take as long, waits for that. What no claim notices is replayed in QEMU: if that
does otherwise, a PROVED was wrong.

A second instruction moves what lies behind it: such a mutant is compared with the original that has
NOPs of the same length there. No obligation tells the two apart that both have, word for word.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from harness.record import Evidence
from harness.replay.evidence import Machines, sample_few
from harness.replay.predict import Predictor
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Result, Verdict
from harness.x86.execute import bases, execute
from harness.x86.inputs import Inputs
from harness.x86.run import Run
from proofs.asked import Claim
from proofs.mutants.judge import NONE, Turned, named, proved_of, turned, turned_at_once
from proofs.mutants.kinds import NOP, Change, changes
from proofs.mutants.same import differences, explained
from proofs.mutants.words import Key, Words, key
from proofs.subject import Subject
from proofs.test_determined import test_determined
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError
from trampoline.image import Image, load_image

EQUIVALENT = "EQUIVALENT"
SURVIVED = "SURVIVED"
CONTRADICTED = "CONTRADICTED"
NOT_BUILT = "NOT BUILT"
AT_ONCE = "one_at_a_time"
LABELS = re.compile(r"(\s*[\w.$]+:)*")
"""At the begin of a source line."""


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant.

    `verdict`: that of the first claim that turned, which is `claim`; or EQUIVALENT: a hand-off is
    the same but for what a kernel must not rely on, or SURVIVED: it differs, and no claim says so;
    or CONTRADICTED: nor does a claim say so, but QEMU does otherwise than was proved; or NOT BUILT:
    assembler or contract refuse it. `differs`: how the run of one that no claim noticed differs
    from the original's. `replays`: how many inputs of such a one QEMU was given.
    """

    verdict: str
    claim: str
    reason: str
    differs: tuple[str, ...]
    seconds: float
    replays: int = 0


def all_proved(path: Path) -> bool:
    """Every claim on the contract's trampoline is expected to be PROVED."""
    expected = load_contract(path).expected.values()
    return all(one.verdict == Verdict.PROVED for one in expected)


class Trial:
    """Knows the trampoline as it is, and what is proved of that and of its mutants."""

    def __init__(self, path: Path, machines: Machines | None = None) -> None:
        """`path`: of the contract. `machines`: on which a mutant is replayed that no claim notices;
        None: it is not. Raises UserError."""
        self.path = path
        self.contract = load_contract(path)
        self.image = load_image(self.contract)
        _, self._base = bases(self.contract, self.image)
        self.claims = proved_of(self.contract)
        self._machines = machines
        self._satisfied = Inputs(most=64)
        self._proved: dict[Key, Obligation] = {}

    @cached_property
    def run(self) -> Run:
        """The original's, at all bases."""
        return execute(self.contract, self.image)

    @cached_property
    def _at_one_base(self) -> Run:
        return execute(self.contract, self.image, self._base)

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """All mutants."""
        return changes(self.contract, self.image, self._at_one_base)

    def original(self) -> Turned:
        """The first claim that is not PROVED of the trampoline as it is, if there is one."""
        for base, run in ((self._base, self._at_one_base), (None, self.run)):
            subject = Subject(self.contract, self.image, run)
            if (found := self._turned(subject, self._claims(base))) != NONE:
                return found
        return turned_at_once(Subject(self.contract, self.image, self.run))

    def of(self, change: Change, without: str = "") -> Outcome:
        """Try a mutant by all claims, but for the one called `without`."""
        began = time.perf_counter()

        def outcome(
            verdict: str, differs: tuple[str, ...] = (), found: Turned = NONE, replays: int = 0
        ) -> Outcome:
            claim, _, reason = found
            seconds = round(time.perf_counter() - began, 2)
            return Outcome(verdict, claim, reason, differs, seconds, replays)

        try:
            contract, image = self._mutant(change)
        except UserError as error:
            return outcome(NOT_BUILT, found=("", "", str(error)))
        for base in (self._base, None):
            run, original = execute(contract, image, base), self._original_of(change, base)
            if base is not None and not differences(original.run, run):
                continue  # a claim that turns there turns at all bases, where it is asked next
            subject, claims = Subject(contract, image, run), self._claims(base, without)
            # What is asked of the image as it is, is proved.
            words = Words(partial(_obligations, original, () if change.data else claims))
            if (found := self._turned(subject, claims, words)) != NONE:
                return outcome(found[1], found=found)
        # Of what other CPUs see, the order of reads is a part, which is not compared below.
        if without != AT_ONCE and (found := turned_at_once(subject)) != NONE:
            return outcome(found[1], found=found)
        differs = differences(original.run, run)
        verdict, replays, reason = EQUIVALENT if explained(differs) else SURVIVED, 0, ""
        if self._machines is not None and not without:
            predictor = Predictor(contract, image, run)
            shown = sample_few(contract, predictor, self._machines, bases(contract, image))
            wrong = [one.reason for one in shown if one.evidence is Evidence.CONTRADICTED]
            replays, reason = len(shown), f"in QEMU {wrong[0]}" if wrong else ""
        return outcome(CONTRADICTED if reason else verdict, differs, ("", "", reason), replays)

    def _claims(self, base: int | None, without: str = "") -> tuple[Claim, ...]:
        """At one base those that do not execute the image once more."""
        waits = () if base is None else (test_determined,)
        return tuple(one for one in self.claims if one not in waits and named(one) != without)

    def _mutant(self, change: Change) -> tuple[Contract, Image]:
        if not change.data:
            return self._with_line(change, None)
        data = self.image.data
        changed = data[: change.at] + change.data + data[change.at + len(change.data) :]
        return self.contract, replace(self.image, data=changed)

    def _original_of(self, change: Change, base: int | None) -> Subject:
        """What to compare the mutant with."""
        if change.data:
            run = self.run if base is None else self._at_one_base
            return Subject(self.contract, self.image, run)
        moved = self._with_line(change, f".fill {change.length}, 1, {NOP[0]:#x}")
        return Subject(*moved, execute(*moved, base))

    def _with_line(self, change: Change, line: str | None) -> tuple[Contract, Image]:
        """The trampoline with one more line after that of the instruction: this one, or the
        instruction's again."""
        file, number = change.source.rsplit(":", 1)
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            for path in self.path.parent.iterdir():
                if path.suffix in (".S", ".toml"):
                    text = path.read_text()
                    if path.name == file:
                        lines = text.split("\n")
                        at = int(number)
                        again = LABELS.sub("", lines[at - 1], count=1)  # they cannot be repeated
                        text = "\n".join([*lines[:at], line or again, *lines[at:]])
                    (Path(folder) / path.name).write_text(text)
            contract = load_contract(Path(folder) / self.path.name)
            return contract, load_image(contract)

    def _turned(
        self, subject: Subject, claims: Sequence[Claim], known: Container[Obligation] = ()
    ) -> Turned:
        """The first of the claims that turns, by an obligation that is not `known`."""
        predictor = Predictor(subject.contract, subject.image, subject.run)

        def decided(obligation: Obligation) -> Result:
            if key(obligation) in self._proved or obligation in known:
                return Result(obligation.name, Verdict.PROVED, 0.0, 0)
            result = decide(obligation, predictor, self._satisfied)
            if result.verdict is Verdict.PROVED:
                self._proved[key(obligation)] = obligation
            return result

        return turned(subject, claims, decided)


def _obligations(subject: Subject, claims: Sequence[Claim]) -> list[Obligation]:
    """What the claims ask of a trampoline."""
    found: list[Obligation] = []

    def noted(obligation: Obligation) -> Result:
        found.append(obligation)
        return Result(obligation.name, Verdict.PROVED, 0.0, 0)

    turned(subject, claims, noted)
    return found
