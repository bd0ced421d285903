# SPDX-License-Identifier: GPL-2.0-only
"""The models, each with the rows that its rules are measured by, and who notices a change of one.

A model is changed in one place at a time (changes.py), and its rows run against the changed model
until one fails.
"""

from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType

import z3

from models import (
    bits,
    cpuid,
    descriptors,
    hand_over,
    linux_entry,
    memory_order,
    mode_switches,
    modes,
    paging,
    protocol,
    protocol_claims,
    protocol_steps,
)
from tests.models import (
    test_cpuid_model,
    test_descriptor_model,
    test_hand_over_model,
    test_init_model,
    test_linux_entry_model,
    test_memory_order_model,
    test_mode_model,
    test_mode_switch_model,
    test_paging_model,
    test_protocol_claims_model,
    test_protocol_cpu_model,
    test_protocol_graphs_model,
    test_protocol_host_model,
    test_protocol_model,
)
from tests.models.changes import Variants, changed, of_python, of_terms
from tests.models.rows import Row, holds, number, word

PATIENCE = 5
"""Seconds for all rows of one changed model; they take a tenth of one."""

BIT_ROWS = (
    Row("bit", lambda m: [holds(m.bit(word(0b10, 4), n)) for n in (0, 1, 2)], [False, True, False]),
    Row("field", lambda m: number(m.field(word(0x1234, 16), 11, 4)), 0x23),
    Row(
        "any_of",
        lambda m: [holds(m.any_of(word(6, 4), mask)) for mask in (1, 3, 8, 12)],
        [False, True, False, True],
    ),
)


@dataclass(frozen=True)
class Model:
    """A module of models/ with its rows. `equivalent`: changes that leave the meaning as it is, and
    why."""

    module: ModuleType
    rows: Sequence[Row]
    variants: Variants = of_terms
    equivalent: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The module's."""
        return self.module.__name__


PAGING = {
    "_denies: z3.And(paging.no_execute, bit(value, EXECUTE_DISABLE))"
    " -> z3.And(bit(value, EXECUTE_DISABLE))": "with NXE = 0, XD = 1 is a reserved bit already",
}
ANY_NUMBER = "a number that only has to differ from the others"
PROTOCOL = dict.fromkeys(("BEFORE,: 2 -> 3", "OUTSIDE,: 3 -> 4", "WORDS: 4 -> 5"), ANY_NUMBER)

MODELS = (
    Model(bits, BIT_ROWS),
    Model(paging, test_paging_model.ROWS, equivalent=PAGING),
    Model(descriptors, test_descriptor_model.ROWS),
    Model(modes, (*test_mode_model.ROWS, *test_init_model.ROWS)),
    Model(cpuid, test_cpuid_model.ROWS),
    Model(linux_entry, test_linux_entry_model.ROWS),
    Model(mode_switches, test_mode_switch_model.ROWS),
    Model(hand_over, test_hand_over_model.ROWS),
    Model(memory_order, test_memory_order_model.ROWS, of_python),
    Model(protocol, test_protocol_model.ROWS, of_python, PROTOCOL),
    Model(
        protocol_steps,
        (*test_protocol_host_model.ROWS, *test_protocol_cpu_model.ROWS),
        of_python,
    ),
    Model(
        protocol_claims,
        (*test_protocol_claims_model.ROWS, *test_protocol_graphs_model.ROWS),
        of_python,
    ),
)


def wrong(model: Model) -> list[str]:
    """The rules of which the model as it is fails a row."""
    return [row.rule for row in model.rows if row.outcome(model.module) != row.expected]


def tried(model: Model) -> Iterator[tuple[str, bool]]:
    """Every change of the model in words, and whether a row fails with it."""
    rows = list(model.rows)
    for change, tree in changed(model.module, model.variants):
        with _patience():
            yield change, _fails_a_row(model.module, tree, rows)


@contextmanager
def _patience() -> Iterator[None]:
    """A changed model that never answers raises, and so fails its row."""

    def give_up(*arguments: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _fails_a_row(module: ModuleType, tree: ast.Module, rows: list[Row]) -> bool:
    """The changed model gives a wrong outcome for some row, or raises; that row moves to the front.

    Neighbouring changes often fail the same row, so this saves most of the time.
    """
    changed = ModuleType(f"changed_{module.__name__.rpartition('.')[2]}")
    # dataclass() looks its module up by name.
    sys.modules[changed.__name__] = changed
    try:
        exec(compile(tree, changed.__name__, "exec"), changed.__dict__)
        for row in rows:
            if not _passes(row, changed):
                rows.remove(row)
                rows.insert(0, row)
                return True
        return False
    except (AssertionError, AttributeError, NameError, TypeError, ValueError, z3.Z3Exception):
        return True  # the module itself does not load
    finally:
        del sys.modules[changed.__name__]


def _passes(row: Row, changed: ModuleType) -> bool:
    """The row's outcome is as expected; a model that raises is wrong as well."""
    try:
        return row.outcome(changed) == row.expected
    except Exception:
        return False
