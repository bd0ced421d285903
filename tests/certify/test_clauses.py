# SPDX-License-Identifier: GPL-2.0-only
"""Clauses say what the conditions say, and where they do not, that is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import z3

from harness.certify import blast, formula, reads
from harness.certify.circuit import FALSE, TRUE, Circuit, Gate, clauses
from harness.certify.formula import Formula, NotTheConditions
from harness.certify.inputs import compare, drawn
from harness.certify.operations import Operations, WrongGates, prove
from harness.certify.reads import NotReduced, check, without_arrays
from harness.x86.terms import ENTRY_MEMORY, OTHER_MEMORY
from tests.solve.toys import FLAG, X, Y, byte

A, B = z3.BitVecs("a b", 8)
TERMS = {
    "addition": A + B + 3,
    "subtraction": A - B,
    "negation": -A,
    "multiplication": z3.Extract(4, 0, A) * z3.Extract(4, 0, B),
    "multiplication by a constant": A * z3.BitVecVal(0xB7, 8),
    "multiplication by -1": z3.BitVecVal(0xFF, 8) * A,
    "and": A & B,
    "or": A | B,
    "exclusive or": A ^ B,
    "complement": ~A,
    "shift left": A << B,
    "logical shift right": z3.LShR(A, B),
    "arithmetic shift right": A >> B,
    "unsigned comparisons": z3.And(z3.ULT(A, B), z3.ULE(A, B), z3.Not(z3.UGT(A, B))),
    "at least": z3.UGE(A, B),
    "signed comparisons": z3.And(A < B, A <= B, z3.Not(A > B)),
    "signed at least": A >= B,
    "parts": z3.Concat(z3.Extract(5, 2, A), z3.ZeroExt(3, B), z3.SignExt(3, B)),
    "choice": z3.If(z3.And(FLAG, A == B), A, B),
    "choice of Booleans": z3.If(FLAG, A == B, z3.Or(FLAG, A == 1)),
    "distinct": z3.Distinct(A, B, A + B),
    "Booleans": z3.Xor(z3.Implies(FLAG, A == 1), z3.Or(FLAG, B == 2)),
    "conjunctions of nothing": z3.And(z3.And(), z3.Not(z3.Or())),
}


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_the_gates_of_each_operation_are_proved(term: z3.ExprRef) -> None:
    blaster = blast.Blaster()
    blaster.bits(term)
    proved = Operations()
    for operation in blaster.operations:
        proved.check(operation)
    assert proved.proved


@pytest.mark.parametrize("kind", [z3.Z3_OP_BADD, z3.Z3_OP_ULEQ, z3.Z3_OP_BLSHR, z3.Z3_OP_ITE])
def test_gates_that_compute_something_else_are_noticed(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    term = {
        z3.Z3_OP_BADD: A + B,
        z3.Z3_OP_ULEQ: z3.ULE(A, B),
        z3.Z3_OP_BLSHR: z3.LShR(A, B),
        z3.Z3_OP_ITE: z3.If(FLAG, A, B),
    }[kind]
    right = blast._OPERATIONS[kind]

    def wrong_where_all_bits_are_set(circuit: Circuit, *operands: blast.Bits) -> blast.Bits:
        first, *rest = right(circuit, *operands)
        return circuit.differ(
            first, circuit.all_of(bit for bits in operands for bit in bits)
        ), *rest

    prove(term)
    monkeypatch.setitem(blast._OPERATIONS, kind, wrong_where_all_bits_are_set)
    with pytest.raises(WrongGates):
        prove(term)


def test_two_symbols_of_one_name_are_not_taken_for_one() -> None:
    """Else x = 0 for one and x = 1 for the other would be a contradiction, which it is not."""
    with pytest.raises(blast.NoRule, match="different sorts are called flag"):
        Formula([FLAG, z3.BitVec("flag", 1) == 0])


def test_an_operation_without_a_rule_is_refused() -> None:
    with pytest.raises(blast.NoRule, match="bvudiv"):
        Formula([z3.UDiv(A, B) == 1])


@pytest.mark.parametrize("kind", Gate)
def test_the_clauses_of_a_gate_leave_its_output_one_value_for_each_input(kind: Gate) -> None:
    inputs = (2, 3, 4) if kind is Gate.ITE else (2, 3)
    for values in product((False, True), repeat=len(inputs)):
        value = dict(zip(inputs, values, strict=True))
        left = [
            output
            for output in (False, True)
            if all(
                any((value | {5: output})[abs(x)] == (x > 0) for x in clause)
                for clause in clauses(kind, 5, inputs)
            )
        ]
        assert left == [_output(kind, list(values))]


def test_constants_and_repeated_operands_need_no_gate_and_change_no_value() -> None:
    circuit = Circuit()
    a, b = circuit.input(), circuit.input()
    known = (TRUE, FALSE, a, -a, b, -b)
    for first, second, third in product(known, repeat=3):
        made: list[tuple[int, Callable[[bool, bool, bool], bool]]] = [
            (circuit.both(first, second), lambda x, y, z: x and y),
            (circuit.either(first, second), lambda x, y, z: x or y),
            (circuit.differ(first, second), lambda x, y, z: x != y),
            (circuit.choose(first, second, third), lambda x, y, z: y if x else z),
        ]
        for literal, computed in made:
            for values in product((False, True), repeat=2):
                value = {TRUE: True, a: values[0], b: values[1]}
                for gate, (kind, operands) in circuit.gates.items():
                    value[gate] = _output(kind, [_of(value, x) for x in operands])
                expected = computed(*(_of(value, x) for x in (first, second, third)))
                assert _of(value, literal) == expected


def _of(value: dict[int, bool], literal: int) -> bool:
    return value[abs(literal)] == (literal > 0)


def _output(kind: Gate, operands: list[bool]) -> bool:
    if kind is Gate.ITE:
        return operands[1] if operands[0] else operands[2]
    return all(operands) if kind is Gate.AND else operands[0] != operands[1]


CONDITIONS = (z3.ULT(X, Y + 3), z3.Or(FLAG, byte(7) + 1 == z3.Extract(7, 0, X)), Y != 5)


def _compared(text: str, conditions: tuple[z3.BoolRef, ...] = CONDITIONS) -> None:
    compare(text, conditions, without_arrays(CONDITIONS).reads, drawn(20))


def test_clauses_agree_with_the_conditions_they_were_made_of() -> None:
    _compared(Formula(without_arrays(CONDITIONS).conditions).text)


@pytest.mark.parametrize(
    "others",
    [
        (z3.ULE(X, Y + 3), *CONDITIONS[1:]),
        (CONDITIONS[0], z3.Or(FLAG, byte(7) == z3.Extract(7, 0, X)), CONDITIONS[2]),
        CONDITIONS[:2],
        (CONDITIONS[1], CONDITIONS[0], CONDITIONS[2]),
        (z3.ULT(Y, X + 3), *CONDITIONS[1:]),
    ],
    ids=["nearly the same", "another byte", "one more", "another order", "other symbols"],
)
def test_clauses_of_other_conditions_are_noticed(others: tuple[z3.BoolRef, ...]) -> None:
    text = Formula(without_arrays(others).conditions).text
    with pytest.raises(NotTheConditions):
        compare(text, CONDITIONS, without_arrays(CONDITIONS).reads, drawn(200))


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines[:-1], f"-{lines[-1]}".replace("--", "")],
        lambda lines: [*lines, "1 0"],
        lambda lines: [*lines[:20], *lines[21:]],
        lambda lines: [*lines[:20], f"-{lines[20]}".replace("--", ""), *lines[21:]],
        lambda lines: [*lines[:20], "-1 0", *lines[20:]],
        lambda lines: [*lines[:20], "2 3 0", *lines[20:]],
    ],
    ids=["a demand lost", "a demand negated", "a clause more", "a definition lost",
         "a definition changed", "a contradiction", "a demand among the definitions"],
)  # fmt: skip
def test_damaged_clauses_are_noticed(damage: Callable[[list[str]], list[str]]) -> None:
    lines = Formula(without_arrays(CONDITIONS).conditions).text.splitlines()
    with pytest.raises(NotTheConditions):
        _compared("\n".join(damage(lines)))


def test_the_model_of_conditions_that_can_be_met_meets_their_clauses() -> None:
    solver = z3.Solver()
    solver.add(*without_arrays(CONDITIONS).conditions)
    assert solver.check() == z3.sat
    made = Formula(without_arrays(CONDITIONS).conditions)
    symbols = {"x": X, "y": Y, "flag": FLAG, "byte_read_1": z3.BitVec("byte_read_1", 8)}
    values = {
        name: int(str(solver.model().eval(s, True)).replace("True", "1").replace("False", "0"))
        for name, s in symbols.items()
    }
    formula.check(made.text, [(values, [True] * 3)])
    with pytest.raises(NotTheConditions):
        formula.check(made.text, [(values, [True, True, False])])


NESTED = z3.Select(ENTRY_MEMORY, z3.ZeroExt(56, byte(8)) + z3.ZeroExt(56, byte(9)))


def test_reads_at_addresses_that_were_read_become_bytes_and_come_back() -> None:
    conditions = [NESTED == 3, byte(8) != byte(9)]
    reduced = without_arrays(conditions)
    assert len(reduced.reads) == 3
    check(conditions, reduced, reduced.demands)


@pytest.mark.parametrize(
    "damage",
    [
        lambda one: replace(one, conditions=one.conditions[:1]),
        lambda one: replace(one, conditions=(one.conditions[1], one.conditions[0])),
        lambda one: replace(one, conditions=(z3.Not(one.conditions[0]), one.conditions[1])),
        lambda one: replace(
            one,
            reads=(
                replace(one.reads[0], address=one.reads[1].address),
                replace(one.reads[1], address=one.reads[0].address),
                one.reads[2],
            ),
        ),
        lambda one: replace(
            one, reads=(replace(one.reads[0], address=z3.ZeroExt(32, X)), *one.reads[1:])
        ),
        lambda one: replace(
            one, reads=(replace(one.reads[0], array=OTHER_MEMORY), *one.reads[1:])
        ),
        lambda one: replace(one, reads=one.reads[:2]),
    ],
    ids=["one lost", "swapped", "negated", "addresses swapped", "another address", "another memory",
         "a read lost"],
)  # fmt: skip
def test_a_reduction_to_something_else_is_noticed(
    damage: Callable[[reads.Reduced], reads.Reduced],
) -> None:
    conditions = [NESTED == 3, byte(8) != byte(9)]
    reduced = damage(without_arrays(conditions))
    with pytest.raises(NotReduced):
        check(conditions, reduced)


def test_a_demand_that_not_every_memory_meets_is_noticed() -> None:
    conditions = [byte(8) != byte(9), NESTED == 3]
    reduced = without_arrays(conditions)
    first, second = reduced.reads[:2]
    for demand in (
        first.symbol == second.symbol,
        z3.Implies(first.address == first.address, first.symbol == second.symbol),
        z3.Implies(first.address != second.address, first.symbol == second.symbol),
    ):
        with pytest.raises(NotReduced):
            check(conditions, reduced, [demand])


def test_an_array_that_is_not_only_read_is_refused() -> None:
    stored = z3.Store(ENTRY_MEMORY, z3.BitVecVal(7, 64), z3.BitVecVal(1, 8))
    for condition in (stored == OTHER_MEMORY, z3.Select(stored, z3.ZeroExt(32, X)) == 1):
        with pytest.raises(NotReduced, match="not only read"):
            without_arrays([condition])


def test_only_a_constant_for_which_gates_are_proved_is_multiplied_by_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(bits: blast.Bits) -> list[int | None]:
        raise AssertionError("gates for this constant are not proved")

    monkeypatch.setattr(blast, "_digits", never)
    x, three = z3.BitVec("x", 8), z3.BitVecVal(3, 4)
    blast.Blaster().bits(x * z3.ZeroExt(4, three))
    with pytest.raises(AssertionError, match="not proved"):
        blast.Blaster().bits(x * z3.BitVecVal(3, 8))
