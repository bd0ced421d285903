# SPDX-License-Identifier: GPL-2.0-only
"""A target CPU can lack features, while the host image's CPU has them all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.qemu.job import OutcomeKind
from harness.qemu.machine import Machine, Patience
from tests.qemu.jobs import make_job, target

PATIENCE = Patience(halted=0.05, running=0.4)
BASE = 0x90000
BITS = {
    "pae": ("leaf_1_edx", 6),
    "la57": ("leaf_7_ecx", 16),
    "nx": ("leaf_80000001_edx", 20),
    "pdpe1gb": ("leaf_80000001_edx", 26),
    "lm": ("leaf_80000001_edx", 29),
}
"""Where CPUID tells of a feature (SDM 2, CPUID)."""


def features_seen(machine: Machine) -> tuple[set[str], int]:
    """The features that CPUID tells the target CPU, and MAXPHYADDR."""
    labels = target("cpuid").labels
    job = make_job("cpuid", BASE)
    dumps = tuple((BASE + labels[leaf], 4) for leaf, _ in BITS.values())
    width = (BASE + labels["leaf_80000008_eax"], 1)
    outcome = machine.replay(replace(job, dumps=(*dumps, width)))
    assert outcome.kind is OutcomeKind.PARKED
    *leaves, bits = (int.from_bytes(data, "little") for data in outcome.memory)
    pairs = zip(BITS.items(), leaves, strict=True)
    return {name for (name, (_, bit)), leaf in pairs if leaf >> bit & 1}, bits


@pytest.mark.parametrize("flag", BITS)
def test_cpuid_denies_what_the_target_lacks(needs_qemu: None, flag: str) -> None:
    phys_bits = 36 if flag == "lm" else 46
    with Machine(phys_bits, patience=PATIENCE, lacking=frozenset({flag})) as machine:
        assert features_seen(machine) == (BITS.keys() - {flag}, phys_bits)


def test_several_features_can_be_lacking(needs_qemu: None) -> None:
    lacking = frozenset({"nx", "pdpe1gb", "la57"})
    with Machine(patience=PATIENCE, lacking=lacking) as machine:
        assert features_seen(machine) == ({"pae", "lm"}, 40)
        assert machine.replay(make_job("boot")).kind is OutcomeKind.HAND_OFF


def test_without_long_mode_an_address_has_36_bits() -> None:
    with pytest.raises(ValueError, match="36 without long mode"):
        Machine(40, lacking=frozenset({"lm"}))


@pytest.mark.parametrize(
    ("lacking", "kept"),
    [
        ((), 0x900),
        (("nx",), 0x100),
        (("lm",), 0x800),
        (("lm", "nx"), 0),
        (("lm", "nx", "syscall"), 0),
    ],
)
def test_wrmsr_drops_bits_of_efer_that_the_target_lacks(
    needs_qemu: None, lacking: tuple[str, ...], kept: int
) -> None:
    """The manual has #GP, also for a CPU without any EFER: QEMU cannot show LEGO-3 and LEGO-6. A
    QEMU that raises it makes this fail: then harness/replay/cpu.py, NOT_RAISED, can be mended."""
    labels = target("efer").labels
    dumps = tuple((BASE + labels[label], 4) for label in ("before", "wrote", "after"))
    phys_bits = 36 if "lm" in lacking else 40
    with Machine(phys_bits, patience=PATIENCE, lacking=frozenset(lacking)) as machine:
        outcome = machine.replay(replace(make_job("efer", BASE), dumps=dumps))
    assert outcome.kind is OutcomeKind.PARKED
    assert [int.from_bytes(data, "little") for data in outcome.memory] == [0, 1, kept]
