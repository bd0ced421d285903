# SPDX-License-Identifier: GPL-2.0-only
"""A second solver, bitwuzla, decides what z3 has decided. It is given a text and shares no code.

It has no budget but time. Where that runs out there is no answer, and nothing counts as proved.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import bitwuzla
import z3

from harness.solve.obligation import Obligation, Result, Second, Verdict
from harness.solve.smt2 import NotTheSame, smt2

NAME = f"bitwuzla {bitwuzla.version()}"
LIMIT = 300.0
"""Seconds for one question; the hardest in use needs a tenth."""
SAT, UNSAT, NONE = "sat", "unsat", "none"
"""Its answers; NONE if there is none."""

Answers = Callable[[str], str]
"""From a script to an answer."""


def bitwuzla_answers(script: str, limit: float = LIMIT) -> str:
    """What bitwuzla says of the conditions of a script, within `limit` seconds."""
    answer = read(script, limit).bitwuzla().check_sat()
    return {bitwuzla.Result.SAT: SAT, bitwuzla.Result.UNSAT: UNSAT}.get(answer, NONE)


def read(script: str, limit: float, *more: bitwuzla.Option) -> bitwuzla.Parser:
    """A script in bitwuzla, not asked yet, which has `limit` seconds; with these options on."""
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.TIME_LIMIT_PER, int(limit * 1000))
    for option in more:
        options.set(option, True)
    parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
    # Its own command would print the answer.
    parser.parse(script.replace("(check-sat)", ""), True, False)
    return parser


WANTED = {
    Verdict.PROVED: (SAT, UNSAT),
    Verdict.REFUTED: (SAT, SAT),
    Verdict.VACUOUS: (UNSAT, UNSAT),
}
"""What a second solver says of hypotheses, and of these with a goal that fails, if it agrees."""


class SecondSolver:
    """Gives its opinion on results. What many obligations share it is asked for once.

    `keep` is given each script with a file name that is made from its content.
    """

    def __init__(
        self,
        keep: Callable[[str, str], None] = lambda name, script: None,
        answers: Answers = bitwuzla_answers,
    ) -> None:
        self._keep = keep
        self._answers = answers
        self._known: dict[tuple[int, ...], _Asked] = {}

    def judge(self, obligation: Obligation, result: Result) -> Result:
        """The result with its opinion; DISAGREE where that is another one, UNKNOWN where there is
        none although it is needed."""
        if result.verdict not in WANTED:
            return result
        began = time.perf_counter()
        hypotheses = obligation.hypotheses
        asked = self._ask(hypotheses), self._ask((*hypotheses, z3.Not(obligation.goal)))
        answers = asked[0].answer, asked[1].answer
        second = Second(NAME, *answers, time.perf_counter() - began, asked[1].name)
        result = replace(result, second=second)
        differ = [
            f"z3 says {wanted}, {NAME} says {answer} of {what}"
            for what, wanted, answer in zip(
                ("the hypotheses", "an input that violates the goal"),
                WANTED[result.verdict], answers, strict=True,
            )
            if answer not in (wanted, NONE)
        ]  # fmt: skip
        if differ:
            return replace(result, verdict=Verdict.DISAGREE, reason="; ".join(differ))
        if NONE in answers and result.verdict is Verdict.PROVED:
            why = next(one.why for one in asked if one.answer == NONE)
            return replace(result, verdict=Verdict.UNKNOWN, reason=why)
        return result

    def _ask(self, conditions: Sequence[z3.BoolRef]) -> _Asked:
        key = tuple(condition.get_id() for condition in conditions)
        if key not in self._known:
            self._known[key] = self._find_out(conditions)
        return self._known[key]

    def _find_out(self, conditions: Sequence[z3.BoolRef]) -> _Asked:
        try:
            script = smt2(conditions)
            name = f"{hashlib.sha256(script.encode()).hexdigest()[:16]}.smt2"
            self._keep(name, script)
            why = f"{NAME} gave up within {LIMIT:.0f} s"
            return _Asked(conditions, name, self._answers(script), why)
        except (NotTheSame, bitwuzla.BitwuzlaException) as error:
            return _Asked(conditions, "", NONE, f"{NAME} cannot be asked: {error}")


@dataclass(frozen=True)
class _Asked:
    """A question: its conditions (their ids are unique while they live), its script's name ("" if
    there is none), the answer, and why there is none if there is none."""

    conditions: Sequence[z3.BoolRef]
    name: str
    answer: str
    why: str
