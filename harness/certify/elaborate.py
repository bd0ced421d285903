# SPDX-License-Identifier: GPL-2.0-only
"""From a solver's proof to one in which each step names its reasons, and that holds no other steps.

A DRAT proof lists clauses, each of which follows by unit propagation from what stands before it
(RUP). Here is found out from which: forwards until the clauses contradict each other, then
backwards from there, as Heule, Hunt and Wetzler do ("Trimming while checking clausal proofs", FMCAD
2013). Literals that follow at once, without an assumption, become steps of their own.

Nothing of this is trusted: what comes out is checked. Deletions are left out, since more clauses
only make more follow; a step that is RAT and not RUP is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from harness.certify.circuit import Clause


class NotAProof(Exception):
    """A step does not follow, or nothing contradictory is reached."""


class _Found(NamedTuple):
    """A clause with hints that are not yet numbered; 0, or which step of the proof it is."""

    clause: Clause
    hints: tuple[int, ...]
    step: int = 0


@dataclass(frozen=True)
class Step:
    """A clause and the numbers of the clauses from which it follows, in the order in which they
    become unit; given clauses are numbered from 1, steps after them."""

    number: int
    clause: Clause
    hints: tuple[int, ...]


def elaborate(given: Sequence[Clause], proof: Sequence[Clause]) -> list[Step]:
    """The steps that lead from the given clauses to the empty one. Raises NotAProof."""
    return _Elaboration(given, proof).steps()


class _Elaboration:
    """Clauses with two watched literals each: the first two of its list."""

    def __init__(self, given: Sequence[Clause], proof: Sequence[Clause]) -> None:
        self.given = len(given)
        self.clauses: list[list[int]] = [[], *map(list, given), *map(list, proof)]
        top = max((abs(literal) for clause in self.clauses for literal in clause), default=0)
        # By literal: a negative index counts from the end.
        self.value = [0] * (2 * top + 1)  # 1: true, -1: false
        self.watches: list[list[int]] = [[] for _ in range(2 * top + 1)]
        self.reason = [0] * (top + 1)  # by variable: the clause that its literal follows from
        self.place = [0] * (top + 1)  # by variable: where it stands in the trail
        self.trail: list[int] = []
        self.head = 0
        self.active = 0  # clauses up to this one take part
        self.before: dict[int, int] = {}  # length of the trail when a step came in
        self.needed: set[int] = set()  # clauses that are hints
        self.wanted: set[int] = set()  # variables whose literals are hints
        self.alone: dict[int, int] = {}  # of such a variable the clause that is just its literal

    def steps(self) -> list[Step]:
        conflict, last = self._forwards()
        # Backwards, so that what is needed is known when its turn comes.
        found = [_Found((), self._hints(conflict, len(self.trail)))]
        for step in range(last, self.given, -1):
            found += self._units(self.before[step])
            if step in self.needed:
                found.append(_Found(tuple(self.clauses[step]), self._check(step), step))
        found += self._units(0)
        return self._numbered(reversed(found))

    # --- forwards

    def _forwards(self) -> tuple[int, int]:
        """Add clauses until they contradict each other: which is false, and the last one added."""
        for number in range(1, len(self.clauses)):
            if number > self.given:
                self.before[number] = len(self.trail)
            self.active = number
            conflict = self._add(number)
            if not conflict and number >= self.given:
                conflict = self._propagate()
            if conflict:
                return conflict, number
        raise NotAProof("the proof does not end with a contradiction")

    def _add(self, number: int) -> int:
        """Watch a clause; its number if all of it is false."""
        clause, value = self.clauses[number], self.value
        clause.sort(key=lambda literal: -value[literal])  # true, open, false
        if len(clause) > 1:
            self.watches[clause[0]].append(number)
            self.watches[clause[1]].append(number)
        if not clause or value[clause[0]] < 0:
            return number
        if value[clause[0]] == 0 and (len(clause) == 1 or value[clause[1]] < 0):
            self._assign(clause[0], number)
        return 0

    def _assign(self, literal: int, reason: int) -> None:
        self.value[literal], self.value[-literal] = 1, -1
        self.reason[abs(literal)] = reason
        self.place[abs(literal)] = len(self.trail)
        self.trail.append(literal)

    def _propagate(self) -> int:
        """Assign what follows; the number of a clause that is false then, or 0."""
        value, clauses, watches, trail = self.value, self.clauses, self.watches, self.trail
        while self.head < len(trail):
            false = -trail[self.head]
            self.head += 1
            watching = watches[false]
            watches[false] = kept = list[int]()
            for at, number in enumerate(watching):
                if number > self.active:
                    continue  # takes no part any more
                clause = clauses[number]
                first = clause[0]
                if first == false:
                    clause[0], clause[1] = clause[1], false
                    first = clause[0]
                if value[first] <= 0:
                    for other in range(2, len(clause)):
                        literal = clause[other]
                        if value[literal] >= 0:  # can be watched instead
                            clause[1], clause[other] = literal, false
                            watches[literal].append(number)
                            break
                    else:
                        if value[first] < 0:
                            kept += watching[at:]
                            return number
                        self._assign(first, number)
                        kept.append(number)
                    continue
                kept.append(number)
        return 0

    # --- backwards

    def _cut(self, length: int) -> None:
        """Take back what was assigned since the trail had this length."""
        for literal in self.trail[length:]:
            self.value[literal] = self.value[-literal] = 0
        del self.trail[length:]
        self.head = length

    def _units(self, length: int) -> list[_Found]:
        """The literals that followed since the trail had this length, the last one first, as far as
        they are wanted."""
        found = []
        for literal in reversed(self.trail[length:]):
            variable = abs(literal)
            if variable in self.wanted:
                reason = self.reason[variable]
                self.needed.add(reason)
                others = [abs(other) for other in self.clauses[reason] if other != literal]
                self.wanted.update(others)
                if others:
                    hints = (*(-other for other in others), reason)
                    found.append(_Found((literal,), hints))
                else:
                    self.alone[variable] = reason
        self._cut(length)
        return found

    def _check(self, step: int) -> tuple[int, ...]:
        """The hints by which a step follows from what stands before it. Raises NotAProof."""
        self.active, length = step - 1, len(self.trail)
        for literal in self.clauses[step]:
            if self.value[literal] > 0:  # it follows without the other literals
                if self.place[abs(literal)] >= length:
                    raise NotAProof(f"step {step - self.given} holds a literal and its opposite")
                self._cut(length)
                self.wanted.add(abs(literal))
                return (-abs(literal),)
            if self.value[literal] == 0:
                self._assign(-literal, 0)
        conflict = self._propagate()
        if not conflict:
            raise NotAProof(f"step {step - self.given} does not follow by unit propagation")
        hints = self._hints(conflict, length, {abs(literal) for literal in self.clauses[step]})
        self._cut(length)
        return hints

    def _hints(self, conflict: int, length: int, assumed: Set[int] = frozenset()) -> Clause:
        """Why a clause is false: numbers of clauses, and below zero variables whose literals had
        followed before the trail had this length. `assumed`: variables that need no reason."""
        self.needed.add(conflict)
        clauses, seen = [conflict], {abs(literal) for literal in self.clauses[conflict]}
        for literal in reversed(self.trail[length:]):
            reason = self.reason[abs(literal)]
            if reason and abs(literal) in seen:
                self.needed.add(reason)
                clauses.append(reason)
                seen.update(abs(other) for other in self.clauses[reason])
        before = sorted(at for at in seen - assumed if self.place[at] < length)
        self.wanted.update(before)
        return (*(-variable for variable in before), *reversed(clauses))

    def _numbered(self, found: Iterable[_Found]) -> list[Step]:
        """The steps in their order, their hints by their new numbers."""
        numbers = {number: number for number in range(1, self.given + 1)}
        units: dict[int, int] = {}
        steps = []
        for number, one in enumerate(found, start=self.given + 1):
            hints = (
                numbers[hint] if hint > 0 else units.get(-hint) or numbers[self.alone[-hint]]
                for hint in one.hints
            )
            steps.append(Step(number, one.clause, tuple(hints)))
            if one.step:
                numbers[one.step] = number
            elif one.clause:
                units[abs(one.clause[0])] = number
        return steps
