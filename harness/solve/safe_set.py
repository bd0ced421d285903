# SPDX-License-Identifier: GPL-2.0-only
"""The exact set of inputs for which a claim holds, as a few boxes, proved in both directions.

    safe = safe_set(obligations, domain, coordinates, inputs={"kernel_phys_addr", ...})
    print(safe.sentence())

How the boxes are found does not matter for what is said of them: at the end each is proved anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import z3

from harness.solve.cells import few_boxes
from harness.solve.obligation import Obligation
from harness.solve.recipes import Landmarks
from harness.solve.region import Box, Coordinate, either
from harness.solve.search import Search
from harness.solve.throughout import Point, Throughout, UndecidedError, literal

MOST_LEAVES = 32


class WrongBoxError(Exception):
    """A box is not what it was taken for: a defect of the search, of z3 or of the evaluation."""


@dataclass(frozen=True)
class OutsideBox:
    """A box in which no input is safe, and an input in it, by the names of the inputs."""

    box: Box
    example: dict[str, int]


@dataclass(frozen=True)
class SafeSet:
    """For which inputs of the domain a claim holds. The three parts cover the domain.

    `inside`: the claim holds for every input of the domain in these boxes. `outside`: it holds for
    none in these. `unknown`: neither is proved of the whole box. Boxes of one part may overlap;
    those inside and those outside have no input in common.
    """

    inside: tuple[Box, ...]
    outside: tuple[OutsideBox, ...]
    unknown: tuple[Box, ...]

    @property
    def exact(self) -> bool:
        """Every input of the domain is decided."""
        return not self.unknown

    def sentence(self, among: str = "") -> str:
        """The set in words. `among` says in words what the domain is, if that is not everything."""
        it = f"Of {among}, it" if among else "It"
        if self.exact and not self.outside:
            return f"{it} holds for every input."
        if self.exact and not self.inside:
            return f"{it} holds for no input."
        inside, outside = self.inside, [part.box for part in self.outside]
        if self.exact:
            return f"{it} holds exactly for: {_listed(inside)}.{_notes(inside)}"
        return (
            f"No small union of ranges was found. {it} holds at least for: {_listed(inside)}. "
            f"It does not hold for: {_listed(outside)}.{_notes([*inside, *outside])}"
        )


def safe_set(
    obligations: Sequence[Obligation],
    domain: Sequence[z3.BoolRef],
    coordinates: Sequence[Coordinate],
    inputs: set[str],
    landmarks: Landmarks | None = None,
    defaults: Mapping[str, int] | None = None,
    most_leaves: int = MOST_LEAVES,
) -> SafeSet:
    """For which inputs do all obligations hold, whatever the other symbols are?

    `domain`: conditions on inputs that all inputs satisfy (assumptions and promises).
    `coordinates`: what boxes are made of, the preferred ones first. `inputs`: names of symbols; all
    others, and memory at entry, take every value. `landmarks`: terms over the inputs that another
    symbol may have to equal for the claim to fail, by its name. `defaults`: values that examples
    keep where they can. ValueError if no input satisfies the domain.
    """
    terms = [term for many in (landmarks or {}).values() for term in many]
    terms += [coordinate.term for coordinate in coordinates]
    claim = Throughout(obligations, domain, inputs, terms)
    try:
        if claim.member(z3.BoolVal(True)) is None:
            raise ValueError("no input satisfies the domain")
        search = Search(claim, coordinates, landmarks or {}, most_leaves)
        scribe = Throughout(obligations, domain, inputs, terms)
        parts = few_boxes(scribe, coordinates, (search.safe, search.unsafe, search.unknown))
        if parts[2]:
            search.trim(parts[2])
            parts = few_boxes(scribe, coordinates, (search.safe, search.unsafe, search.unknown))
        witness = Throughout(obligations, domain, inputs, terms)  # knows nothing of the search
        for recipe in claim.recipes:
            witness.add(recipe)
        inside, outside, unknown = parts
        order = _order(claim, coordinates)
        return proved(witness, inside, outside, unknown, order, defaults or {})
    except UndecidedError:
        return SafeSet((), (), (Box(),))


def _listed(boxes: Sequence[Box]) -> str:
    return "; or ".join(box.words() for box in boxes) or "none that was found"


def _notes(boxes: Sequence[Box]) -> str:
    notes = dict.fromkeys(bound.coordinate.note for box in boxes for bound in box.bounds)
    return "".join(f" {note}." for note in notes if note)


# --- proofs


def proved(
    claim: Throughout,
    inside: Sequence[Box],
    outside: Sequence[Box],
    unknown: Sequence[Box],
    order: Sequence[str],
    defaults: Mapping[str, int],
) -> SafeSet:
    """The safe set with these parts, after proof of all that it says. WrongBoxError if it is wrong.

    A box for which z3 gives up is unknown. `order`: the inputs, as examples choose their values.
    """
    parts: tuple[list[Box], ...] = ([], [], list(unknown))
    for number, boxes, ask in ((0, inside, claim.failure), (1, outside, claim.escape)):
        for box in boxes:
            try:
                against = ask(box)
            except UndecidedError:
                parts[2].append(box)
                continue
            if against is not None:
                raise WrongBoxError(f"{box.words()}: {against} says otherwise")
            parts[number].append(box)
    a, b, c = (either(boxes) for boxes in parts)
    if (point := claim.member(z3.Not(z3.Or(a, b, c)))) is not None:
        raise WrongBoxError(f"no box covers {claim.named(point)}")
    if (point := claim.member(z3.And(a, b))) is not None:
        raise WrongBoxError(f"safe and unsafe: {claim.named(point)}")
    examples = tuple(OutsideBox(box, _example(claim, box, order, defaults)) for box in parts[1])
    return SafeSet(tuple(parts[0]), examples, tuple(parts[2]))


def _example(
    claim: Throughout, box: Box, order: Sequence[str], defaults: Mapping[str, int]
) -> dict[str, int]:
    """An input of the box: for one input after the other the default, or else the least value.

    Evaluation without the solver must agree that the claim fails for it.
    """
    region = box.condition()
    point = claim.member(region)
    if point is None:
        raise WrongBoxError(f"no input is in {box.words()}")
    for name in order:
        symbol, at = claim.inputs[name], list(claim.inputs).index(name)
        default = symbol == literal(symbol, defaults.get(name, 0))
        if (found := claim.member(z3.And(region, default))) is not None:
            point = found
        else:
            low = next((b.low for b in box.bounds if b.coordinate.term.eq(symbol)), 0)
            point = _least(claim, region, symbol, at, low, _lower(claim, region, at, low, point))
        region = z3.And(region, symbol == literal(symbol, point[at]))
    if not claim.in_domain(point) or not any(claim.fails(r, point) for r in claim.recipes):
        raise WrongBoxError(f"evaluation does not refute {claim.named(point)}")
    return claim.named(point)


def _least(
    claim: Throughout, region: z3.BoolRef, symbol: z3.ExprRef, at: int, low: int, point: Point
) -> Point:
    """A point of the region with the smallest value of an input, which is not less than `low`.

    `point` is one to begin with.
    """
    guess = low  # often right
    while low < point[at]:
        smaller = z3.ULE(symbol, guess) if z3.is_bv(symbol) else z3.Not(symbol)
        found = claim.member(z3.And(region, smaller))
        if found is None:
            low = guess + 1
            guess = (low + point[at]) // 2
        else:
            point = _lower(claim, region, at, low, found)
            guess = point[at] - 1  # most likely there is none
    return point


def _lower(claim: Throughout, region: z3.BoolRef, at: int, low: int, point: Point) -> Point:
    """A point of the region with a smaller value of an input, all others kept, if there is one."""
    while low < point[at]:
        middle = (low + point[at]) // 2
        other = (*point[:at], middle, *point[at + 1 :])
        if claim.in_domain(other) and claim.value(region, other):
            point = other
        else:
            low = middle + 1
    return point


def _order(claim: Throughout, coordinates: Sequence[Coordinate]) -> list[str]:
    """The inputs, those first that are coordinates themselves."""
    plain = [n for c in coordinates for n, symbol in claim.inputs.items() if symbol.eq(c.term)]
    return [*plain, *(name for name in claim.inputs if name not in plain)]
