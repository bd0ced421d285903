# SPDX-License-Identifier: GPL-2.0-only
"""Each claim refutes a trampoline that breaks it; one that cannot fail would show nothing.

The mutants of `multikernel` undo what makes a claim hold. `python -m proofs.mutants` kills every
single instruction; it takes long, this does not.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.replay.predict import Predictor
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Verdict
from harness.x86.execute import execute
from harness.x86.run import Run
from proofs import mutants, test_hand_off, test_identity_map, test_paths
from proofs.mutants import Claim, first_turned
from proofs.subject import Subject
from tests.proofs.variants import MULTIKERNEL, TINY, variant
from trampoline.contract import load_contract
from trampoline.image import load_image

HAND_OFF = test_hand_off.test_hand_off
KERNEL = test_identity_map.test_kernel_identity_map
BOOT_PARAMS = test_identity_map.test_boot_params_identity_map
IMAGE = test_identity_map.test_image_identity_map

LAST_GIB = "\tmovq\t%r12, %rax\n\tcall\tmap_gib\n"
BOOT_PARAMS_GIB = "\tmovq\t%r15, %rax\n\tcall\tmap_gib\n"
LATE_JUMP = "\tmovq\t%r15, %rsi\n\tjmp\t*%r14"
REFUSAL = "\tmovl\t%ebx, OFF(trampoline_status_bsp)(%rsi)"
WHAT_IT_MAPS = "\taddq\t$LARGE_PAGE_FLAGS, %rax"
FIRST_PAGE = "\tmovl\t$LARGE_PAGE_FLAGS, %eax"
UPPER_HALF = "\tmovl\t%esi, %esi\n"

REFUTED = {
    "leaves its base in RSI": (HAND_OFF, {LATE_JUMP: "\tjmp\t*%r14"}),
    "refuses without a word": (HAND_OFF, {REFUSAL: "\tnop"}),
    "maps the kernel's first GiB only": (KERNEL, {LAST_GIB: ""}),
    "maps the kernel read-only": (KERNEL, {WHAT_IT_MAPS: "\taddq\t$(PTE_P | PTE_PS), %rax"}),
    "does not map boot_params": (BOOT_PARAMS, {BOOT_PARAMS_GIB: ""}),
    "runs on pages mapped elsewhere": (
        IMAGE,
        {FIRST_PAGE: "\tmovl\t$(LARGE_PAGE_FLAGS + LARGE_PAGE_SIZE), %eax"},
    ),
}


@pytest.mark.parametrize("mutant", REFUTED)
def test_a_mutant_is_refuted(tmp_path: Path, mutant: str) -> None:
    claim, edits = REFUTED[mutant]
    contract = load_contract(variant(tmp_path, MULTIKERNEL, edits))
    name, verdict, _ = first_turned(contract, load_image(contract), (claim,))
    assert (name, verdict) == (claim.__name__.removeprefix("test_"), "REFUTED")


def test_a_use_of_undefined_upper_halves_is_not_proved(tmp_path: Path) -> None:
    contract = load_contract(variant(tmp_path, MULTIKERNEL, {UPPER_HALF: ""}))
    _, verdict, _ = first_turned(contract, load_image(contract), (HAND_OFF,))
    assert verdict in ("REFUTED", "UNSUPPORTED")


@pytest.fixture(scope="module")
def tiny_run() -> tuple[Subject, Run]:
    contract = load_contract(TINY / "contract.toml")
    image = load_image(contract)
    run = execute(contract, image)
    return Subject(contract, image, run), run


def verdicts(claim: Claim, subject: Subject, run: Run) -> list[Verdict]:
    found: list[Verdict] = []
    predictor = Predictor(subject.contract, subject.image, run)

    def judge(name: str, *obligations: Obligation) -> None:
        found.extend(decide(o, {}, (), predictor).verdict for o in obligations)

    claim(subject, judge)  # type: ignore[arg-type]
    return found


def test_a_lost_path_and_one_taken_twice_are_refuted(tiny_run: tuple[Subject, Run]) -> None:
    subject, run = tiny_run
    claim = test_paths.test_paths

    def with_ends(*indices: int) -> list[Verdict]:
        damaged = replace(run, ends=tuple(run.ends[i] for i in indices))
        return verdicts(claim, Subject(subject.contract, subject.image, damaged), run)

    assert with_ends(0, 1, 2) == [Verdict.PROVED, Verdict.PROVED]
    for lost in ((0, 1), (0, 2), (1, 2)):
        assert with_ends(*lost) == [Verdict.REFUTED, Verdict.PROVED]
    broken = replace(run.ends[0], path=run.ends[0].path[:-1])
    twice = replace(run, ends=(broken, *run.ends[1:]))
    found = verdicts(claim, Subject(subject.contract, subject.image, twice), run)
    assert found == [Verdict.PROVED, Verdict.REFUTED]


def test_the_campaign_kills_names_and_resumes(tmp_path: Path) -> None:
    out, console = tmp_path / "mutants.json", Console(file=(tmp_path / "said").open("w"), width=200)
    contract = load_contract(TINY / "contract.toml")
    image = load_image(contract)
    cli, load_ds = 0, image.data.index(b"\x8e\xd8")  # mov DS, AX

    def campaign(*offsets: int) -> mutants.Campaign:
        return mutants.campaign_of(TINY / "contract.toml", out, 1, 60, offsets, console)

    first = campaign(load_ds)
    assert [(m.offset, m.length, m.source) for m in first.mutants] == [(load_ds, 2, "tiny.S:18")]
    assert first.mutants[0].verdict in ("REFUTED", "UNSUPPORTED")
    second = campaign(cli, load_ds)
    assert [m.offset for m in second.mutants] == [cli, load_ds]
    assert second.mutants[1] == first.mutants[0]  # taken from the file: its time is the same
    assert second.instructions == len(set(execute(contract, image).covered))
    assert json.loads(out.read_text())["sha256"] == second.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["mutants.json", "said"]


def test_another_image_starts_the_campaign_anew(tmp_path: Path) -> None:
    known = mutants.Campaign(
        trampoline="t", sha256="old", instructions=1, not_reached=(), mutants=(_mutant(0),)
    )
    path = tmp_path / "mutants.json"
    path.write_text(known.model_dump_json())
    assert mutants._known(path, known.model_copy(update={"mutants": ()})) == known
    fresh = known.model_copy(update={"sha256": "new", "mutants": ()})
    assert mutants._known(path, fresh) == fresh


def _mutant(offset: int) -> mutants.Mutant:
    return mutants.Mutant(
        offset=offset, length=1, source="", symbol="", instruction="cli", verdict="SURVIVED"
    )
