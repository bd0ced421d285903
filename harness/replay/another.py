# SPDX-License-Identifier: GPL-2.0-only
"""Another input that refutes a claim, where QEMU cannot show the smallest one.

The obligations are asked once more, together with what describes QEMU's platform. What is found
counts no more than any witness: it is evaluated, replayed, and must show what is violated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import z3

from harness.qemu.machine import Machine
from harness.record import Evidence
from harness.replay.cpu import end_not_raised
from harness.replay.evidence import Machines, Shown, show
from harness.replay.platform import as_on_qemu, conditions
from harness.replay.predict import Input, Predictor, end_left_open
from harness.replay.writes import Values
from harness.solve.obligation import Obligation, Witness
from harness.solve.witness import nearest_witness
from harness.x86.inputs import Inputs
from harness.x86.run import EndKind
from harness.x86.solver import Answer, ask
from harness.x86.terms import ENTRY_MEMORY, OTHER_MEMORY, subterms, variables

RLIMIT = 10_000_000  # z3 resource units for one question
TRIES = 6  # ends of either sort
ROUNDS = 64  # models of one question, each with more of what memory holds
CERTAIN = (EndKind.HAND_OFF, EndKind.PARKED, EndKind.SHUTDOWN, EndKind.SPINNING, EndKind.WAITING)
"""Ends after which QEMU shows just one thing. They are tried first."""
ANOTHER = "by another input"
Conditions = Sequence[z3.BoolRef]


def other_witnesses(
    predictor: Predictor,
    machine: Machine,
    obligations: Sequence[Obligation],
    defaults: Mapping[str, int],
    preferred: Conditions,
) -> Iterator[tuple[Obligation, Witness]]:
    """Witnesses on QEMU's platform, at most one for each of some ends that QEMU can show.

    `machine` need not run. `defaults` and `preferred` are as for the smallest witness, but that
    `preferred` holds here. Memory outside of image and page tables is 0.
    """
    terms = [term for o in obligations for term in (*o.hypotheses, *o.goals.values())]
    symbols = {name: symbol for term in terms for name, symbol in variables(term).items()}
    platform = (*preferred, *conditions(predictor, machine, symbols))
    ends = [end for end in predictor.run.ends if not end_left_open(end) and not end_not_raised(end)]
    for certain in (True, False):
        left = [end for end in ends if (end.kind in CERTAIN) is certain]
        for _ in range(min(len(left), TRIES)):
            way = z3.Or(*(end.condition for end in left))
            narrowed = [replace(o, hypotheses=(*o.hypotheses, way)) for o in obligations]
            query = _Query(predictor, platform)
            found = nearest_witness(narrowed, defaults, (), predictor, query.check)
            if found is None:
                break
            yield found
            taken = predictor.predict_witness(found[1]).end
            left = [end for end in left if end is not taken]


class Another(NamedTuple):
    """Another input, what it refutes, and what QEMU shows of it."""

    obligation: Obligation
    witness: Witness
    shown: Shown


def show_another(
    predictor: Predictor,
    machines: Machines,
    machine: Machine,
    obligations: Sequence[Obligation],
    defaults: Mapping[str, int],
    preferred: Conditions,
) -> Another | None:
    """The first of these witnesses of which QEMU shows anything, as predicted or not; None if there
    is none."""
    found = other_witnesses(predictor, machine, obligations, defaults, preferred)
    for obligation, witness in found:
        shown = show(predictor.contract, predictor, machines, obligation, witness)
        if shown.evidence is not Evidence.NOT_REPLAYABLE:
            reason = "; ".join(part for part in (ANOTHER, shown.replay.reason) if part)
            replay = shown.replay.model_copy(update={"reason": reason})
            return Another(obligation, witness, Shown(replay, shown.second))
    return None


class _Parts(NamedTuple):
    """What a condition reads of memory at entry, and its symbols. `condition` keeps them alive: a
    dead term's number is given away."""

    condition: z3.BoolRef
    reads: list[z3.ExprRef]
    symbols: dict[str, z3.ExprRef]


class _Query:
    """Asks z3 about inputs on QEMU's platform. What memory holds there is added where a model has
    looked and found something else."""

    def __init__(self, predictor: Predictor, platform: Conditions) -> None:
        self._predictor = predictor
        self._platform = platform
        self._facts: tuple[z3.BoolRef, ...] = ()
        self._inputs = Inputs()
        self._parts: dict[int, _Parts] = {}

    def check(self, conditions: Conditions) -> Answer:
        """Are the conditions satisfiable together on the platform? With a model if they are."""
        for _ in range(ROUNDS):
            asked = (*conditions, *self._platform)
            answer = ask((*asked, *self._facts), RLIMIT, known=self._inputs)
            new = () if answer.model is None else self._amiss(asked, answer.model)
            if not new:
                return answer
            self._facts += new
        return Answer(z3.unknown, None, 0, "memory is not as QEMU's, time and again")

    def _amiss(self, conditions: Conditions, model: z3.ModelRef) -> tuple[z3.BoolRef, ...]:
        """What memory holds on the platform where the model has it otherwise."""
        holds = self._predictor.memory_of(self._as_on_qemu(model, conditions))
        found = {}
        for read in (read for condition in conditions for read in self._parts_of(condition).reads):
            memory, address = read.arg(0), model.eval(read.arg(1), model_completion=True)
            byte = holds(address.as_long())
            if model.eval(read, model_completion=True).as_long() != byte:
                found[str(memory), address.as_long()] = memory[address] == byte
        return tuple(found.values())

    def _as_on_qemu(self, model: z3.ModelRef, conditions: Conditions) -> Input:
        symbols: dict[str, z3.ExprRef] = {}
        for condition in conditions:
            symbols |= self._parts_of(condition).symbols
        values = {n: model.eval(symbol, model_completion=True) for n, symbol in symbols.items()}
        plain = {n: int(z3.is_true(v)) if z3.is_bool(v) else v.as_long() for n, v in values.items()}
        given = as_on_qemu(self._predictor, plain, {})
        return replace(given, values=Values(given.values))

    def _parts_of(self, condition: z3.BoolRef) -> _Parts:
        key = condition.get_id()
        if key not in self._parts:
            reads = [term for term in subterms(condition) if _reads_entry_memory(term)]
            named = variables(condition).items()
            symbols = {name: symbol for name, symbol in named if not z3.is_array(symbol)}
            self._parts[key] = _Parts(condition, reads, symbols)
        return self._parts[key]


def _reads_entry_memory(term: z3.ExprRef) -> bool:
    return z3.is_select(term) and any(term.arg(0).eq(m) for m in (ENTRY_MEMORY, OTHER_MEMORY))
