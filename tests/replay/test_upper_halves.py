# SPDX-License-Identifier: GPL-2.0-only
"""Upper halves of registers, which QEMU zeroes on the way to 64-bit code, set by the debugger."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.qemu.job import Injection, OutcomeKind
from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.cpu import UPPER_HALF, injection, on_qemu
from harness.replay.predict import Input, Predictor
from harness.replay.replay import INJECTED, replay
from harness.x86.execute import execute
from harness.x86.run import EndKind
from harness.x86.terms import VECTOR, variables
from tests.replay.conftest import MIB, RFC, Subject, given
from tests.replay.little import at_base, little
from trampoline.contract import load_contract
from trampoline.image import load_image

UPPER = "TO_32BIT\nTO_64BIT_UPPER_HALVES_UNKNOWN"
USES_RSI = """
    movq %rsi, %rax
    shrq $32, %rax
    movl %eax, scratch(%rip)
    testl %eax, %eax
    jnz 1f
    hlt
1:  movl (%rsi), %ebx
    hlt
"""
"""Stores the upper half of RSI, and loads from RSI unless it is 0."""


def symbols(subject: Subject) -> dict[str, str]:
    """The run's symbols for upper halves, by register."""
    names: dict[str, str] = {}
    for end in subject.run.ends:
        state = end.state
        for term in (*end.path, *state.registers.values(), *(r.value for r in end.memory.records)):
            for name in variables(term):
                if found := UPPER_HALF.fullmatch(name):
                    names[found["register"]] = name
    return names


@pytest.fixture
def uses_rsi(tmp_path: Path) -> Subject:
    return little(tmp_path, USES_RSI, 64, way=UPPER)


def replayed(subject: Subject, machine: Machine, what: Input) -> ReplayRecord:
    return replay(subject.contract, subject.predictor, machine, what)


@pytest.mark.parametrize("half", [1, 0x7FFF, 0x1234_5678, 0xFFFF_FFFF])
def test_an_upper_half_has_the_predicted_effect(
    uses_rsi: Subject, machine: Machine, half: int
) -> None:
    """The load from RSI is a page fault; before it the upper half was stored in the image."""
    what = at_base({symbols(uses_rsi)["rsi"]: half})
    prediction = uses_rsi.predictor.predict(what)
    assert prediction.end.kind is EndKind.SHUTDOWN
    scratch = uses_rsi.image.symbols["scratch"]
    assert prediction.image_after[scratch : scratch + 4] == half.to_bytes(4, "little")
    record = replayed(uses_rsi, machine, what)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, INJECTED)


def test_zero_needs_no_debugger(uses_rsi: Subject, machine: Machine) -> None:
    what = at_base({symbols(uses_rsi)["rsi"]: 0})
    assert injection(uses_rsi.predictor.predict(what)) is None
    record = replayed(uses_rsi, machine, what)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, "")


def test_what_is_not_injected_contradicts(
    uses_rsi: Subject, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.replay.replay.injection", lambda prediction: None)
    record = replayed(uses_rsi, machine, at_base({symbols(uses_rsi)["rsi"]: 1}))
    assert record.evidence is Evidence.CONTRADICTED
    assert "outcome: " in record.reason


def test_all_registers_can_be_set(tmp_path: Path, machine: Machine) -> None:
    names = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()
    code = "\n".join(f"movq %{name}, area + {8 * n}(%rip)" for n, name in enumerate(names))
    subject = little(tmp_path, f"{code}\nhlt", 64, way=UPPER)
    chosen = {symbols(subject)[name]: 0xAB00_0000 + n for n, name in enumerate(names)}
    assert len(chosen) == 16
    record = replayed(subject, machine, at_base(chosen))
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, INJECTED)


@pytest.fixture(scope="module")
def rfc_unassuming() -> Subject:
    """The RFC's trampoline without the assumption that upper halves are 0."""
    contract = load_contract(RFC)
    entry = contract.entry[0].model_copy(update={"assume": ()})
    contract = contract.model_copy(update={"entry": (entry,)})
    image = load_image(contract)
    run = execute(contract, image, 0x90000)
    return Subject(contract, image, run, Predictor(contract, image, run))


def test_the_rfc_faults_on_an_upper_half_of_rsi(rfc_unassuming: Subject, machine: Machine) -> None:
    values = {**given(16 * MIB).values, symbols(rfc_unassuming)["rsi"]: 1}
    record = replayed(rfc_unassuming, machine, on_qemu(values, {}))
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, INJECTED)
    assert record.observed["outcome"] == OutcomeKind.SHUTDOWN


def test_an_upper_half_that_is_handed_over_is_seen(
    rfc_unassuming: Subject, machine: Machine
) -> None:
    values = {**given(16 * MIB).values, symbols(rfc_unassuming)["r12"]: 0xABCD}
    what, subject = on_qemu(values, {}), rfc_unassuming
    record = replay(subject.contract, subject.predictor, machine, what, (), [("r12",)])
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, INJECTED)
    assert record.observed["outcome"] == OutcomeKind.HAND_OFF
    assert subject.predictor.predict(what).registers()["r12"] == 0xABCD << 32


def predicted(trace: list[tuple[int, str]], **values: int) -> Any:
    return SimpleNamespace(
        given=Input({VECTOR: 8, **values}, {}), end=SimpleNamespace(trace=tuple(trace))
    )


def test_an_ambiguous_injection_is_not_made() -> None:
    once = [(0, "REAL16"), (5, "PROTECTED32"), (9, "LONG64")]
    assert injection(predicted(once, rsi_upper_half_3=7)) == Injection(0x8009, {"rsi": 7})
    both = injection(predicted(once, rsi_upper_half_3=7, rsi_upper_half_20=1))
    assert both == "the upper half of RSI is lost more than once"
    for trace in ([*once, (5, "COMPATIBILITY32"), (11, "LONG64")], [(9, "PROTECTED32"), *once]):
        reason = injection(predicted(trace, rsi_upper_half_3=7))
        assert isinstance(reason, str) and "more than once" in reason
    assert injection(predicted(once[:2], rsi_upper_half_3=7)) is None
