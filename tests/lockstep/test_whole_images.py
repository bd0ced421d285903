# SPDX-License-Identifier: GPL-2.0-only
"""Shipped trampolines step by step beside unicorn's CPU; and errors that must show."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import z3
from pypcode import OpCode

from harness.lockstep.beside_unicorn import BesideUnicorn
from harness.lockstep.compare import Agreement, Mismatch, against, beside, compare
from harness.lockstep.emulated import Emulation
from harness.lockstep.forms import forms, of_the_list
from harness.lockstep.inputs import predictions
from harness.lockstep.single import compare_form
from harness.replay.predict import Prediction, Predictor
from harness.x86 import pcode
from harness.x86.execute import execute
from harness.x86.machine import Machine
from harness.x86.registers import FLAGS, Registers
from harness.x86.run import EndKind
from models import descriptors, modes
from models.modes import Mode
from trampoline.contract import load_contract
from trampoline.errors import UserError
from trampoline.image import load_image

SHIPPED = Path(__file__).resolve().parents[2] / "trampoline"
TRAMPOLINES = sorted(path.parent.name for path in SHIPPED.glob("*/contract.toml"))
INPUTS = 5
CORE = "rax rbx rcx rdx rsi rdi rbp rsp cs ds es fs gs ss cr0 cr3 cr4 efer".split()
"""What any CPU shows beside GDTR and IDTR."""


@cache
def predictor(name: str) -> Predictor:
    contract = load_contract(SHIPPED / name / "contract.toml")
    image = load_image(contract)
    return Predictor(contract, image, execute(contract, image))


@pytest.mark.parametrize("name", TRAMPOLINES)
def test_each_step_of_the_emulated_cpu_is_foretold(name: str) -> None:
    begun, ways = Counter[int](), set()
    for prediction in predictions(predictor(name), INPUTS):
        found = compare(predictor(name), prediction)
        assert isinstance(found, Agreement), (dict(prediction.given.values), found)
        assert prediction.end.kind is EndKind.HAND_OFF
        assert found.end
        assert found.steps == len(prediction.end.trace)
        assert found.registers > 50 * found.steps
        begun[prediction.end.entry] += 1
        ways.add(prediction.end)
    if name.startswith("la57"):  # with and without a switch of paging modes
        assert {len(end.trace) > 30 for end in ways} == {False, True}
    entries = predictor(name).contract.entry
    assert begun == dict.fromkeys(range(len(entries)), INPUTS)


@cache
def example() -> tuple[Prediction, Emulation]:
    """One input of `legoos`, and what unicorn's CPU does."""
    prediction = next(predictions(predictor("legoos"), 1))
    seen = beside(predictor("legoos"), prediction)
    assert isinstance(against(prediction, seen), Agreement)
    return prediction, seen


def with_register(seen: Emulation, step: int, name: str, bit: int = 0) -> Emulation:
    wrong = dict(seen.steps[step].registers)
    wrong[name] ^= 1 << bit
    steps = [*seen.steps]
    steps[step] = replace(steps[step], registers=wrong)
    return replace(seen, steps=steps)


@pytest.mark.parametrize(
    "name",
    [
        "rax",
        "rsp",
        "cs",
        "ss",
        "cr0",
        "cr3",
        "cr4",
        "efer",
        "gdtr_base",
        "gdtr_limit",
        "idtr_limit",
        "cs_base",
        "ds_limit",
        "es_type",
        "ss_dpl",
        "fs_present",
        "gs_s",
        "cs_long",
        "ss_big",
    ],
)
def test_a_register_with_one_wrong_bit_is_found_at_its_instruction(name: str) -> None:
    prediction, seen = example()
    found = against(prediction, with_register(seen, 30, name))
    assert isinstance(found, Mismatch)
    assert (found.step, found.what) == (30, name)


@pytest.mark.parametrize("flag", ["CF", "PF", "ZF", "SF", "TF", "IF", "DF", "OF"])
def test_a_wrong_flag_is_found_at_its_instruction(flag: str) -> None:
    prediction, seen = example()
    found = against(prediction, with_register(seen, 40, "rflags", FLAGS[flag]))
    assert isinstance(found, Mismatch)
    assert (found.step, found.what) == (40, flag)


def test_a_flag_that_the_manual_leaves_undefined_is_not_compared() -> None:
    prediction, seen = example()
    found = against(prediction, with_register(seen, 30, "rflags", FLAGS["CF"]))
    assert isinstance(found, Agreement)


def test_an_upper_half_counts_in_64_bit_code_only() -> None:
    prediction, seen = example()
    assert isinstance(against(prediction, with_register(seen, 30, "rsp", 32)), Agreement)
    last = prediction.end.trace[-1][1]
    assert last == "LONG64"
    found = against(prediction, with_register(seen, len(seen.steps) - 1, "rsp", 32))
    assert isinstance(found, Mismatch)
    assert found.what == "upper half of rsp"


@pytest.mark.parametrize("name", ["rsi", "cs_long", "cr3", "gdtr_limit"])
def test_a_register_that_is_handed_over_wrongly_is_found(name: str) -> None:
    prediction, seen = example()
    assert seen.last is not None
    wrong = {**seen.last.registers, name: seen.last.registers[name] ^ 1}
    found = against(prediction, replace(seen, last=replace(seen.last, registers=wrong)))
    assert isinstance(found, Mismatch)
    assert (found.step, found.what) == (len(prediction.end.trace) - 1, name)


def test_a_cpu_that_goes_elsewhere_at_the_hand_off_is_found() -> None:
    prediction, seen = example()
    assert seen.last is not None
    there = replace(seen.last, address=seen.last.address + 1)
    found = against(prediction, replace(seen, last=there))
    assert isinstance(found, Mismatch)
    assert found.what == "address"


def test_a_cpu_that_shows_less_is_compared_in_what_it_shows() -> None:
    prediction, seen = example()
    less = {n: seen.steps[0].registers[n] for n in (*CORE, "gdtr_base", "gdtr_limit")}
    less |= {"idtr_base": 0, "idtr_limit": 0xFFFF}
    steps = [
        replace(one, registers={n: one.registers[n] for n in less}, bits=32) for one in seen.steps
    ]
    found = against(prediction, replace(seen, steps=steps, last=None))
    assert isinstance(found, Agreement)
    assert not found.end
    with pytest.raises(KeyError):
        steps[5] = replace(steps[5], registers={})
        against(prediction, replace(seen, steps=steps))


@pytest.mark.parametrize(
    "damage",
    [
        lambda w: [*w[:9], (w[9][0] + 4, *w[9][1:]), *w[10:]],
        lambda w: [*w[:9], (w[9][0], 2, w[9][2]), *w[10:]],
        lambda w: [*w[:9], (*w[9][:2], w[9][2] ^ 0x100), *w[10:]],
        lambda w: [w[1], w[0], *w[2:]],
        lambda w: [*w[:9], *w[10:]],
        lambda w: [*w[:9], w[8], *w[9:]],
        lambda w: w[:-1],
    ],
    ids=["address", "size", "value", "order", "lost", "twice", "the last one lost"],
)
def test_a_write_that_differs_is_found(damage: Callable[[list[Any]], list[Any]]) -> None:
    prediction, seen = example()
    found = against(prediction, replace(seen, writes=damage(seen.writes)))
    assert isinstance(found, Mismatch)
    assert found.what == "write"


def test_a_write_too_many_is_found_at_the_next_instruction() -> None:
    prediction, seen = example()
    steps = [replace(one, writes=one.writes + (n > 40)) for n, one in enumerate(seen.steps)]
    found = against(prediction, replace(seen, steps=steps))
    assert isinstance(found, Mismatch)
    assert (found.step, found.what) == (41, "write")


@pytest.mark.parametrize(
    "damage",
    [lambda s: s[:40], lambda s: [*s[:40], *s[41:]], lambda s: [*s[:40], s[39], *s[40:]]],
    ids=["it stops", "an instruction left out", "an instruction twice"],
)
def test_another_way_is_found(damage: Callable[[list[Any]], list[Any]]) -> None:
    prediction, seen = example()
    found = against(prediction, replace(seen, steps=damage(seen.steps)))
    assert isinstance(found, Mismatch)
    assert found.step == 40


BINARY: dict[str, tuple[OpCode, Callable[[Any, Any], Any]]] = {
    "add carries one in": (OpCode.INT_ADD, lambda a, b: a + b + 1),
    "sub borrows one": (OpCode.INT_SUB, lambda a, b: a - b - 1),
    "and is or": (OpCode.INT_AND, lambda a, b: a | b),
    "or is exclusive": (OpCode.INT_OR, lambda a, b: a ^ b),
    "xor is or": (OpCode.INT_XOR, lambda a, b: a | b),
    "shift to the left by one more": (OpCode.INT_LEFT, lambda a, b: a << (_wide(b, a) + 1)),
    "shift to the right keeps the sign": (OpCode.INT_RIGHT, lambda a, b: a >> _wide(b, a)),
    "equal is not equal": (OpCode.INT_EQUAL, lambda a, b: pcode._flag(a != b)),
    "below is below or equal": (OpCode.INT_LESS, lambda a, b: pcode._flag(z3.ULE(a, b))),
    "a carry is a comparison": (OpCode.INT_CARRY, lambda a, b: pcode._flag(z3.ULT(a, b))),
    "overflow ignores a sign": (OpCode.INT_SCARRY, lambda a, b: pcode._flag((a ^ (a + b)) < 0)),
    "overflow of a borrow is that of a carry": (
        OpCode.INT_SBORROW,
        lambda a, b: pcode._overflow(a, b, a - b),
    ),
}
UNARY: dict[str, tuple[OpCode, Callable[[Any, int], Any]]] = {
    "the sign is not extended": (OpCode.INT_SEXT, lambda a, bits: z3.ZeroExt(bits - a.size(), a)),
    "zero extension keeps the sign": (
        OpCode.INT_ZEXT,
        lambda a, bits: z3.SignExt(bits - a.size(), a) if bits > a.size() else a,
    ),
    "parity leaves out a bit": (OpCode.POPCOUNT, lambda a, bits: pcode._popcount(a & ~1, bits)),
    "negation is complement": (OpCode.INT_2COMP, lambda a, bits: ~a),
}


def _wide(value: z3.BitVecRef, like: z3.BitVecRef) -> z3.BitVecRef:
    size = like.size()
    if value.size() > size:
        return z3.Extract(size - 1, 0, value)
    return z3.ZeroExt(size - value.size(), value)


def _changed(**fields: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What a function of a model gives, with some fields wrong."""

    def around(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*arguments: Any) -> Any:
            found = right(*arguments)
            return replace(
                found, **{n: z3.simplify(f(getattr(found, n))) for n, f in fields.items()}
            )

        return wrong

    return around


MODELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "real-mode base": (descriptors.real_mode_load, _changed(base=lambda base: base + 16)),
    "descriptor base": (descriptors.decode, _changed(base=lambda base: base + 1)),
    "descriptor selector": (descriptors.decode, _changed(selector=lambda selector: selector + 8)),
    "descriptor D bit": (descriptors.decode, _changed(big=z3.Not)),
    "descriptor L bit": (descriptors.decode, _changed(long=z3.Not)),
    "code selector": (descriptors.code_load, _changed(selector=lambda selector: selector ^ 1)),
    "CR0 loses WP": (modes.cr0_write, _changed(cr0=lambda cr0: cr0 ^ modes.CR0_WP)),
    "CR0 does not set LMA": (modes.cr0_write, _changed(efer=lambda e: e & ~modes.EFER_LMA)),
    "CR3 gains PWT": (modes.cr3_write, _changed(cr3=lambda cr3: cr3 ^ 8)),
    "CR4 loses PAE": (modes.cr4_write, _changed(cr4=lambda cr4: cr4 & ~modes.CR4_PAE)),
    "EFER gains NXE": (modes.efer_write, _changed(efer=lambda efer: efer ^ modes.EFER_NXE)),
}


def notices() -> bool:
    """The broken machine is found out: by a step of a whole image, or because that comes to no
    hand-off any more."""
    broken = predictor.__wrapped__("multikernel_rfc")
    try:
        prediction = next(predictions(broken, 1))
    except (ValueError, UserError):
        return True
    found = compare(broken, prediction)
    return isinstance(found, Mismatch) or prediction.end.kind is not EndKind.HAND_OFF


def notices_alone(mode: Mode = Mode.PROTECTED32) -> bool:
    """The broken machine is found out by single instructions from random states."""
    beside, random = BesideUnicorn(), Random(0)
    return any(compare_form(form, 3, random, beside)[1] for form in forms(of_the_list(mode)))


@pytest.mark.parametrize("error", BINARY)
def test_a_wrong_operation_of_the_machine_is_noticed(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opcode, wrong = BINARY[error]
    monkeypatch.setitem(pcode.BINARY, opcode, wrong)
    # An image need not meet the operands that make the difference.
    assert notices_alone() or notices()


@pytest.mark.parametrize("error", UNARY)
def test_a_wrong_operation_on_one_value_is_noticed(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opcode, wrong = UNARY[error]
    monkeypatch.setitem(pcode.UNARY, opcode, wrong)
    assert notices_alone()


def _second_byte_is_the_first(right: Callable[..., None]) -> Callable[..., None]:
    def write(registers: Any, name: str, byte: int, value: Any) -> None:
        right(registers, name, 0 if value.size() == 8 else byte, value)

    return write


def _records(wrong: Callable[[Any], Any]) -> Callable[..., Any]:
    """The machine notes accesses wrongly."""

    def around(right: Callable[..., None]) -> Callable[..., None]:
        def record(machine: Any, *arguments: Any, **more: Any) -> None:
            right(machine, *arguments, **more)
            machine.cpu.accesses = wrong(machine.cpu.accesses)

        return record

    return around


MACHINE: dict[str, tuple[Any, str, Callable[[Callable[..., None]], Callable[..., None]]]] = {
    "BH is BL": (Registers, "write", _second_byte_is_the_first),
    "writes in the wrong order": (
        Machine,
        "_record",
        _records(lambda made: (*made[:-2], *reversed(made[-2:]))),
    ),
    "a write is lost": (
        Machine,
        "_record",
        _records(lambda made: made[:-1] if made[-1].kind == "store" else made),
    ),
    "a write is too wide": (
        Machine,
        "_record",
        _records(lambda made: (*made[:-1], replace(made[-1], size=made[-1].size + 1))),
    ),
}


@pytest.mark.parametrize("error", MACHINE)
def test_a_wrong_write_of_the_machine_is_noticed(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, around = MACHINE[error]
    monkeypatch.setattr(where, name, around(getattr(where, name)))
    assert notices() or notices_alone()


@pytest.mark.parametrize("error", MODELS)
def test_a_wrong_rule_of_a_model_is_noticed(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, around = MODELS[error]
    wrong, places = around(right), 0
    for module in [m for n, m in sys.modules.items() if n.startswith(("harness.x86", "models"))]:
        for name, value in list(vars(module).items()):
            if value is right:
                monkeypatch.setattr(module, name, wrong)
                places += 1
    assert places
    assert notices()


def test_the_machine_as_it_is_gives_nothing_to_notice() -> None:
    assert not notices()
    assert not notices_alone()
