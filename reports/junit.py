# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML: a suite for each trampoline, a case for each claim; what is expected passes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from junitparser import Failure, JUnitXml, TestCase, TestSuite

from harness.record import ClaimRecord
from reports.summary import by_trampoline, evidence_words, is_contradicted, verdict_words
from reports.text import printable


def junit(records: Iterable[ClaimRecord]) -> bytes:
    """The document, in UTF-8. A finding that the contract expects passes, and says so."""
    document: Any = JUnitXml("trampoline-proofs")  # some of its methods have no types
    for name, group in by_trampoline(records):
        suite = TestSuite(printable(name))
        for record in group:
            suite.add_testcase(_case(record))
        document.add_testsuite(suite)
    document.update_statistics()
    document._elem.attrib.pop("skipped", None)  # Jenkins' schema does not know it there
    return bytes(document.tostring())


def _case(record: ClaimRecord) -> TestCase:
    case = TestCase(printable(record.claim), printable(record.trampoline), record.seconds)
    if not record.as_expected or is_contradicted(record):
        message = f"{verdict_words(record)}: {record.reason or evidence_words(record)}"
        failure = Failure(printable(message), record.verdict)
        failure.text = printable("\n".join(_why(record)))
        case.result = [failure]
    said = [record.sentence, f"{verdict_words(record)}; evidence: {evidence_words(record)}"]
    said += [record.title] if record.title else []
    case.system_out = printable("\n".join(said))  # behind the failure: schemas know one order
    return case


def _why(record: ClaimRecord) -> Iterable[str]:
    """What a refutation violates, and the input that shows it."""
    if record.witness is not None:
        yield from record.witness.violated
        yield from (f"{name} = {value}" for name, value in record.witness.inputs.items())
        if (second := record.witness.second) is not None:
            yield "the second start, otherwise the same:"
            yield from (f"{name} = {value}" for name, value in second.inputs.items())
    for schedule in record.schedules[:1]:
        yield from (f"{one.who}: {one.what} {one.where}".rstrip() for one in schedule.events)
    for goal in record.goals:
        yield goal.goal
    yield evidence_words(record)
