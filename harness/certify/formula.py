# SPDX-License-Identifier: GPL-2.0-only
"""Conditions as clauses in DIMACS: can they all hold? And the check, on inputs, that they say so.

Comments in the text name the variables of each symbol, from the lowest bit, and the literal that
stands for each condition; whoever checks needs the text only. The last clauses demand these
literals. All others are definitions: whatever the symbols' bits are, the other variables can be
chosen so that these clauses hold, in one way. So if the clauses contradict each other, no input
meets the conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import z3

from harness.certify.blast import Blaster
from harness.certify.circuit import TRUE, Clause, clauses

SYMBOL, CONDITION = "c symbol", "c condition"


class NotTheConditions(Exception):
    """The clauses say something else than the conditions."""


class Formula:
    """The clauses as text. `operations`: the terms that were translated. Raises blast.NoRule."""

    def __init__(self, conditions: Sequence[z3.BoolRef]) -> None:
        blaster = Blaster()
        literals = [blaster.bits(condition)[0] for condition in conditions]
        circuit = blaster.circuit
        found: list[Clause] = [(TRUE,)]
        for gate in circuit.cone(literals):
            kind, operands = circuit.gates[gate]
            found += clauses(kind, gate, operands)
        found += ((literal,) for literal in literals)
        lines = [f"p cnf {circuit.size} {len(found)}"]
        lines += [
            f"{SYMBOL} {' '.join(map(str, bits))} = {name}" for name, bits in blaster.inputs.items()
        ]
        lines += [f"{CONDITION} {literal}" for literal in literals]
        lines += [f"{' '.join(map(str, clause))} 0" for clause in found]
        self.text = "\n".join(lines) + "\n"
        self.variables, self.clauses = circuit.size, len(found)
        self.operations = blaster.operations


Case = tuple[Mapping[str, int], Sequence[bool]]
"""A value for each symbol, and which conditions hold then."""


def check(text: str, cases: Sequence[Case]) -> None:
    """In each case the definitions give each condition its truth, and just its literal is demanded.
    Raises NotTheConditions."""
    symbols, literals, found = _read(text)
    split = len(found) - len(literals)
    if found[split:] != [(literal,) for literal in literals]:
        raise NotTheConditions("other literals are demanded than those of the conditions")
    for values, truth in cases:
        if len(truth) != len(literals):
            raise NotTheConditions(f"{len(truth)} conditions have {len(literals)} literals")
        value = _chosen(found[:split], symbols, values)
        for number, (literal, holds) in enumerate(zip(literals, truth, strict=True), start=1):
            if value.get(abs(literal)) is not (holds == (literal > 0)):
                raise NotTheConditions(f"condition {number} is {holds}, and its literal is not")


def _chosen(
    definitions: Sequence[Clause], symbols: Mapping[str, Clause], values: Mapping[str, int]
) -> dict[int, bool]:
    """The values of all variables that the definitions demand."""
    if unknown := symbols.keys() - values.keys():
        raise NotTheConditions(f"the conditions have no symbol {min(unknown)}")
    value = {
        bit: bool(values[name] >> place & 1)
        for name, bits in symbols.items()
        for place, bit in enumerate(bits)
    }
    for clause in definitions:  # in their order each has at most one literal that is open
        left = [literal for literal in clause if value.get(abs(literal)) is not (literal < 0)]
        if len(left) == 1:
            value[abs(left[0])] = left[0] > 0
    for clause in definitions:
        if not any(value.get(abs(literal)) is (literal > 0) for literal in clause):
            raise NotTheConditions(f"a definition does not hold: {clause}")
    return value


def _read(text: str) -> tuple[dict[str, Clause], list[int], list[Clause]]:
    """The symbols' variables, the conditions' literals, and the clauses."""
    symbols: dict[str, Clause] = {}
    literals: list[int] = []
    found: list[Clause] = []
    for line in text.splitlines()[1:]:
        if line.startswith(SYMBOL):
            bits, _, name = line.removeprefix(SYMBOL).partition(" = ")
            symbols[name] = tuple(map(int, bits.split()))
        elif line.startswith(CONDITION):
            literals.append(int(line.removeprefix(CONDITION)))
        else:
            found.append(tuple(map(int, line.split()[:-1])))
    return symbols, literals, found
