# SPDX-License-Identifier: GPL-2.0-only
"""Upper halves of registers, which QEMU zeroes on the way to 64-bit code, set by the debugger."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import z3

from harness.qemu.job import Injection, OutcomeKind
from harness.qemu.machine import Machine
from harness.record import Evidence, ReplayRecord
from harness.replay.cpu import injection, on_qemu
from harness.replay.predict import Input, Predictor
from harness.replay.replay import INJECTED, replay
from harness.replay.writes import Values
from harness.x86.execute import execute
from harness.x86.run import Before, EndKind
from harness.x86.terms import VECTOR, variables
from models.modes import GENERAL_REGISTERS
from tests.replay.conftest import MIB, RFC, Subject, given
from tests.replay.little import at_base, little
from tests.x86.test_mode_switches import THROUGH_COMPATIBILITY, THROUGH_LEGACY
from trampoline.contract import load_contract
from trampoline.image import load_image

UPPER_HALF = re.compile(r"(?P<register>\w+)_upper_half_\d+")
LOST = re.compile(r"(?P<register>\w+)_(upper_half|undefined)_(?P<number>\d+)")
UPPER = "TO_32BIT\nTO_64BIT_UPPER_HALVES_UNKNOWN"
UPPER_KNOWN = f"{UPPER}\nmovl %esi, %esi; movl %esp, %esp"
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


STORE = "".join(
    f"movq %{name}, area + {8 * number}(%rip)\n" for number, name in enumerate(GENERAL_REGISTERS)
)
"""All registers to `area`, where the replay sees them."""


def lost_last(subject: Subject) -> dict[str, str]:
    """The symbols that the run made last, by register: those of 32 bits first."""
    (end,) = subject.run.ends_of(EndKind.PARKED)
    names = {name for term in end.state.registers.values() for name in variables(term)}
    found = [match for name in names if (match := LOST.fullmatch(name))]
    found.sort(key=lambda m: (GENERAL_REGISTERS.index(m["register"]), int(m["number"])))
    return {match["register"]: match[0] for match in found}


@pytest.mark.parametrize("chosen", [0, 1, 0x1234_5678])
@pytest.mark.parametrize(
    ("code", "lost"), [(THROUGH_COMPATIBILITY, 8), (THROUGH_LEGACY, 16)], ids=["compat", "legacy"]
)
def test_registers_are_as_predicted_where_64_bit_code_begins_again(
    code: str, lost: int, chosen: int, tmp_path: Path, machine: Machine
) -> None:
    """QEMU keeps upper halves, so that 0 has to be injected, too."""
    subject = little(tmp_path, code.replace("hlt", STORE + "hlt"), 64, way=UPPER_KNOWN)
    symbols = lost_last(subject)
    assert len(symbols) == lost
    what = at_base({name: chosen * (n + 1) for n, name in enumerate(symbols.values())})
    record = replayed(subject, machine, what)
    assert (record.evidence, record.reason) == (Evidence.CONFIRMED, INJECTED)


@pytest.mark.parametrize("code", [THROUGH_COMPATIBILITY, THROUGH_LEGACY])
def test_what_qemu_keeps_contradicts_if_it_is_not_injected(
    code: str, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = little(tmp_path, code.replace("hlt", STORE + "hlt"), 64, way=UPPER_KNOWN)
    monkeypatch.setattr("harness.replay.replay.injection", lambda prediction: None)
    record = replayed(subject, machine, at_base())
    assert record.evidence is Evidence.CONTRADICTED


def test_code_in_a_copy_has_the_address_of_the_copy() -> None:
    """la57 enters 64-bit code again at `trampoline_64bit`, in the copy at 7C00H."""
    contract = load_contract(RFC.parents[1] / "la57" / "contract.toml")
    image = load_image(contract)
    run = execute(contract, image, 0x20_0000)
    first, tail = (image.symbols[name] for name in ("trampoline_32bit", "trampoline_64bit"))
    made = []
    for end in run.ends_of(EndKind.HAND_OFF):
        given = Input(Values({VECTOR: 0x200}), {})
        prediction: Any = SimpleNamespace(
            given=given, values=given.values, memory=lambda address: 0, end=end
        )
        made.append(injection(prediction))
    switched = [found for found in made if found is not None]
    assert len(switched) < len(made)
    for found in switched:
        assert isinstance(found, Injection)
        assert found.linear == 0x7C00 + tail - first
        assert found.upper_halves == dict.fromkeys(GENERAL_REGISTERS[:8], 0)
        assert found.registers == dict.fromkeys(GENERAL_REGISTERS[8:], 0)


BASE = z3.BitVecVal(0x8000, 64)


def predicted(
    trace: list[tuple[int, str]],
    made: dict[int, dict[str, z3.BitVecRef]],
    used: tuple[z3.BoolRef, ...] = (),
    origins: dict[int, int] | None = None,
    **values: int,
) -> Any:
    """A path; `made`: what registers hold from an instruction of the trace on."""
    state = SimpleNamespace(rip=BASE, registers={})
    origins = origins or {}
    history = [
        Before(
            dict(made.get(number, {})),
            0,
            z3.BitVecVal(origins[number], 64) if number in origins else BASE,
        )
        for number in range(len(trace))
    ]
    memory = SimpleNamespace(records=())
    return SimpleNamespace(
        given=Input({VECTOR: 8, **values}, {}),
        values=Values(values),
        memory=lambda address: 0,
        end=SimpleNamespace(
            trace=tuple(trace), history=history, path=used, state=state, memory=memory
        ),
    )


def half(number: int, register: str = "rsi") -> z3.BitVecRef:
    return z3.BitVec(f"{register}_upper_half_{number}", 32)


def register(number: int, name: str = "rsi") -> z3.BitVecRef:
    return z3.Concat(half(number, name), z3.BitVecVal(5, 32))


WHOLE = z3.BitVec("r9_undefined_7", 64)
ONCE = [(0, "REAL16"), (5, "PROTECTED32"), (9, "LONG64")]
TWICE = [*ONCE, (12, "COMPATIBILITY32"), (15, "LONG64")]
MADE = {2: {"rsi": register(3), "r9": register(4, "r9")}, 4: {"rsi": register(6), "r9": WHOLE}}


def test_the_first_time_only_what_is_not_0_is_injected() -> None:
    assert injection(predicted(ONCE, MADE, rsi_upper_half_3=7)) == Injection(0x8009, {"rsi": 7})
    assert injection(predicted(ONCE, MADE)) is None
    assert injection(predicted(ONCE[:2], MADE, rsi_upper_half_3=7)) is None


def test_later_all_is_injected_at_the_last_place() -> None:
    found = injection(predicted(TWICE, MADE, rsi_upper_half_6=7))
    assert found == Injection(0x800F, {"rsi": 7}, {"r9": 0})
    found = injection(predicted(TWICE, MADE, r9_undefined_7=1 << 63))
    assert found == Injection(0x800F, {"rsi": 0}, {"r9": 1 << 63})


def test_from_64_bit_code_on_every_way_is_a_way_back() -> None:
    handed_over = [(9, "LONG64"), (12, "PROTECTED32"), (15, "LONG64")]
    found = injection(predicted(handed_over, {2: MADE[4]}))
    assert found == Injection(0x800F, {"rsi": 0}, {"r9": 0})
    assert injection(predicted([*handed_over[:1], (3, "REAL16")], {0: MADE[4]})) is None


def test_what_is_lost_for_good_needs_no_injection() -> None:
    """A first value that is not 0 and that nothing depends on: the second one counts."""
    found = injection(predicted(TWICE, MADE, rsi_upper_half_3=7))
    assert found == Injection(0x800F, {"rsi": 0}, {"r9": 0})


def test_two_injections_are_not_made() -> None:
    used = (half(3) != 1,)
    reason = injection(predicted(TWICE, MADE, used, rsi_upper_half_3=7))
    assert reason == "64-bit code is entered more than once, and uses RSI of an earlier time"
    assert isinstance(injection(predicted(TWICE, MADE, used)), Injection)  # QEMU leaves 0
    thrice = [*TWICE, (12, "COMPATIBILITY32"), (20, "LONG64")]
    made = {**MADE, 6: {"rsi": register(9)}}
    assert isinstance(injection(predicted(thrice, made, used)), Injection)
    for used in ((half(6) != 1,), (WHOLE != 1,)):  # QEMU keeps what it has
        assert isinstance(injection(predicted(thrice, made, used)), str)


def test_a_place_that_is_met_before_is_not_used() -> None:
    before = [(15, "PROTECTED32"), *TWICE[1:]]
    for trace in ([(9, "PROTECTED32"), *ONCE], [*ONCE, (12, "COMPATIBILITY32"), (9, "LONG64")]):
        made = {len(trace) - 1: {"rsi": register(3)}}
        reason = injection(predicted(trace, made, rsi_upper_half_3=7))
        assert isinstance(reason, str) and "where other code ran before" in reason
    assert isinstance(injection(predicted(before, MADE)), str)
    assert isinstance(injection(predicted(before, MADE, origins={0: 0x7C00})), Injection)
