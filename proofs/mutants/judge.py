# SPDX-License-Identifier: GPL-2.0-only
"""Which claim turns on a mutant: the first that is not PROVED, or none.

Nothing is replayed here, and a pair's claims, which need the host's code, are not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from harness.at_once import verdict as at_once
from harness.at_once.process import started
from harness.protocol.target import ProcessError
from harness.replay.predict import Predictor
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Result, Verdict, worst
from harness.x86.execute import execute
from proofs.asked import Claim
from proofs.prove import Prove
from proofs.subject import Subject
from proofs.test_descriptor_tables import test_descriptor_tables
from proofs.test_determined import test_determined
from proofs.test_entries import test_entries_agree, test_once
from proofs.test_frame import test_code, test_footprint, test_stack, test_untouched
from proofs.test_hand_off import test_hand_off
from proofs.test_identity_map import (
    test_boot_params_identity_map,
    test_image_identity_map,
    test_kernel_identity_map,
)
from proofs.test_no_fault import test_no_fault
from proofs.test_one_at_a_time import test_one_at_a_time
from proofs.test_paths import test_paths
from proofs.test_skip import test_skip_is_safe
from proofs.test_stale import test_no_stale_translation
from proofs.test_status_word import test_status_word
from proofs.test_table_switch import test_table_switch
from trampoline.contract import Contract
from trampoline.image import Image

CHEAPEST_FIRST: tuple[Claim, ...] = (
    test_paths,
    test_no_fault,
    test_code,
    test_hand_off,
    test_status_word,
    test_descriptor_tables,
    test_stack,
    test_footprint,
    test_untouched,
    test_determined,
    test_image_identity_map,
    test_boot_params_identity_map,
    test_kernel_identity_map,
    test_no_stale_translation,
    test_skip_is_safe,
    test_entries_agree,
    test_once,
    test_table_switch,
)
Turned = tuple[str, str, str]
"""Name of the claim, its verdict, the reason. The name is empty where no claim turned."""
NONE: Turned = ("", str(Verdict.PROVED), "")
Decide = Callable[[Obligation], Result]


class _Found(Exception):
    def __init__(self, claim: str, verdict: Verdict, reason: str) -> None:
        super().__init__(claim, verdict, reason)
        self.turned = claim, str(verdict), reason


def named(claim: Callable[..., None]) -> str:
    """A claim's name in contracts."""
    return claim.__name__.removeprefix("test_")


def asked_of(contract: Contract) -> tuple[str, ...]:
    """The names of all claims that a mutant is tried by."""
    at_once = {named(test_one_at_a_time)} & _to_be_proved(contract)
    return (*map(named, proved_of(contract)), *at_once)


def proved_of(contract: Contract) -> tuple[Claim, ...]:
    """The claims made of obligations that are to be PROVED of the trampoline as it is."""
    return tuple(claim for claim in CHEAPEST_FIRST if named(claim) in _to_be_proved(contract))


def _to_be_proved(contract: Contract) -> set[str]:
    refuted = {name for name, one in contract.expected.items() if one.verdict != Verdict.PROVED}
    return {name for name in contract.claims if name not in refuted}


def first_turned(
    contract: Contract, image: Image, claims: Sequence[Claim] = CHEAPEST_FIRST
) -> Turned:
    """The first of the claims that is not PROVED of the image, at all bases."""
    subject = Subject(contract, image, execute(contract, image))
    return turned(subject, claims)


def turned(
    subject: Subject, claims: Sequence[Claim], decided: Callable[[Obligation], Result] | None = None
) -> Turned:
    """The first of the claims that is not PROVED. `decided` decides an obligation."""
    predictor = Predictor(subject.contract, subject.image, subject.run)
    refused = subject.left_out

    def judge(claim: str, *obligations: Obligation, gaps: tuple[str, ...] = ()) -> None:
        if refused or gaps:
            raise _Found(claim, Verdict.UNSUPPORTED, "; ".join((*refused, *gaps)))
        results = []
        for obligation in obligations:
            results.append(decided(obligation) if decided else decide(obligation, predictor))
            if results[-1].verdict is not Verdict.PROVED:
                break
        verdict = worst([result.verdict for result in results])
        if verdict is not Verdict.PROVED:
            last = results[-1] if results else None
            reason = f"{last.obligation}: {last.reason}" if last else "it has no obligation"
            raise _Found(claim, verdict, reason)

    try:
        for claim in claims:
            claim(subject, cast(Prove, judge))  # a claim does nothing with it but call it
    except _Found as found:
        return found.turned
    return NONE


def turned_at_once(subject: Subject) -> Turned:
    """The claim `one_at_a_time`, which has no obligations, if it speaks of the trampoline."""
    claim = named(test_one_at_a_time)
    if claim not in _to_be_proved(subject.contract):
        return NONE
    try:
        read = started(subject.contract, subject.image, subject.run)
    except ProcessError as error:
        return claim, str(Verdict.UNSUPPORTED), str(error)
    found = at_once.decide(read.image, read.real)
    if found.verdict == Verdict.PROVED:
        return NONE
    return claim, found.verdict, found.reason
