# SPDX-License-Identifier: GPL-2.0-only
"""JUnit, SARIF and Markdown say what the records say, and stay well-formed whatever these hold."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.record import EventRecord, Evidence
from reports.changes import Change, Kind
from reports.fingerprint import ROOT
from reports.junit import junit
from reports.markdown import summary
from reports.sarif import sarif
from tests.reports.factory import (
    broken,
    host_broken,
    proved,
    refuted,
    replay,
    safe_set,
    samples,
    schedule,
    two_starts,
)

UNEXPECTED = refuted(expected="PROVED", as_expected=False, finding="", title="", reason="it is not")
UNKNOWN = proved(claim="stack", verdict="UNKNOWN", as_expected=False, reason="z3 gave up")
CONTRADICTED = proved(
    claim="code", samples=samples(contradictions=(replay(Evidence.CONTRADICTED, reason="rip"),))
)
NIGHT = [proved(), UNEXPECTED, UNKNOWN, CONTRADICTED, broken(), host_broken()]
HOSTILE = "a | b ]]> <script> & \x00\x1b `x` **y**\n# z"


def results(*records: Any) -> list[dict[str, Any]]:
    log = json.loads(sarif(records))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == list(dict.fromkeys(rules))
    assert all(result["ruleId"] in rules for result in run["results"])
    return list(run["results"])


def test_junit_has_a_case_for_each_claim_and_fails_what_is_not_as_expected() -> None:
    root = ElementTree.fromstring(junit(NIGHT))
    cases = {(c.get("classname"), c.get("name")): c for c in root.iter("testcase")}
    assert len(cases) == len(NIGHT)
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failed == {(one.trampoline, one.claim) for one in (UNEXPECTED, UNKNOWN, CONTRADICTED)}
    assert (root.get("tests"), root.get("failures")) == (str(len(NIGHT)), "3")
    said = cases["multikernel_rfc", "kernel_identity_map"].find("failure")
    assert said is not None and "kernel_phys_addr = 0x3ffff000" in str(said.text)


def test_sarif_puts_a_finding_on_its_line_of_assembly() -> None:
    (result,) = results(refuted())
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "trampoline/multikernel_rfc/trampoline.S"
    assert place["region"] == {"startLine": 151}
    assert "smallest input: base = 0x7000" in result["message"]["text"]


def test_of_two_starts_that_are_compared_both_are_told() -> None:
    finding = refuted(claim="determined", witness=two_starts(), as_expected=False)
    (result,) = results(finding)
    both = "smallest input: base = 0x7000, kernel_phys_addr = 0x3ffff000; the second start: RFLAGS"
    assert both in result["message"]["text"]
    told = "the second start, otherwise the same:\nRFLAGS at entry = 0x400"
    assert told in junit([finding]).decode()


def test_sarif_suppresses_what_the_contract_accepts_and_nothing_else() -> None:
    accepted, unexpected, unknown = (results(one)[0] for one in (refuted(), UNEXPECTED, UNKNOWN))
    assert accepted["level"] == "warning"
    assert accepted["suppressions"][0]["justification"] == refuted().title
    assert (unexpected["level"], unexpected["suppressions"]) == ("error", [])
    assert (unknown["level"], unknown["suppressions"]) == ("error", [])
    assert results(proved()) == []


def test_sarif_names_a_file_also_where_no_line_is_known() -> None:
    for record in (host_broken(), UNKNOWN):
        (result,) = results(record)
        place = result["locations"][0]["physicalLocation"]
        contract = f"trampoline/{record.trampoline}/contract.toml"
        assert place["artifactLocation"]["uri"] == contract
        line = (ROOT / contract).read_text().splitlines()[place["region"]["startLine"] - 1]
        assert line == f"[expected.{record.claim}]" or place["region"]["startLine"] == 1


def test_sarif_finds_a_host_s_file_among_its_sources() -> None:
    host = EventRecord(who="host", what="store status", where="kick.c:37")
    last = schedule().model_copy(update={"events": (host,)})
    (result,) = results(broken(schedules=(last,)))
    place = result["locations"][0]["physicalLocation"]
    uri = place["artifactLocation"]["uri"]
    assert (uri, place["region"]) == ("trampoline/host/multikernel_rfc/kick.c", {"startLine": 37})
    assert (ROOT / uri).is_file()
    (other,) = results(refuted("third"))
    where = other["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert where == "trampoline/third/trampoline.S"


def test_the_summary_tells_changes_findings_and_verdicts() -> None:
    change = Change(kind=Kind.FIXED, trampoline="la57", claim="stack", text="was, is")
    text = summary([proved(), refuted(safe_set=safe_set())], [change])
    assert "| fixed | la57 | stack | was, is |" in text
    assert "| MKRFC-2 | kernel\\_identity\\_map | " in text
    assert "It holds exactly for" in text
    assert "| multikernel | hand\\_off | PROVED | 207 replays agree |" in text
    assert "Nothing changed." in summary([proved()], [])
    assert "Changes" not in summary([proved()])


@pytest.mark.parametrize("record", [UNEXPECTED, refuted()])
def test_no_string_of_a_record_becomes_markup(record: Any) -> None:
    hostile = record.model_copy(
        update={"sentence": HOSTILE, "title": HOSTILE, "reason": HOSTILE, "trampoline": HOSTILE}
    )
    assert ElementTree.fromstring(junit([hostile])).find(".//script") is None
    json.loads(sarif([hostile]))
    rows = [line for line in summary([hostile]).split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6, 5}
    assert not any("<script>" in row for row in rows)
