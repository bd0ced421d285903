# SPDX-License-Identifier: GPL-2.0-only
"""Where QEMU cannot show the smallest witness, another one on its platform is looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import z3

from harness.qemu.machine import Machine
from harness.record import Evidence
from harness.replay import another
from harness.replay.another import ANOTHER, other_witnesses, show_another
from harness.replay.cpu import QEMU_CPU
from harness.replay.evidence import NOT_VIOLATED, Machines, Shown, show
from harness.replay.platform import as_on_qemu, conditions
from harness.replay.replay import not_replayed
from harness.solve.evaluate import evaluate
from harness.solve.obligation import Obligation, Witness
from harness.x86.run import EndKind, PathEnd
from harness.x86.terms import VECTOR, variables
from tests.replay.conftest import GIB, MIB, Subject, given

FAR = 600 * GIB  # not mapped: a shutdown
GOAL = "what is demanded"
PLATFORM = Machine(40)  # never started
DEFAULTS = {**QEMU_CPU, "maxphyaddr": 40, "boot_params_phys_addr": 2 * MIB}


@pytest.fixture(scope="module")
def machines(machine: Machine) -> Iterator[Machines]:
    """`machine` says whether there is QEMU."""
    with Machines() as running:
        yield running


def never(subject: Subject, ends: Sequence[PathEnd]) -> list[Obligation]:
    """No input ends so."""
    return [
        Obligation(end.detail, subject.run.hypotheses, {GOAL: z3.Not(end.condition)})
        for end in ends
    ]


def found(subject: Subject, obligations: list[Obligation]) -> list[tuple[Obligation, Witness]]:
    base = {VECTOR: evaluate(z3.LShR(subject.run.inputs["base"], 12), {VECTOR: 0x90}, _nothing)}
    defaults = {**DEFAULTS, **base}
    return list(other_witnesses(subject.predictor, PLATFORM, obligations, defaults, ()))


def _nothing(address: int) -> int:
    return 0


def test_each_end_is_tried_once(rfc: Subject) -> None:
    """Of all that the kernel's address is, every path would do."""
    obligation = Obligation("a test", rfc.run.hypotheses, {GOAL: z3.BoolVal(False)})
    ends = [rfc.predictor.predict_witness(w).end for _, w in found(rfc, [obligation])]
    assert 1 < len(ends) == len({id(end) for end in ends})


def test_an_end_that_qemu_cannot_show_is_not_tried(la57: Subject) -> None:
    run = la57.run
    hidden = [end for end in run.ends if end.kind is EndKind.UNPROMISED]
    hidden += [end for end in run.ends if end.detail.startswith("#GP: CR4")]
    assert len(hidden) > 2
    assert found(la57, never(la57, hidden)) == []


def test_tables_of_the_platform_meet_what_the_host_promises(
    la57: Subject, machines: Machines
) -> None:
    """The smallest witness rests on tables that are not QEMU's; the other one does not."""
    (end,) = (end for end in la57.run.ends if "PML5E" in end.detail)
    (obligation,) = never(la57, [end])
    (_, witness), *_ = found(la57, [obligation])
    assert la57.predictor.predict_witness(witness).end is end
    record, _ = show(la57.contract, la57.predictor, machines, obligation, witness)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, "")
    cr3 = {**witness.values, "cr3_at_hand_over": 0x1000}
    without = replace(witness, values=cr3)
    other, _ = show(la57.contract, la57.predictor, machines, obligation, without)
    assert (other.evidence, other.reason) == (Evidence.NOT_REPLAYABLE, NOT_VIOLATED)


def test_the_conditions_are_what_the_platform_makes_of_an_input(la57: Subject) -> None:
    terms = (*la57.run.hypotheses, *(c for end in la57.run.ends for c in end.path))
    symbols = {name: symbol for term in terms for name, symbol in variables(term).items()}
    wanted = conditions(la57.predictor, PLATFORM, symbols)
    solver = z3.Solver()
    solver.add(*wanted)
    assert solver.check() == z3.sat
    model = solver.model()
    values = {
        name: model.eval(symbol, model_completion=True)
        for name, symbol in symbols.items()
        if not z3.is_array(symbol)
    }
    plain = {n: int(z3.is_true(v)) if z3.is_bool(v) else v.as_long() for n, v in values.items()}
    held = as_on_qemu(la57.predictor, plain, {}).values
    assert {name: held[name] for name in plain} == plain
    for name in ("cr3_at_hand_over", "maxphyaddr", "cpuid_max_basic", "cpu_has_la57"):
        amiss = {**plain, name: plain[name] ^ (0x1000 if name.startswith("cr3") else 1)}
        assert not all(evaluate(condition, amiss, _nothing) for condition in wanted)


def test_what_qemu_shows_of_another_input_is_told(rfc: Subject, machines: Machines) -> None:
    goal = rfc.run.inputs["kernel_phys_addr"] != FAR
    obligation = Obligation("a test", rfc.run.hypotheses, {GOAL: goal})
    result = show_another(rfc.predictor, machines, PLATFORM, [obligation], DEFAULTS, ())
    assert result is not None
    record = result.shown.replay
    assert result.obligation.name == obligation.name
    assert result.witness.values["kernel_phys_addr"] == FAR
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, ANOTHER)


@pytest.mark.parametrize("last", [Evidence.CONFIRMED, Evidence.CONTRADICTED])
def test_a_contradiction_is_not_passed_over(
    rfc: Subject, monkeypatch: pytest.MonkeyPatch, last: Evidence
) -> None:
    """What QEMU cannot show is; the next one counts, whatever it says."""
    answers = iter([Evidence.NOT_REPLAYABLE, last, Evidence.CONFIRMED])
    witness = Witness(dict(given(16 * MIB).values), {}, (GOAL,))
    three = [(Obligation("a test", (), {GOAL: z3.BoolVal(False)}), witness)] * 3
    nothing: Any = None
    monkeypatch.setattr(another, "other_witnesses", lambda *some: iter(three))
    monkeypatch.setattr(another, "show", lambda *some: Shown(not_replayed(next(answers), "so")))
    result = show_another(rfc.predictor, nothing, PLATFORM, [], {}, ())
    assert result is not None
    record = result.shown.replay
    assert (record.evidence, record.reason) == (last, f"{ANOTHER}; so")
