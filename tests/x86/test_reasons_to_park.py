# SPDX-License-Identifier: GPL-2.0-only
"""A reason to park that a contract allows is one that inputs have: no promise rules them out."""

from __future__ import annotations

import pytest

from harness.x86.execute import execute
from harness.x86.prover import Prover
from harness.x86.run import EndKind
from tests.proofs.variants import MULTIKERNEL
from trampoline.contract import load_contract
from trampoline.image import load_image

PARKING = [
    path.parent.name
    for path in sorted(MULTIKERNEL.parent.glob("*/contract.toml"))
    if load_contract(path).parks
]


@pytest.mark.parametrize("name", PARKING)
def test_a_cpu_without_long_mode_is_among_the_inputs_and_parks(name: str) -> None:
    contract = load_contract(MULTIKERNEL.parent / name / "contract.toml")
    run = execute(contract, load_image(contract), contract.base.lowest)
    prover = Prover(run.hypotheses)
    parked = [end for end in run.ends if end.kind is EndKind.PARKED]
    assert any(prover.possible(end.path, ~run.features.long_mode) for end in parked)


def test_there_are_such_contracts() -> None:
    assert PARKING
