# SPDX-License-Identifier: GPL-2.0-only
"""The safe set of a refuted claim: in which quantities it is described, and its record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import z3

from harness.record import OutsideRecord, RangeRecord, SafeSetRecord
from harness.solve.obligation import Obligation
from harness.solve.region import either
from harness.solve.safe_set import SafeSet, safe_set
from harness.x86.run import Run
from harness.x86.solver import ask
from harness.x86.terms import ENTRY, OTHER, VECTOR, simplify, variables
from harness.x86.translate import UPPER_HALF
from proofs.quantities import coordinates, landmarks
from proofs.subject import SIZE, Subject

ADDRESS_MAX = (1 << 64) - 1
NONE_HANDED_OVER = " None of these inputs is handed over."
RLIMIT = 20_000_000  # z3 resource units for the question behind that; where it is too hard, silence
MOST_LEAVES = 16  # of the search; a set with more parts would help nobody


def describe(
    subject: Subject, obligations: Sequence[Obligation], defaults: Mapping[str, int]
) -> SafeSetRecord:
    """For which inputs all obligations hold, proved in both directions, for the report."""
    started = time.perf_counter()
    domain = _domain(subject, obligations)
    symbols = _symbols(obligations)
    # What only a goal depends on (an undefined RSP) is not what decides which path is taken.
    paths = [end.path for end in subject.ends] + [o.hypotheses for o in obligations]
    deciding = set().union(*(variables(condition) for path in paths for condition in path))
    inputs = {name for name in symbols if _is_input(subject, name)}
    inputs = {name for name in inputs if UPPER_HALF not in name or name in deciding}
    found = safe_set(
        obligations,
        domain,
        coordinates(subject, symbols, inputs & _symbols(obligations, but=subject.run).keys()),
        inputs,
        landmarks(subject, symbols, inputs),
        defaults,
        MOST_LEAVES,
    )
    return SafeSetRecord(
        exact=found.exact,
        sentence=found.sentence(_among(subject, obligations))
        + (NONE_HANDED_OVER if _for_want_of_a_hand_off(subject, obligations, found) else ""),
        inside=tuple(box.words() for box in found.inside),
        outside=tuple(
            OutsideRecord(
                box=part.box.words(),
                example={
                    name: f"{value:#x}"
                    for name, value in part.example.items()
                    if value != defaults.get(name, 0)
                },
            )
            for part in found.outside
        ),
        unknown=tuple(box.words() for box in found.unknown),
        ranges=_ranges(found),
        seconds=time.perf_counter() - started,
    )


def _for_want_of_a_hand_off(
    subject: Subject, obligations: Sequence[Obligation], found: SafeSet
) -> bool:
    """It is proved that no input in the set is handed over."""
    if not found.inside:
        return False
    judged = subject
    if any(obligation.any_registers for obligation in obligations):
        judged = subject.from_any_registers
    handed_over = z3.Or(*(end.condition for end in judged.hand_offs))
    inside = either(found.inside)
    asked = ask((*judged.run.hypotheses, inside, handed_over), RLIMIT)
    return bool(asked.status == z3.unsat)


def _ranges(found: SafeSet) -> tuple[RangeRecord, ...]:
    """Of each address that some box restricts, what each box leaves of it."""
    parts = [("inside", box) for box in found.inside]
    parts += [("outside", part.box) for part in found.outside]
    parts += [("unknown", box) for box in found.unknown]
    bounds = [bound.coordinate for _, box in parts for bound in box.bounds]
    # A count is no address, nor is half a register, nor what is true or false.
    addresses = [one for one in dict.fromkeys(bounds) if not one.decimal and one.top == ADDRESS_MAX]
    records = []
    for quantity in addresses:
        for name, box in parts:
            low, high = box.limits().get(quantity.name, (0, quantity.top))
            alone = all(bound.coordinate == quantity for bound in box.bounds)
            record = RangeRecord(
                quantity=quantity.name, part=name, low=f"{low:#x}", high=f"{high:#x}", alone=alone
            )
            records.append(record)
    return tuple(records)


def _symbols(obligations: Sequence[Obligation], but: Run | None = None) -> dict[str, z3.ExprRef]:
    """All symbols, or those that occur elsewhere than in the assumptions of a run."""
    left_out = {h.get_id() for h in but.hypotheses} if but is not None else set()
    found: dict[str, z3.ExprRef] = {}
    for obligation in obligations:
        for term in (*obligation.hypotheses, *obligation.goals.values()):
            if term.get_id() not in left_out:
                found |= variables(term)
    return found


def _is_input(subject: Subject, name: str) -> bool:
    """What host, CPU and undefined state bring along; all else takes every value."""
    features = {str(term) for term in vars(subject.run.features).values() if z3.is_bool(term)}
    mailbox = {*subject.run.inputs.keys() - {"base"}, str(SIZE), VECTOR, ENTRY}
    undefined = UPPER_HALF in name and not name.endswith(OTHER)
    return name in features | mailbox or undefined


def _domain(subject: Subject, obligations: Sequence[Obligation]) -> list[z3.BoolRef]:
    """Inputs that some obligation speaks of: what its hypotheses say of the inputs alone."""
    spoken_of = [
        z3.And(
            *(
                part
                for hypothesis in obligation.hypotheses
                for part in _conjuncts(hypothesis)
                if all(_is_input(subject, name) for name in variables(part))
            )
        )
        for obligation in obligations
    ]
    domain = [simplify(z3.Or(*spoken_of))]
    symbols = _symbols(obligations).keys()
    if str(SIZE) in symbols:  # ranges of memory are spoken of: the host's promises about them
        domain += [z3.UGE(SIZE, 1), z3.ULE(SIZE, subject.kernel_size_max)]
        domain += [subject.exists(subject.kernel, SIZE)]
        if subject.boot_params is not None and str(subject.boot_params) in symbols:
            domain += [subject.exists(*subject.boot_params_range)]
    return domain


def _among(subject: Subject, obligations: Sequence[Obligation]) -> str:
    """In words, which inputs the obligations speak of, where that is not all of them."""
    given = [{part.get_id() for part in o.hypotheses} for o in obligations]
    for words, ends in (
        ("the inputs that are handed over", list(subject.hand_offs)),
        ("the inputs for which paging is turned on", [end for end in subject.ends if end.paged]),
    ):
        paths = [{part.get_id() for part in end.path} for end in ends]
        if all(any(path <= conditions for path in paths) for conditions in given):
            return words
    return ""


def _conjuncts(condition: z3.BoolRef) -> list[z3.BoolRef]:
    if z3.is_and(condition):
        return [part for child in condition.children() for part in _conjuncts(child)]
    return [condition]
