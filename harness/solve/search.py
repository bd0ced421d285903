# SPDX-License-Identifier: GPL-2.0-only
"""Cut the inputs into boxes until z3 proves of each that it is safe, or that nothing in it is.

A tree guesses the boxes from samples. z3 proves a box, or answers with an input that contradicts
the guess: that becomes a sample, and so do the borders that bisection finds between it and samples
that say otherwise. What is returned as safe or unsafe is proved; guesses only decide how soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from harness.solve.recipes import Landmarks, recipes_for
from harness.solve.region import Box, Coordinate
from harness.solve.throughout import Failure, Point, Throughout, UndecidedError
from harness.solve.tree import Leaf, Sample, grow

ROUNDS = 60
MAX_RECIPES = 40
MAX_GIVEN_UP = 4  # boxes for which z3 may give up before all that is not decided stays so
NEIGHBOURS = 3  # samples of the other kind between which and a new one borders are looked for
TRIES = 8  # questions about one leaf in one round


class Search:
    """The boxes that are decided (`safe`, `unsafe`: no input in it is safe) and those left over.

    `most` limits the number of leaves of a tree.
    """

    def __init__(
        self,
        claim: Throughout,
        coordinates: Sequence[Coordinate],
        landmarks: Landmarks,
        most: int,
    ) -> None:
        self.safe: list[Box] = []
        self.unsafe: list[Box] = []
        self.unknown: list[Box] = []
        self._claim = claim
        self._coordinates = coordinates
        self._landmarks = {
            name: [
                *landmarks.get(name, ()),
                *(c.term for c in coordinates if c.term.sort() == sort),
            ]
            for name, sort in ((n, o[n].sort()) for o in claim.other for n in o)
        }
        self._most = most
        self._points: dict[Point, tuple[int, ...]] = {}  # with the coordinates' values
        self._proved: set[Point] = set()
        self._labels: dict[Point, tuple[int, bool]] = {}  # recipes that were tried, and the answer
        self._decided: dict[Box, bool] = {}
        self._given_up: set[Box] = set()
        self._run()

    def _run(self) -> None:
        leaves = [Leaf(Box(), True)]
        for number in range(ROUNDS):
            known = len(self._points), len(self._claim.recipes)
            first = number % 2 == 0  # guesses of both kinds get their turn
            for leaf in sorted(leaves, key=lambda leaf: leaf.safe is not first):
                self._settle(leaf)
                if (len(self._points), len(self._claim.recipes)) != known:
                    break  # the next tree may look different: prove nothing more of this one
            else:
                self._look_into([leaf for leaf in leaves if leaf.safe is None])
            if all(leaf.box in self._decided for leaf in leaves):
                break
            if (len(self._points), len(self._claim.recipes)) == known:
                break
            samples = [Sample(values, self._label(p)) for p, values in self._points.items()]
            leaves = grow(samples, self._coordinates, self._most)
        for leaf in leaves:
            decided = self._decided.get(leaf.box)
            kinds = {True: self.safe, False: self.unsafe, None: self.unknown}
            kinds[decided].append(leaf.box)

    def _settle(self, leaf: Leaf) -> None:
        """Prove what the leaf's samples say of it, or learn why it is wrong."""
        if leaf.safe is None or leaf.box in self._decided or leaf.box in self._given_up:
            return
        if self._proves(leaf.box, leaf.safe):
            self._decided[leaf.box] = leaf.safe

    def _look_into(self, leaves: Sequence[Leaf]) -> None:
        """Learn more of leaves that no threshold cuts: some samples may be taken for safe only."""
        for leaf in leaves:
            if self._proves(leaf.box, safe=False):
                self._decided[leaf.box] = False

    def trim(self, boxes: Sequence[Box]) -> None:
        """Take from undecided boxes all that can be proved at either end of each coordinate."""
        self.unknown = []
        for box in boxes:
            for coordinate, upper, safe in product(self._coordinates, (False, True), (True, False)):
                low, high = box.limits().get(coordinate.name, (0, coordinate.top))
                count = self._proved_at_end(box, coordinate, upper, safe)
                at = high - count + 1 if upper else low
                if count:
                    piece = box.replaced(coordinate, at, at + count - 1)
                    (self.safe if safe else self.unsafe).append(piece)
                if count > high - low:
                    break
                if count:
                    rest = (low, at - 1) if upper else (at + count, high)
                    box = box.replaced(coordinate, *rest)
            else:
                self.unknown.append(box)

    def _proved_at_end(self, box: Box, coordinate: Coordinate, upper: bool, safe: bool) -> int:
        """How many values of a coordinate, from one end of the box on, are all safe (or unsafe)."""
        low, high = box.limits().get(coordinate.name, (0, coordinate.top))

        def proves(count: int) -> bool:
            ends = (high - count + 1, high) if upper else (low, low + count - 1)
            return self._proves(box.replaced(coordinate, *ends), safe)

        if not proves(1):
            return 0
        known, limit = 1, high - low + 2  # known is proved, limit is not
        while limit - known > 1:
            middle = (known + limit) // 2
            if proves(middle):
                known = middle
            else:
                limit = middle
        return known

    def _proves(self, box: Box, safe: bool) -> bool:
        if len(self._given_up) >= MAX_GIVEN_UP:
            return False
        try:
            return self._holds(box) if safe else self._fails(box)
        except UndecidedError:
            self._given_up.add(box)
            return False

    def _holds(self, box: Box) -> bool:
        failure = self._claim.failure(box)
        if failure is not None:
            self._learn(failure)
        return failure is None

    def _fails(self, box: Box) -> bool:
        for _ in range(TRIES):
            point = self._claim.escape(box)
            if point is None:
                return True
            failure = self._claim.failure_at(point)
            if failure is None:
                self._proved.add(point)
                self._add(point)
                return False
            self._learn(failure)
        return False

    def _learn(self, failure: Failure) -> None:
        """A new sample, and recipes if none so far makes it fail."""
        if self._label(failure.point) and len(self._claim.recipes) < MAX_RECIPES:
            for recipe in recipes_for(self._claim, failure, self._landmarks):
                self._claim.add(recipe)
        self._add(failure.point)

    def _label(self, point: Point) -> bool:
        """False if a recipe makes the claim fail there. True is a guess, unless it is proved."""
        tried, safe = self._labels.get(point, (0, True))
        recipes = self._claim.recipes
        safe = safe and not any(self._claim.fails(recipe, point) for recipe in recipes[tried:])
        self._labels[point] = (len(recipes), safe)
        if not safe and point in self._proved:
            raise UndecidedError(f"z3 and evaluation disagree about {self._claim.named(point)}")
        return safe

    # --- samples

    def _add(self, point: Point) -> None:
        """A new sample, with borders between it and its nearest samples of the other kind."""
        self._keep(point)
        others = [p for p in self._points if self._label(p) is not self._label(point)]
        others.sort(key=lambda p: sum(a != b for a, b in zip(p, point, strict=True)))
        for other in others[:NEIGHBOURS]:
            self._walk(point, other)
            self._walk(other, point)

    def _keep(self, point: Point) -> None:
        if point not in self._points:
            values = (self._claim.value(c.term, point) for c in self._coordinates)
            self._points[point] = tuple(values)

    def _walk(self, start: Point, end: Point) -> None:
        """Change one input after the other; where the label turns, look for the border."""
        here = start
        moves = [i for i, (a, b) in enumerate(zip(start, end, strict=True)) if a != b]
        for at in (*moves, *moves):  # what leaves the domain now may not do so later
            there = _moved(here, at, end[at])
            if there != here and self._claim.in_domain(there):
                if self._label(here) is not self._label(there):
                    self._border(here, there, at)
                here = there

    def _border(self, start: Point, end: Point, at: int) -> None:
        """Two samples that differ by 1 in one input, and in their labels."""
        said = self._label(start)
        near, far = start[at], end[at]
        while abs(far - near) > 1:
            middle = (near + far) // 2
            point = _moved(start, at, middle)
            if self._claim.in_domain(point) and self._label(point) is said:
                near = middle
            else:
                far = middle
        for value in (near, far):
            point = _moved(start, at, value)
            if self._claim.in_domain(point):
                self._keep(point)


def _moved(point: Point, at: int, value: int) -> Point:
    return (*point[:at], value, *point[at + 1 :])
