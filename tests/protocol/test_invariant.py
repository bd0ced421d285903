# SPDX-License-Identifier: GPL-2.0-only
"""An invariant proves only what it should: checked by plain questions, kept as a text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.protocol import check, encoding, invariant_file, lemmas, saturate, verdict
from harness.protocol.invariant import Invariant, Lemma
from models.protocol_claims import CLAIMS
from tests.protocol import pairs
from tests.protocol.test_verdicts import KEPT


@pytest.fixture(scope="module")
def kept() -> Invariant:
    return invariant_file.parse(KEPT.read_text(), {})


def test_text_says_all(kept):
    assert invariant_file.text(kept, {}) == KEPT.read_text()


def test_status_words_and_what_the_model_names_stand_there_by_name():
    lemma = Lemma(
        ("at", "status", "phase"),
        ((0, -1, 0), (0, 0xA5A5A5A5, 1), *((n, 5, n) for n in (1, 2))),
    )
    names = {"started": 0xA5A5A5A5, "free": 0}
    text = invariant_file.text(Invariant((lemma,)), names)
    assert text.splitlines() == [
        "at, status, phase",
        "  0, an offer: before",
        "  0, started: current",
        "  1, 5: current",
        "  2, 5: after",
    ]
    assert invariant_file.parse(text, names).lemmas == (lemma,)


def test_numbers_in_a_row_are_given_as_first_and_last():
    lemma = Lemma(("at",), tuple((n,) for n in (0, 1, 3, 4, 5, 7)))
    text = invariant_file.text(Invariant((lemma,)), {})
    assert text == "at\n  : 0, 1, 3..5, 7\n"
    assert invariant_file.parse(text, {}).lemmas == (lemma,)


def test_locations_are_explained(kept):
    text = invariant_file.text(kept, {"held": 0x0EEE_EEEE}, pairs.HARDENED)
    assert "#   5: xchg status held, host 5\n" in text
    assert "#   0: lock cmpxchg status offer -> 0xa5a5a5a5, CPU 0\n" in text
    assert invariant_file.parse(text, {"held": 0x0EEE_EEEE}) == kept


@pytest.mark.parametrize("line", ["  1, 2: x", "  1 2", "  1, 2, 3: 4", "  1: 3..1", "  1: 1..1e9"])
def test_bad_line_is_named(line):
    with pytest.raises(ValueError, match=f"line 2 .*: {line}"):
        invariant_file.parse(f"at, status\n{line}\n", {})


@pytest.mark.parametrize("text", ["", "# nothing\n", "at\nstatus\n  : 0\n"])
def test_text_without_lemma_or_with_an_empty_one_is_none(text):
    with pytest.raises(ValueError, match="not whole"):
        invariant_file.parse(text, {})


def verdict_by(invariant: Invariant) -> tuple[str, str]:
    return verdict.proves(pairs.HARDENED, invariant)


def test_weaker_invariant_is_not_inductive(kept):
    about_commit = [one for one in kept.lemmas if "cpu_committed" in one.features]
    weaker = Invariant(tuple(one for one in kept.lemmas if one not in about_commit))
    assert verdict_by(weaker) == ("UNKNOWN", "inductive: z3 says sat")


def test_invariant_that_leaves_out_boot_is_not_accepted(kept):
    first = kept.lemmas[0]
    assert first.features == ("at",)
    without = replace(first, allowed=tuple(row for row in first.allowed if row != (0,)))
    assert verdict_by(Invariant((without, *kept.lemmas[1:]))) == (
        "UNKNOWN",
        "initial: z3 says sat",
    )


def test_invariant_that_allows_all_is_not_safe(kept):
    anything = replace(kept.lemmas[0], allowed=tuple((n,) for n in range(100)))
    assert verdict_by(Invariant((anything,)))[0] == "UNKNOWN"
    *_, safe = check.questions(pairs.HARDENED, Invariant((anything,)), CLAIMS)
    assert check.z3_answers(safe) == "sat"


def test_invariant_of_one_pair_does_not_prove_another(kept):
    assert verdict.proves(pairs.LEAVES_WHEN_GIVEN_UP, kept)[0] == "UNKNOWN"


@pytest.mark.parametrize(
    "strange",
    [
        Lemma(("host_store7_word",), ((0,),)),
        Lemma(("shows",), ((False,), (1,))),
        Lemma(("at", "shows"), ((0,),)),
    ],
    ids=["another pair's feature", "values of two kinds", "a row too short"],
)
def test_invariant_that_does_not_fit_proves_nothing(kept, strange):
    said = verdict_by(Invariant((strange, *kept.lemmas)))
    assert said == ("UNKNOWN", "it speaks of parts that this pair's states do not have")


def test_no_invariant_is_found_where_a_claim_breaks():
    pair = pairs.BLIND_TO_FREE
    reached = saturate.Saturation(pair, 100_000).run()
    assert reached.bad == {"progress"}
    with pytest.raises(lemmas.GaveUp, match="bad"):
        lemmas.find(pair, reached, [*encoding.clauses(pair, CLAIMS)][-1:])
