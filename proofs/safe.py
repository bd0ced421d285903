# SPDX-License-Identifier: GPL-2.0-only
"""The safe set of a refuted claim: in which quantities it is described, and its record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import z3

from harness.record import OutsideRecord, SafeSetRecord
from harness.solve.obligation import Obligation
from harness.solve.region import Coordinate
from harness.solve.safe_set import safe_set
from harness.x86.run import Run
from harness.x86.terms import OTHER, VECTOR, variables
from harness.x86.translate import UPPER_HALF
from proofs.subject import SIZE, Subject

GIB_SHIFT = 30
MOST_LEAVES = 16  # of the search; a set with more parts would help nobody
WORDS = {
    "cpu_has_long_mode": "the CPU has long mode",
    "cpu_has_pae": "the CPU has PAE",
    "cpu_has_1gib_pages": "the CPU has 1 GiB pages",
    "cpu_has_nx": "the CPU has NX",
    "cpu_has_la57": "the CPU has LA57",
}


def describe(
    subject: Subject, obligations: Sequence[Obligation], defaults: Mapping[str, int]
) -> SafeSetRecord:
    """For which inputs all obligations hold, proved in both directions, for the report."""
    started = time.perf_counter()
    domain = _domain(subject, obligations)
    symbols = _symbols(obligations)
    # What only a goal depends on (an undefined RSP) is not what decides which path is taken.
    deciding = set().union(*(variables(h) for o in obligations for h in o.hypotheses))
    inputs = {name for name in symbols if _is_input(subject, name)}
    inputs = {name for name in inputs if UPPER_HALF not in name or name in deciding}
    found = safe_set(
        obligations,
        domain,
        _coordinates(subject, symbols, inputs & _symbols(obligations, but=subject.run).keys()),
        inputs,
        _landmarks(subject, symbols, inputs),
        defaults,
        MOST_LEAVES,
    )
    return SafeSetRecord(
        exact=found.exact,
        sentence=found.sentence(),
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
        seconds=time.perf_counter() - started,
    )


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
    mailbox = {"kernel_phys_addr", "boot_params_phys_addr", str(SIZE), VECTOR, "maxphyaddr"}
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
    return [z3.simplify(z3.Or(*spoken_of))]


def _conjuncts(condition: z3.BoolRef) -> list[z3.BoolRef]:
    if z3.is_and(condition):
        return [part for child in condition.children() for part in _conjuncts(child)]
    return [condition]


def _coordinates(
    subject: Subject, symbols: Mapping[str, z3.ExprRef], inputs: set[str]
) -> list[Coordinate]:
    """Plain inputs first, then what is made of them."""
    kernel, boot_params = subject.kernel, subject.boot_params
    boot_params_last = boot_params + subject.contract.boot_params.size - 1
    last = kernel + SIZE - 1
    found = [Coordinate(words, symbols[name]) for name, words in WORDS.items() if name in inputs]
    for name in sorted(inputs):
        if UPPER_HALF in name:
            register = name.partition("_")[0].upper()
            found.append(Coordinate(f"upper half of {register} in 64-bit mode", symbols[name]))
    if str(kernel) in inputs:
        found.append(Coordinate("kernel_phys_addr", kernel))
    if str(boot_params) in inputs:
        found.append(Coordinate("boot_params_phys_addr", boot_params))
    if "maxphyaddr" in inputs:
        found.append(Coordinate("MAXPHYADDR", symbols["maxphyaddr"], decimal=True))
    if VECTOR in inputs:
        found.append(Coordinate("base", subject.base))
    if str(SIZE) in inputs:
        found.append(Coordinate("the kernel's last byte", last))
        crossed = _gib(last) - _gib(kernel)
        found.append(Coordinate("GiB lines that the kernel crosses", crossed, decimal=True))
    if str(boot_params) in inputs and str(kernel) in inputs:
        same = (_gib(boot_params) == _gib(kernel), _gib(boot_params_last) == _gib(kernel))
        found.append(Coordinate("the last byte of boot_params", boot_params_last))
        found.append(Coordinate("boot_params starts in the GiB of the kernel", same[0]))
        found.append(Coordinate("boot_params ends in the GiB of the kernel", same[1]))
    return found


def _landmarks(
    subject: Subject, symbols: Mapping[str, z3.ExprRef], inputs: set[str]
) -> dict[str, list[z3.ExprRef]]:
    """Where in a range, in the address space or in a loop a failure is likely to be."""
    kernel, size = subject.kernel, z3.BitVecVal(subject.contract.boot_params.size - 1, 64)
    found: dict[str, list[z3.ExprRef]] = {
        "offset": [SIZE - 1, size],
        "linear_address": [
            (_gib(kernel) - 512) << 21, kernel, subject.boot_params, subject.base,
        ],
        "iteration": [_gib(kernel)],
    }  # fmt: skip
    return {
        name: [term for term in terms if variables(term).keys() <= inputs]
        for name, terms in found.items()
        if name in symbols
    }


def _gib(address: z3.BitVecRef) -> z3.BitVecRef:
    return z3.LShR(address, GIB_SHIFT)
