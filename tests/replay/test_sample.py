# SPDX-License-Identifier: GPL-2.0-only
"""The inputs that are replayed beside a proof: many, spread out, and always the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import z3

from harness.qemu.machine import Machine
from harness.replay.predict import Input
from harness.replay.sample import corners, randoms, region
from harness.x86.prover import Prover
from harness.x86.run import PathEnd
from harness.x86.terms import variables
from harness.x86.translate import UPPER_HALF
from tests.replay.conftest import GIB, MIB, Subject

REGIONS = {"below 4 GiB", "4..512 GiB", "above 512 GiB", "at a border"}
ROOT = Path(__file__).resolve().parents[2]
BASES = LOWEST, HIGHEST = 0x1000, 0x97000


def stopped() -> Machine:
    """A machine that is only asked what RAM it would have."""
    return Machine(40)


def kernels(inputs: list[Input]) -> list[int]:
    return [given.values["kernel_phys_addr"] for given in inputs]


def test_random_inputs_are_the_same_each_time(rfc: Subject) -> None:
    one, other = (list(randoms(rfc.predictor, BASES, stopped())) for _ in range(2))
    assert one == other
    assert len(set(kernels(one))) > 150


def test_at_least_200_spread_over_all_regions_and_bases(rfc: Subject) -> None:
    inputs = list(randoms(rfc.predictor, BASES, stopped()))
    assert len(inputs) >= 200
    spread = Counter(region(kernel) for kernel in kernels(inputs))
    assert set(spread) == REGIONS
    assert min(spread.values()) >= 20
    bases = Counter(given.base for given in inputs)
    assert bases[LOWEST] >= 20 and bases[HIGHEST] >= 20 and len(bases) >= 20
    assert all(base % 0x1000 == 0 and LOWEST <= base <= HIGHEST for base in bases)


def test_boot_params_are_spread_too(rfc: Subject) -> None:
    inputs = list(randoms(rfc.predictor, BASES, stopped()))
    assert {region(given.values["boot_params_phys_addr"]) for given in inputs} == REGIONS
    assert len({given.garbage for given in inputs}) == len(inputs)


def test_each_random_input_has_ram_where_it_needs_some(rfc: Subject) -> None:
    machine = stopped()
    for given in randoms(rfc.predictor, BASES, machine):
        assert machine.has_ram(given.values["kernel_phys_addr"], 0x1000)
        assert machine.has_ram(given.values["boot_params_phys_addr"], 0x1000)


def test_corners_reach_every_path_and_cross_a_gib(rfc: Subject) -> None:
    inputs = list(corners(rfc.predictor, stopped()))
    taken = {id(rfc.predictor.predict(given).end) for given in inputs}
    assert taken == {id(end) for end in rfc.run.ends if _taken_by_qemu(rfc, end)}
    assert any(kernel >> 30 != (kernel + GIB - 1) >> 30 for kernel in kernels(inputs))


def _taken_by_qemu(rfc: Subject, end: PathEnd) -> bool:
    """Some input takes the path on a CPU that has all features and upper halves that are 0."""
    symbols = {name: term for part in end.path for name, term in variables(part).items()}
    usual = [term == 0 for name, term in symbols.items() if UPPER_HALF in name]
    usual += [term for name, term in symbols.items() if name.startswith("cpu_has")]
    return Prover(rfc.run.hypotheses).possible((*end.path, *usual), z3.BoolVal(True))


PRINT_CORNERS = """
from harness.qemu.machine import Machine
from harness.replay.sample import corners
from tests.replay.conftest import load
print([given.values for given in corners(load().predictor, Machine(40))])
"""


def test_corners_are_the_same_in_each_run() -> None:
    """Whatever order Python gives to sets of names."""

    def said(hash_seed: str) -> str:
        command = [sys.executable, "-c", PRINT_CORNERS]
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            command, cwd=ROOT, env=env, check=True, capture_output=True, text=True
        ).stdout

    one, other = said("1"), said("2")
    assert "kernel_phys_addr" in one
    assert one == other


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (16 * MIB, "below 4 GiB"),
        (4 * GIB - 1, "at a border"),
        (4 * GIB, "at a border"),
        (100 * GIB, "4..512 GiB"),
        (512 * GIB - 1, "at a border"),
        (700 * GIB, "above 512 GiB"),
        ((1 << 64) - 1, "above 512 GiB"),
    ],
)
def test_a_kernel_belongs_to_one_region(kernel: int, name: str) -> None:
    assert region(kernel) == name
