# SPDX-License-Identifier: GPL-2.0-only
"""Mutants of a trampoline, and which claims kill them by a goal that names the mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
import z3

from harness.at_once import verdict as at_once
from harness.at_once.process import started
from harness.replay.predict import Predictor
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Verdict
from harness.x86.execute import execute
from harness.x86.promise import HostTables
from harness.x86.run import Run
from proofs.asked import Claim, asked
from proofs.mutants.judge import CHEAPEST_FIRST, named
from proofs.subject import Subject
from tests.proofs.variants import MULTIKERNEL, Edits, variant
from trampoline.contract import Contract, load_contract
from trampoline.image import Image, load_image

CLAIMS = {named(claim): claim for claim in CHEAPEST_FIRST}
AT_ONCE = "one_at_a_time"
"""The claim that has no obligations but a schedule; its words are those of `breaks_at`."""
ONE_BASE = {"legoos": 0x90000, "start64": 0x90000, "la57": 1 << 32}
"""What is refuted at one base, is. That of la57 is one that 32-bit code does not reach."""


@dataclass(frozen=True)
class Mutant:
    """`killed_by`: claim -> words of the goal by which it is refuted, or of several ones.

    `source` and `contract` are edits; `promise` takes a promise of the host's away from the run.
    With `every_base` it is executed for all bases, not for one.
    """

    killed_by: Mapping[str, str | tuple[str, ...]]
    source: Edits = field(default_factory=dict)
    contract: Edits = field(default_factory=dict)
    promise: Callable[[Run], Run] = lambda run: run
    every_base: bool = False

    @property
    def kills(self) -> Iterator[tuple[str, str]]:
        """Each claim with words of a goal."""
        for claim, goals in self.killed_by.items():
            for words in (goals,) if isinstance(goals, str) else goals:
                yield claim, words


def each(mutants: Mapping[str, Mutant]) -> list[object]:
    """Parameters for pytest: the ids are the kill table."""
    return [
        pytest.param(mutant, id=f"{', '.join(mutant.killed_by)}: {mistake}")
        for mistake, mutant in mutants.items()
    ]


def claims_killed(mutants: Mapping[str, Mutant]) -> set[str]:
    """All claims that some mutant shows to be able to fail."""
    return {claim for mutant in mutants.values() for claim in mutant.killed_by}


@cache
def shipped(system: str) -> tuple[Contract, Image, Run]:
    """The trampoline of the tree, executed once."""
    contract = load_contract(MULTIKERNEL.parent / system / "contract.toml")
    image = load_image(contract)
    return contract, image, execute(contract, image, ONE_BASE[system])


def mutated(folder: Path, system: str, mutant: Mutant) -> tuple[Subject, Predictor]:
    """The mutant, executed at one base."""
    if mutant.source or mutant.contract:
        path = variant(folder, MULTIKERNEL.parent / system, mutant.source, mutant.contract)
        contract = load_contract(path)
        image = load_image(contract)
        run = execute(contract, image, None if mutant.every_base else ONE_BASE[system])
    else:
        contract, image, run = shipped(system)
    run = mutant.promise(run)
    return Subject(contract, image, run), Predictor(contract, image, run)


@cache
def obligations(claim: Claim, subject: Subject) -> list[Obligation]:
    """What the claim asks of the trampoline."""
    return list(asked(claim, subject)[0])


def breaks_at(subject: Subject) -> str:
    """The accesses, and where they are made, with which two CPUs in one image break the claim
    `one_at_a_time`, one after the other; empty if it is not refuted."""
    read = started(subject.contract, subject.image, subject.run)
    found = at_once.decide(read.image, read.real)
    if found.verdict != Verdict.REFUTED or found.schedule is None:
        return ""
    locations = read.image.cpu.locations
    places = {e.who: (e.what, locations[e.location].place) for e in found.schedule.events
              if e.location is not None}  # fmt: skip
    return ", ".join(f"{who}: {what} at {place}" for who, (what, place) in sorted(places.items()))


def refuted(subject: Subject, predictor: Predictor, claim: str, words: str) -> bool:
    """Some goal with these words is refuted. Only such goals are decided: that is quick."""
    if claim == AT_ONCE:
        return words in breaks_at(subject)
    for obligation in obligations(CLAIMS[claim], subject):
        goals = {name: goal for name, goal in obligation.goals.items() if words in name}
        if goals:
            result = decide(replace(obligation, goals=goals, shown_by={}), predictor)
            if result.verdict is Verdict.REFUTED:
                return True
    return False


def survivors(folder: Path, system: str, mutant: Mutant) -> list[tuple[str, str]]:
    """The claims, with words of a goal, that should kill the mutant and do not."""
    subject, predictor = mutated(folder, system, mutant)
    left = [kill for kill in mutant.kills if not refuted(subject, predictor, *kill)]
    obligations.cache_clear()
    return left


def with_tables(change: Callable[[HostTables], HostTables]) -> Callable[[Run], Run]:
    """The promise on the host's page tables is another one, once the code was executed."""

    def promise(run: Run) -> Run:
        ends = tuple(
            replace(end, host_tables=change(end.host_tables)) if end.host_tables else end
            for end in run.ends
        )
        return replace(run, ends=ends, host_tables=tuple(map(change, run.host_tables)))

    return promise


def without(words: str) -> Callable[[Run], Run]:
    """One assumption, the one with these words, is not made."""

    def promise(run: Run) -> Run:
        kept = tuple(part for part in run.assumptions if words not in part[0])
        assert len(kept) == len(run.assumptions) - 1
        return replace(run, assumptions=kept)

    return promise


def lost_paths(system: str) -> None:
    """The claim on paths refutes a run without one of them, and one that takes an input twice."""
    contract, image, run = shipped(system)
    predictor = Predictor(contract, image, run)
    first, *others = run.ends
    wider = replace(first, path=(z3.BoolVal(True),))
    for ends, words in (
        (tuple(others), "some path is taken"),
        ((wider, *others), "exclude each other"),
    ):
        damaged = Subject(contract, image, replace(run, ends=ends))
        assert refuted(damaged, predictor, "paths", words)
