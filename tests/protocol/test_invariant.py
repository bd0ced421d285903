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
    return invariant_file.parse(KEPT.read_text())


@pytest.fixture(scope="module")
def clauses():
    return tuple(encoding.clauses(pairs.HARDENED, CLAIMS))


def test_text_says_all(kept):
    assert invariant_file.text(kept) == KEPT.read_text()


@pytest.mark.parametrize("line", ["  1, 2: x", "  1 2", "  1, 2, 3: 4"])
def test_bad_line_is_named(line):
    with pytest.raises(ValueError, match=f"line 2 .*: {line}"):
        invariant_file.parse(f"at, status\n{line}\n")


def test_weaker_invariant_is_not_inductive(kept, clauses):
    about_commit = [one for one in kept.lemmas if "cpu_committed" in one.features]
    weaker = Invariant(tuple(one for one in kept.lemmas if one not in about_commit))
    assert check.open_questions(pairs.HARDENED, weaker, clauses)


def test_invariant_that_leaves_out_boot_is_not_accepted(kept, clauses):
    first = kept.lemmas[0]
    assert first.features == ("at",)
    without = replace(first, allowed=tuple(row for row in first.allowed if row != (0,)))
    stronger = Invariant((without, *kept.lemmas[1:]))
    assert "boot" in check.open_questions(pairs.HARDENED, stronger, clauses)


def test_invariant_of_one_pair_does_not_prove_another(kept):
    assert not verdict.proves(pairs.LEAVES_WHEN_GIVEN_UP, kept)


def test_invariant_with_another_pairs_features_does_not_fit(kept):
    strange = Lemma(("host_store7_word",), ((0,),))
    assert not verdict.proves(pairs.HARDENED, Invariant((strange, *kept.lemmas)))


def test_no_invariant_is_found_where_a_claim_breaks():
    pair = pairs.BLIND_TO_FREE
    reached = saturate.Saturation(pair, 100_000).run()
    assert reached.bad == {"progress"}
    with pytest.raises(lemmas.GaveUp, match="bad"):
        lemmas.find(pair, reached, [*encoding.clauses(pair, CLAIMS)][-1:])
