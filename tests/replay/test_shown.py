# SPDX-License-Identifier: GPL-2.0-only
"""A refutation is confirmed only if QEMU showed the very thing that is violated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import z3

from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.evidence import NOT_VIOLATED, Machines, show
from harness.replay.replay import UNSEEN
from harness.solve.decide import decide, smallest
from harness.solve.obligation import END, IMAGE, NOTHING, OUTSIDE, Obligation, Verdict, Witness
from proofs.subject import Subject as Claims
from tests.replay.conftest import GIB, MIB, Subject, given

GOAL = "what is demanded"


class One(Machines):
    """Machines of which one runs already."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def get(self, phys_bits: int, lacking: frozenset[str] = frozenset()) -> Machine:
        assert (phys_bits, lacking) == (40, frozenset())
        return self._machine


@pytest.fixture
def machines(machine: Machine) -> Iterator[Machines]:
    yield One(machine)


def shown(
    rfc: Subject,
    machines: Machines,
    goals: dict[str, z3.BoolRef],
    shown_by: Mapping[str, tuple[str, ...]],
    kernel: int = 16 * MIB,
    **values: int,
) -> ReplayRecord:
    """Show a refutation with this witness, whatever the solver would say."""
    witness = Witness({**given(kernel).values, **values}, {}, tuple(goals))
    obligation = Obligation("a test", (), goals, shown_by=shown_by)
    return show(rfc.contract, rfc.predictor, machines, obligation, witness).replay


FALSE = {GOAL: z3.BoolVal(False)}
FAR = 600 * GIB  # not mapped: a shutdown


@pytest.mark.parametrize(
    ("names", "kernel", "evidence"),
    [
        (("gdtr_limit",), 16 * MIB, Evidence.CONFIRMED),
        (("idtr_limit", "idtr_base"), 16 * MIB, Evidence.CONFIRMED),
        (("if",), 16 * MIB, Evidence.CONFIRMED),
        ((IMAGE,), 16 * MIB, Evidence.CONFIRMED),
        ((OUTSIDE,), 16 * MIB, Evidence.CONFIRMED),
        ((OUTSIDE,), FAR, Evidence.CONFIRMED),
        ((END,), FAR, Evidence.CONFIRMED),
        ((END,), 16 * MIB, Evidence.NOT_REPLAYABLE),
        (("gdtr_limit", END), 16 * MIB, Evidence.NOT_REPLAYABLE),
        (("gdtr_limit",), FAR, Evidence.NOT_REPLAYABLE),
        (("rflags",), 16 * MIB, Evidence.NOT_REPLAYABLE),  # some flags are undefined: not compared
        (("no such register",), 16 * MIB, Evidence.NOT_REPLAYABLE),
        ((NOTHING,), 16 * MIB, Evidence.NOT_REPLAYABLE),
        ((NOTHING,), FAR, Evidence.NOT_REPLAYABLE),
    ],
)
def test_what_is_violated_must_be_seen(
    rfc: Subject, machines: Machines, names: tuple[str, ...], kernel: int, evidence: Evidence
) -> None:
    record = shown(rfc, machines, FALSE, {GOAL: names}, kernel)
    assert record.evidence is evidence
    assert record.reason == ("" if evidence is Evidence.CONFIRMED else UNSEEN)


def test_table_limits_are_in_the_record(rfc: Subject, machines: Machines) -> None:
    record = shown(rfc, machines, FALSE, {GOAL: ("gdtr_limit", "idtr_limit")})
    limit = rfc.image.symbols["gdt_bsp_64_end"] - rfc.image.symbols["gdt_bsp_64"]
    assert record.observed["gdtr_limit"] == hex(limit)  # one too many: a limit is the last byte
    assert record.observed["idtr_limit"] == "0x0"


def test_a_register_that_shows_a_violation_is_in_the_record(
    rfc: Subject, machines: Machines
) -> None:
    assert shown(rfc, machines, FALSE, {GOAL: ("r12",)}).observed["r12"] == "0x0"


def test_without_a_word_only_the_end_shows_a_violation(rfc: Subject, machines: Machines) -> None:
    assert shown(rfc, machines, FALSE, {}).reason == UNSEEN
    assert shown(rfc, machines, FALSE, {}, FAR).evidence is Evidence.CONFIRMED


def test_goals_that_hold_show_nothing(rfc: Subject, machines: Machines) -> None:
    goals = {**FALSE, "what holds": z3.BoolVal(True)}
    record = shown(rfc, machines, goals, {GOAL: (END,), "what holds": ("gdtr_limit",)})
    assert record.reason == UNSEEN


def test_a_witness_must_violate_on_the_cpu_of_qemu(rfc: Subject, machines: Machines) -> None:
    """QEMU leaves CD and NW set in CR0."""
    cr0 = z3.BitVec("cr0_at_entry", 64)
    record = shown(rfc, machines, {GOAL: cr0 & 0x40000000 != 0}, {}, FAR, cr0_at_entry=0x20000000)
    assert (record.evidence, record.reason) == (Evidence.NOT_REPLAYABLE, NOT_VIOLATED)


def test_a_name_that_is_no_goal_is_refused() -> None:
    with pytest.raises(ValueError, match="shown_by names no goal"):
        Obligation("a test", (), FALSE, shown_by={"another": (END,)})


def test_a_decided_witness_of_a_write_outside_is_confirmed(
    rfc: Subject, machines: Machines
) -> None:
    """The whole way: obligation, solver, witness, replay. The pushes are at one fixed address."""
    subject = Claims(rfc.contract, rfc.image, rfc.run)
    end = subject.hand_offs[0]
    image = [range(len(rfc.image.data))]
    goals = {f"write {n}": subject.lies_in(a, image) for n, a in enumerate(subject.writes(end))}
    obligation = subject.about("frame", end, goals, shown_by=dict.fromkeys(goals, (OUTSIDE,)))
    result = decide(obligation, rfc.predictor)
    assert result.verdict is Verdict.REFUTED
    everyday = given(16 * MIB).values
    nearest = smallest([(obligation, result)], everyday, (), rfc.predictor)
    assert nearest is not None
    assert nearest[1].witness is not None
    record, _ = show(rfc.contract, rfc.predictor, machines, obligation, nearest[1].witness)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, "")
    assert any(name.startswith("memory ") for name in record.observed)
