# SPDX-License-Identifier: GPL-2.0-only
"""What the checkers must not accept, they do not: a proof in which one thing is changed or lost."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import z3

from harness.certify import lrat
from harness.certify.certify import written
from harness.certify.elaborate import NotAProof, elaborate
from harness.certify.lrat import Rejected
from harness.certify.sat import Cadical, GaveUp, Satisfiable
from harness.certify.verified import Acl2
from tests.certify.toys import FORMULA, PIGEONS, dimacs, pigeons, proof
from trampoline.errors import UserError

Lines = list[str]
DAMAGE: dict[str, Callable[[Lines], Lines]] = {
    "the last step is lost": lambda lines: lines[:-1],
    "a literal is lost": lambda lines: [*lines[:-2], _without_literal(lines[-2]), lines[-1]],
    "a literal is negated": lambda lines: [_negated(lines[0]), *lines[1:]],
    "a hint is lost": lambda lines: [_without_hint(lines[0]), *lines[1:]],
    "hints are reversed": lambda lines: [_reversed(lines[0]), *lines[1:]],
    "a step refers to a later one": lambda lines: [lines[1], lines[0], *lines[2:]],
    "the empty clause without reasons": lambda lines: [f"{len(PIGEONS) + 1} 0 0"],
    "a step that replaces a clause": lambda lines: [f"1 0 {lines[0].split(' 0 ')[1]}", *lines],
    "RAT hints": lambda lines: [lines[0].replace(" 0 ", " 0 -", 1), *lines[1:]],
    "half a line": lambda lines: [lines[0][:-2], *lines[1:]],
    "something behind the empty clause": lambda lines: [*lines, "1 ) (exit) ( 0 0"],
    "words": lambda lines: ["s UNSATISFIABLE"],
    "nothing": lambda lines: [],
}


def _parts(line: str) -> tuple[list[str], list[str]]:
    before, after, _ = f"{line} ".split(" 0 ")
    return before.split(), after.split()


def _line(before: list[str], after: list[str]) -> str:
    return f"{' '.join(before)} 0 {' '.join(after)} 0"


def _without_literal(line: str) -> str:
    before, after = _parts(line)
    return _line(before[:-1], after)


def _negated(line: str) -> str:
    before, after = _parts(line)
    return _line([*before[:-1], str(-int(before[-1]))], after)


def _without_hint(line: str) -> str:
    before, after = _parts(line)
    return _line(before, after[:-1])


def _reversed(line: str) -> str:
    before, after = _parts(line)
    return _line(before, after[::-1])


@pytest.fixture(scope="module")
def lines() -> Lines:
    return proof().splitlines()


def _text(lines: Lines) -> str:
    return "".join(f"{line}\n" for line in lines)


def test_a_proof_is_accepted(lines: Lines) -> None:
    assert lrat.check(FORMULA, _text(lines)) == len(lines) > 10


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_proof_is_rejected(lines: Lines, damage: Callable[[Lines], Lines]) -> None:
    with pytest.raises(Rejected):
        lrat.check(FORMULA, _text(damage(lines)))


def test_each_step_of_a_proof_is_needed(lines: Lines) -> None:
    for left_out in range(len(lines)):
        with pytest.raises(Rejected):
            lrat.check(FORMULA, _text(lines[:left_out] + lines[left_out + 1 :]))


def test_each_clause_that_a_proof_names_is_needed(lines: Lines) -> None:
    named = {int(hint) for line in lines for hint in _parts(line)[1]}
    for number in sorted(named & set(range(1, len(PIGEONS) + 1))):
        weaker = [*PIGEONS]
        weaker[number - 1] = (*weaker[number - 1], 30)  # a variable of which nothing is known
        with pytest.raises(Rejected):
            lrat.check(dimacs(weaker), _text(lines))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("p cnf 20 45", "p cnf 20 46"),
        lambda text: text.replace("p cnf 20 45", "p cnf 19 45"),
        lambda text: text.replace("1 2 3 4 0", "1 2 3 4"),
        lambda text: text.replace("1 2 3 4 0", "1 2 3 0 4 0"),
    ],
    ids=["a clause is lost", "a variable too many", "a clause without end", "two in a line"],
)
def test_a_text_that_is_not_dimacs_is_rejected(lines: Lines, damage: Callable[[str], str]) -> None:
    assert damage(FORMULA) != FORMULA
    with pytest.raises(Rejected):
        lrat.check(damage(FORMULA), _text(lines))


def test_no_reasons_are_found_for_a_step_that_does_not_follow() -> None:
    steps = Cadical().proof(FORMULA)
    assert elaborate(PIGEONS, steps)
    with pytest.raises(NotAProof, match="does not follow"):
        elaborate(PIGEONS, [(1,), (-1,)])
    with pytest.raises(NotAProof, match="does not end"):
        elaborate(PIGEONS, [])


def test_of_random_clauses_those_without_a_proof_are_just_those_that_can_be_met() -> None:
    draw, found = random.Random(1), Counter[str]()
    for _ in range(40):
        clauses = [
            tuple(draw.choice((-1, 1)) * v for v in draw.sample(range(1, 13), draw.randint(2, 3)))
            for _ in range(draw.randint(20, 50))
        ]
        text = dimacs(clauses)
        solver = z3.Solver()
        names = [z3.Bool(str(variable)) for variable in range(13)]
        for clause in clauses:
            solver.add(z3.Or(*(names[x] if x > 0 else z3.Not(names[-x]) for x in clause)))
        met = solver.check() == z3.sat
        found[str(met)] += 1
        try:
            steps = Cadical().proof(text)
        except Satisfiable:
            assert met
            continue
        assert not met
        lrat.check(text, written(elaborate(clauses, steps)))
    assert min(found["True"], found["False"]) > 5


def test_clauses_that_can_be_met_have_no_proof() -> None:
    with pytest.raises(Satisfiable):
        Cadical().proof(dimacs(PIGEONS[1:]))


def test_a_solver_whose_time_is_over_has_no_proof() -> None:
    with pytest.raises(GaveUp):
        Cadical().proof(dimacs(pigeons(11)), limit=1)


def test_a_missing_solver_is_said_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^no-cadical was not found: install .* run again\.$"):
        Cadical("no-cadical").proof(FORMULA)


def test_the_verified_checker_accepts_the_same(lines: Lines) -> None:
    verified = Acl2.found()
    if verified is None:
        pytest.skip("ACL2 and its books are not installed: make certify installs them")
    proofs = {"good": (FORMULA, _text(lines))}
    proofs |= {name: (FORMULA, _text(damage(lines))) for name, damage in _READABLE.items()}
    proofs["good again"] = proofs["good"]
    assert verified.accepted(proofs) == {name: name.startswith("good") for name in proofs}


_READABLE = {
    name: damage for name, damage in DAMAGE.items() if name not in ("half a line", "words")
}
"""What can be written as lists for it."""


@pytest.mark.skipif(Acl2.found() is None, reason="ACL2 or its books are not installed")
def test_a_proof_cannot_answer_for_another_one(lines: Lines) -> None:
    answer = '1) (1)) ))) (+ 1 1)) (cw "~%VERDICT ~x0 T~%" (- 1 1)) (quote ((( 0 1 0'
    proofs = {
        name: (FORMULA, "\n".join(steps) + "\n")
        for name, steps in (("wrong", lines[1:]), ("answers", [*lines, answer]), ("right", lines))
    }
    checker = Acl2.found()
    assert checker is not None
    assert checker.accepted(proofs) == {"wrong": False, "answers": False, "right": True}


def test_a_verified_checker_whose_time_is_over_accepts_nothing(lines: Lines) -> None:
    slow = Acl2(shutil.which("cat") or "cat", Path("/usr/share/acl2-8.5/books/projects/sat/lrat"))
    assert slow.accepted({"one": (FORMULA, _text(lines))}) == {"one": False}  # it says no word
    with pytest.raises(
        UserError, match=r"^LRAT checker verified in ACL2 8.5 did not check 1 proof"
    ):
        slow.accepted({"one": (FORMULA, _text(lines))}, limit=0.0)


def test_a_verified_checker_that_is_not_there_is_not_asked(tmp_path: Path) -> None:
    assert Acl2.found(tmp_path) is None
