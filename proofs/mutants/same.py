# SPDX-License-Identifier: GPL-2.0-only
"""Is a mutant's run the same as the original's? What differs, in words.

A mutant whose run is the same in all that a run says is equivalent, as far as the machine models
the CPU: no claim can tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import z3

from harness.x86.memory import Memory
from harness.x86.run import Access, EndKind, PathEnd, Run
from harness.x86.solver import ask
from harness.x86.terms import simplify, variables

RLIMIT = 2_000_000
"""For one question whether two values are equal: if z3 does not find it soon, they count as
different."""
QUADWORD = 8
"""Bytes: no more are stored at once but by a string instruction that copies."""
COPIED = "bytes that are copied"
"""By one string instruction, of the image: those of the copy that are executed or read show in what
comes of it. (A loop that stores fills a table, of which each bit counts.)"""
LEFT_OPEN = {
    COPIED,
    *"rax rbx rcx rdx rdi rbp r8 r9 r10 r11 r12 r13 r14 r15".split(),
}
"""What may differ. A kernel must not rely on what it finds in these registers: of the general ones
the entry protocols name RSI and RSP only (`models.linux_entry`)."""
NUMBERED = re.compile(r"(.*)_(\d+)")
"""A symbol for what the manual leaves open: `Environment.unknown`."""
NOT_COMPARED = {"instruction", "conditions", "records"}
"""Of an access: where the instruction lies, which moves."""


def differences(original: Run, mutant: Run) -> tuple[str, ...]:
    """What differs; nothing if the runs are the same. `lost` paths always count."""
    if original.lost or mutant.lost:
        return (f"paths are missing: {original.lost or mutant.lost}",)
    if len(original.ends) != len(mutant.ends):
        return (f"{len(mutant.ends)} paths, not {len(original.ends)}",)
    renamed = _renaming(original, mutant)
    found: dict[str, None] = {}
    for one, other in zip(original.ends, mutant.ends, strict=True):
        found |= dict.fromkeys(_of_path(original, one, renamed(other)))
    return tuple(found)


def _renaming(original: Run, mutant: Run) -> Callable[[Any], Any]:
    """Puts the original's names for what the manual leaves open in the place of the mutant's.

    Such values are anything at all, so it does not matter which name one of them has; the names are
    numbered as they come, and one more or less of them shifts the numbers of all others.
    """
    ours, theirs = _left_open(original), _left_open(mutant)
    pairs = []
    for why, symbols in theirs.items():
        if len(symbols) == len(known := ours.get(why, [])):
            pairs += [(a, b) for a, b in zip(symbols, known, strict=True) if not a.eq(b)]
    return partial(_substituted, pairs) if pairs else lambda value: value


def _left_open(run: Run) -> dict[str, list[z3.BitVecRef]]:
    """The run's symbols for such values by why they are open, in the order in which they came."""
    found: dict[str, z3.BitVecRef] = {}
    for end in run.ends:
        # Of a word that others write it matters which read of it has found what: all reads count.
        shared = tuple(access.seen for access in end.accesses)
        for term in _terms((end.path, tuple(_writing(end)), _seen_by_kernel(end), shared)):
            found |= variables(term)
    numbered: dict[str, list[tuple[int, z3.BitVecRef]]] = {}
    for name, symbol in found.items():
        if match := NUMBERED.fullmatch(name):
            numbered.setdefault(match[1], []).append((int(match[2]), symbol))
    return {
        why: [symbol for _, symbol in sorted(ones, key=_number)] for why, ones in numbered.items()
    }


def _number(numbered: tuple[int, z3.BitVecRef]) -> int:
    return numbered[0]


def _terms(value: Any) -> Iterator[z3.ExprRef]:
    """All terms in nested tuples, dictionaries and records."""
    if isinstance(value, z3.ExprRef):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _terms(one)
    elif isinstance(value, dict):
        yield from _terms(tuple(value.values()))
    elif is_dataclass(value):
        yield from _terms(tuple(getattr(value, field.name) for field in fields(value)))


def _substituted(pairs: list[tuple[z3.ExprRef, z3.ExprRef]], end: PathEnd) -> PathEnd:
    """The path with other names."""
    names = {symbol.decl().name() for symbol, _ in pairs}

    def put(value: Any) -> Any:
        if isinstance(value, z3.ExprRef):
            if names.isdisjoint(variables(value)):
                return value
            return simplify(z3.substitute(value, *pairs))
        if isinstance(value, tuple):
            return tuple(map(put, value))
        if isinstance(value, dict):
            return {name: put(one) for name, one in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{f.name: put(getattr(value, f.name)) for f in fields(value)})
        return value

    state = replace(end.state, lazy_rflags=end.state.rflags)
    writes = put(tuple(_writing(end)))
    return replace(end, path=put(end.path), accesses=writes, state=put(state))


def explained(differs: tuple[str, ...]) -> bool:
    """Nothing differs, or only what a kernel must not rely on."""
    return all(name in LEFT_OPEN for name in differs)


def _of_path(run: Run, one: PathEnd, other: PathEnd) -> Iterator[str]:
    known = (*run.hypotheses, *one.path)
    if (one.kind, one.detail, one.mode, one.entry) != (
        other.kind, other.detail, other.mode, other.entry
    ):  # fmt: skip
        yield f"a path ends with: {other.detail or other.kind.value}"
        return
    if _key(one.path) != _key(other.path) and not _equal((), one.condition, other.condition):
        yield "which inputs take a path"
        return
    yield from _writes(one, other, known)
    if _key(one.host_tables) != _key(other.host_tables):
        yield "the host's page tables in force"
    yield from _state(one, other, known)


def _writes(one: PathEnd, other: PathEnd, known: tuple[z3.BoolRef, ...]) -> Iterator[str]:
    """What is read shows in what is written, in the CPU's state and in the path."""
    ours, theirs = _writing(one), _writing(other)
    if len(ours) != len(theirs):
        yield f"{len(theirs)} writes, not {len(ours)}"
        return
    for first, second in zip(ours, theirs, strict=True):
        if _key(first) == _key(second):
            continue
        plain = (first.kind, first.size, first.mode, first.stack, first.count, first.stride) == (
            second.kind, second.size, second.mode, second.stack, second.count, second.stride
        )  # fmt: skip
        waits = first.seen is not None or first.expected is not None
        if not plain or waits or not _equal(known, first.linear, second.linear):
            yield f"a write: {second.kind} of {second.size} bytes"
        elif not _equal(known, first.value, second.value):
            where = "on the stack" if second.stack else "elsewhere"
            copied = second.count == 1 and second.size > QUADWORD
            yield COPIED if copied else f"a value written {where}"


def _writing(end: PathEnd) -> list[Access]:
    return [access for access in end.accesses if access.writes]


def _state(one: PathEnd, other: PathEnd, known: tuple[z3.BoolRef, ...]) -> Iterator[str]:
    """Of the CPU that a kernel finds, and that only."""
    first, second = _seen_by_kernel(one), _seen_by_kernel(other)
    for name, value in first.items():
        if _key(value) != _key(second[name]) and not _equal(known, value, second[name]):
            yield name


def _seen_by_kernel(end: PathEnd) -> dict[str, z3.ExprRef]:
    """The registers at a hand-off, by name; of segment registers each field."""
    if end.kind is not EndKind.HAND_OFF:
        return {}
    state = end.state
    tables = ("gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit")
    fields_of = {
        f"{name}.{field}": value
        for name, segment in state.segments.items()
        for field, value in vars(segment).items()
    }
    return {
        **state.registers, "rip": state.rip, "rflags": state.rflags, **fields_of,
        **vars(state.control), **{name: getattr(state, name) for name in tables},
    }  # fmt: skip


def _equal(known: tuple[z3.BoolRef, ...], left: Any, right: Any) -> bool:
    if not isinstance(left, z3.ExprRef) or left.sort() != right.sort():
        return False
    return bool(ask((*known, left != right), RLIMIT).status == z3.unsat)


def _key(value: Any) -> Any:
    """Equal for equal things; terms are compared by syntax."""
    if isinstance(value, z3.ExprRef):
        return value.get_id()
    if isinstance(value, Memory):
        return _key(value.records)  # of the image only what is read counts, which shows elsewhere
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(
            _key(getattr(value, field.name))
            for field in fields(value)
            if field.name not in NOT_COMPARED
        )
    if isinstance(value, tuple):
        return tuple(map(_key, value))
    return value
