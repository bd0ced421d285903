# SPDX-License-Identifier: GPL-2.0-only
"""What a wait leaves: the lock, the warm-reset vector, and the mark of the CPU."""

from __future__ import annotations

import pytest

from harness.host import waiting
from harness.host.kicking import Kick
from harness.host.refusal import Refusal
from harness.host.waiting import FREE, LOCKED, MARKED, OWN, UNDONE, wait_obligations
from harness.solve.obligation import Obligation, Verdict
from tests.host.conftest import Change
from tests.host.judge import not_proved, verdicts
from tests.host.test_extract import contract_of
from trampoline.host_object import HostObject

GOALS = (FREE, UNDONE, MARKED, LOCKED, OWN)


def of(host: HostObject) -> list[Obligation]:
    return wait_obligations(Kick(host, contract_of(host.name)))


def ends(obligations: list[Obligation]) -> set[str]:
    """The verdicts that the wait ends with."""
    return {obligation.name.partition("(")[2].partition(")")[0] for obligation in obligations}


def test_the_hardened_wait_is_proved_at_each_end(hardened: HostObject) -> None:
    obligations = of(hardened)
    assert ends(obligations) == {"running", "refused", "not responding", "stuck"}
    assert verdicts(obligations) == dict.fromkeys(GOALS, Verdict.PROVED)


def test_nothing_of_the_rfc_undoes_the_vector_after_a_kick_that_worked(rfc: HostObject) -> None:
    obligations = of(rfc)
    assert ends(obligations) == {"started", "not responding"}
    assert not_proved(obligations) == {UNDONE: Verdict.REFUTED}


MARK = "\tif (verdict == VERDICT_RUNNING)\n\t\thost->taken[host->offer - STATUS_OFFERED] = true;\n"
UNDO = "\twarm_reset_undo();\n\tunlock(host);\n\treturn verdict;"
UNLOCK = "\tunlock(host);\n\treturn verdict;"
MISTAKES = {
    "a started CPU is not marked": (MARK, "", MARKED),
    "every CPU is marked": ("if (verdict == VERDICT_RUNNING)", "", MARKED),
    "another CPU is marked": (
        *("[host->offer - STATUS_OFFERED]", "[(host->offer - STATUS_OFFERED) / 2]"),
        MARKED,
    ),
    "CPU 7 is marked, too": (UNLOCK, "\thost->taken[7] = verdict;\n" + UNLOCK, MARKED),
    "the warm-reset vector stays": (UNDO, UNLOCK, UNDONE),
    "the lock stays": (UNLOCK, "\treturn verdict;", FREE),
    "the area is forgotten": (UNLOCK, "\thost->area.size = 0;\n" + UNLOCK, OWN),
    "the lock is freed too early": (
        *(UNDO, "\tunlock(host);\n\twarm_reset_undo();\n\treturn verdict;"),
        LOCKED,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_wait_is_refuted(mistake: str, changed: Change) -> None:
    old, new, goal = MISTAKES[mistake]
    found = not_proved(of(changed("multikernel", "multikernel/kick.c", old, new)))
    assert found == {goal: Verdict.REFUTED}


ROUNDS = "\tfor (;;) {\n\t\tu32 word = *status;\n"


def test_a_mistake_of_the_second_round_alone_is_refuted(changed: Change) -> None:
    late = ROUNDS.replace("\tfor", "\tbool late = false;\n\n\tfor") + (
        "\t\tif (late && word == STATUS_FREE)\n\t\t\thost->taken[7] = true;\n\t\tlate = true;\n"
    )
    host = changed("multikernel", "multikernel/kick.c", ROUNDS, late)
    assert not_proved(of(host)) == {MARKED: Verdict.REFUTED}


def test_rounds_that_are_never_alike_are_refused(
    changed: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_STATES_MAX", 60)
    counted = "\tfor (volatile int round = 0;; round++) {\n\t\tu32 word = *status;\n"
    host = changed("multikernel", "multikernel/kick.c", ROUNDS, counted)
    with pytest.raises(Refusal, match="a wait of more than 60 states"):
        of(host)


def test_a_wait_that_takes_the_lock_itself_is_refused(changed: Change) -> None:
    host = changed(
        *("multikernel", "multikernel/kick.c", "int verdict = verdict_of(host);"),
        "int verdict;\n\n\tunlock(host);\n\tverdict = verdict_of(host);\n"
        "\tif (!try_lock(host))\n\t\treturn verdict;",
    )
    with pytest.raises(Refusal, match="a wait that takes a lock"):
        of(host)
