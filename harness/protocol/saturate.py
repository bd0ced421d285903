# SPDX-License-Identifier: GPL-2.0-only
"""The smallest invariant of a pair: all that clauses force, collected state by state.

The clauses (`encoding`) are followed from boot on until nothing new comes. That ends: all parts of
a state have few values but for the CPUs' ids, and ids are only compared. So they are renamed: those
that the shared part names are 0, 1, 2 ... in order of appearance, all other CPUs the next one.

Nothing here has to be trusted: the result is a candidate, and `invariant` has two solvers check it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import z3

from harness.protocol import compiled, encoding
from models import protocol, protocol_steps
from models.protocol import Pair, Step
from models.protocol_claims import CLAIMS, LIMITS

Values = tuple[Any, ...]
"""The flat values of what is shared, or of one CPU."""


@dataclass
class Reached:
    """Which CPUs (flat, with their renamed id) were met with which shared part."""

    cpus: dict[Values, set[Values]] = field(default_factory=lambda: defaultdict(set))
    bad: set[str] = field(default_factory=set)
    """Names of the claims that fail in one of them."""

    def __len__(self) -> int:
        return sum(map(len, self.cpus.values()))


class TooMany(Exception):
    """More states than allowed."""


class Saturation:
    """One run; `reached` is its result."""

    def __init__(self, pair: Pair, limit: int) -> None:
        self._limit = limit
        shared, cpu = encoding.variables(pair)
        _, other = encoding.variables(pair, "2")
        self._shared_terms = encoding.flat_one(shared)
        self._cpu_terms = encoding.flat_one(cpu)
        self._other_terms = encoding.flat_one(other)
        names = [str(term) for term in self._shared_terms]
        self._target = names.index("target")
        self._id_fields = [
            n for n, name in enumerate(names)
            if name in ("owner", "status", "named") or name.endswith("_value")
        ]  # fmt: skip
        cpu_names = [str(term) for term in self._cpu_terms]
        self._cpu_id = cpu_names.index("cpu_id")
        self._cpu_id_fields = [n for n, name in enumerate(cpu_names) if name.endswith("_value")]
        self._host_at = names.index("at")
        self._cpu_at = cpu_names.index("cpu_at")
        self._host = self._table(protocol_steps.host_steps(pair, shared, cpu))
        self._cpu = self._table(protocol_steps.cpu_steps(pair, shared, cpu))
        self._bad_one, self._bad_two = self._claims(pair, shared, cpu, other)
        self.reached = Reached()
        self._todo: list[tuple[Values, Values]] = []
        self._changes: dict[Values, set[tuple[Values, int]]] = defaultdict(set)
        self._boot(shared, cpu)

    def _table(self, steps: Iterator[Step]) -> dict[int | None, list[Callable[..., Any]]]:
        """Compiled steps by location; None: possible at each."""
        table: dict[int | None, list[Callable[..., Any]]] = defaultdict(list)
        for step in steps:
            after = [*encoding.flat_one(step.shared), *encoding.flat_one(step.cpu)]
            parameters = [*self._shared_terms, *self._cpu_terms, *step.free]
            run = compiled.function([step.when, *after], parameters)
            table[step.location].append(_choosing(run, len(step.free), self._target))
        return table

    def _claims(self, pair: Pair, shared: Any, cpu: Any, other: Any) -> Any:
        one, two = [], []
        for claim in (*CLAIMS, LIMITS):
            bad = claim.bad(pair, shared, cpu, other)
            names = {str(v) for v in encoding.free_variables(bad)}
            if any(name.startswith("cpu2_") for name in names):
                two.append((claim.name, compiled.function(
                    [bad], [*self._shared_terms, *self._cpu_terms, *self._other_terms]
                )))  # fmt: skip
            else:
                one.append(
                    (claim.name, compiled.function([bad], [*self._shared_terms, *self._cpu_terms]))
                )
        return one, two

    def _boot(self, shared: Any, cpu: Any) -> None:
        solver = z3.Solver()
        solver.add(protocol.initial(shared, cpu), cpu.id == 1)
        assert solver.check() == z3.sat
        model = solver.model()

        def value(term: z3.ExprRef) -> Any:
            found = model.eval(term, model_completion=True)
            return found.as_long() if z3.is_int_value(found) else z3.is_true(found)

        s = tuple(value(term) for term in self._shared_terms)
        c = tuple(value(term) for term in self._cpu_terms)
        for cpu_id in (0, 1):
            self._add(s, self._as(c, cpu_id))

    def run(self) -> Reached:
        """Until nothing new comes. Raises TooMany."""
        split = len(self._shared_terms)
        while self._todo:
            s, c = self._todo.pop()
            ids = self._named(s)
            for run in (*self._host[s[self._host_at]], *self._host[None]):
                for after in run(s, c, ids):
                    self._add(after[:split], after[split:])
            for run in (*self._cpu[c[self._cpu_at]], *self._cpu[None]):
                for after in run(s, c, ids):
                    self._add(after[:split], after[split:])
                    if after[:split] != s:
                        self._change(s, after[:split], c[self._cpu_id])
            for after, by in self._changes[s]:
                if by != c[self._cpu_id] or by == ids:
                    self._add(after, c)
        self._check_pairs()
        return self.reached

    def _change(self, s: Values, after: Values, by: int) -> None:
        """CPU `by` can turn `s` into `after`: all other CPUs live with it."""
        if (after, by) in self._changes[s]:
            return
        self._changes[s].add((after, by))
        ids = self._named(s)
        for c in list(self.reached.cpus[s]):
            if by != c[self._cpu_id] or by == ids:
                self._add(after, c)

    def _as(self, c: Values, cpu_id: int) -> Values:
        return (*c[: self._cpu_id], cpu_id, *c[self._cpu_id + 1 :])

    def _named(self, s: Values) -> int:
        """How many CPUs `s`, already renamed, names."""
        highest: int = max(s[self._target], *(-1 - s[n] for n in self._id_fields))
        return 1 + highest

    def _add(self, s: Values, c: Values) -> None:
        renamed: dict[int, int] = {}
        for cpu_id in (s[self._target], *(-1 - s[n] for n in self._id_fields if s[n] < 0)):
            renamed.setdefault(cpu_id, len(renamed))
        if any(old != new for old, new in renamed.items()):
            new_s = list(s)
            new_s[self._target] = renamed[s[self._target]]
            for n in self._id_fields:
                if s[n] < 0:
                    new_s[n] = -1 - renamed[-1 - s[n]]
            s = tuple(new_s)
        cpu_id = c[self._cpu_id]
        new_id = renamed.get(cpu_id, len(renamed))
        if new_id != cpu_id or self._cpu_id_fields:
            new_c = list(c)
            new_c[self._cpu_id] = new_id
            for n in self._cpu_id_fields:
                if c[n] < 0:
                    new_c[n] = -1 - renamed.get(-1 - c[n], len(renamed))
            c = tuple(new_c)
        cpus = self.reached.cpus[s]
        if c in cpus:
            return
        cpus.add(c)
        if len(cpus) % 64 == 0 and len(self.reached) > self._limit:
            raise TooMany(f"more than {self._limit} states")
        for name, bad in self._bad_one:
            if bad(*s, *c)[0]:
                self.reached.bad.add(name)
        self._todo.append((s, c))

    def _check_pairs(self) -> None:
        for s, cpus in self.reached.cpus.items():
            ids = self._named(s)
            for name, bad in self._bad_two:
                if name in self.reached.bad:
                    continue
                for c in cpus:
                    for d in cpus:
                        same = c[self._cpu_id] == d[self._cpu_id]
                        if same and c[self._cpu_id] == ids:
                            d = self._as(d, ids + 1)
                        if bad(*s, *c, *d)[0]:
                            self.reached.bad.add(name)
                            break


def _choosing(run: Callable[..., Any], free: int, target: int) -> Callable[..., Any]:
    """The compiled step on (shared, cpu, number of named CPUs), for each choice that it leaves."""

    def single(s: Values, c: Values, ids: int) -> Iterator[Values]:
        after = run(*s, *c)
        if after[0]:
            yield after[1:]

    def several(s: Values, c: Values, ids: int) -> Iterator[Values]:
        for chosen in range(ids + 2):
            for tracked in (False, True):
                after = run(*s, *c, chosen, tracked)
                if after[0]:
                    yield after[1:]

    return several if free else single
