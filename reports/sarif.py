# SPDX-License-Identifier: GPL-2.0-only
"""SARIF 2.1.0 (OASIS Standard, 27 March 2020): findings on lines of assembly, for code scanning.

Sections in brackets below are the standard's. What GitHub code scanning asks for beyond it (a text
that helps with each rule, a line for each result) is there, too: GitHub Docs, "SARIF support for
code scanning".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from harness.record import ClaimRecord
from reports.causes import PROVED, cause
from reports.fingerprint import ROOT
from reports.summary import (
    evidence_words,
    findings,
    holds_for,
    in_order,
    smallest_input,
    verdict_words,
)
from trampoline.contract import load_contract
from trampoline.shipped import contract_of

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

EXPLAIN = "tramp explain FINDING, or tramp explain TRAMPOLINE.CLAIM"


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class Message(_Part):
    """[3.11]"""

    text: str


class ArtifactLocation(_Part):
    """[3.4] `uri`: relative to the top of the repository."""

    uri: str
    uri_base_id: str = "%SRCROOT%"


class Region(_Part):
    """[3.30]"""

    start_line: int


class PhysicalLocation(_Part):
    """[3.29]"""

    artifact_location: ArtifactLocation
    region: Region


class LogicalLocation(_Part):
    """[3.33]"""

    name: str
    kind: str = "function"


class Location(_Part):
    """[3.28]"""

    physical_location: PhysicalLocation
    logical_locations: tuple[LogicalLocation, ...] = ()


class Suppression(_Part):
    """[3.35] The contract accepts a finding, and says why."""

    kind: str = "external"
    status: str = "accepted"
    justification: str


class Result(_Part):
    """[3.27]"""

    rule_id: str
    level: str
    message: Message
    locations: tuple[Location, ...]
    partial_fingerprints: dict[str, str]
    suppressions: tuple[Suppression, ...]


class Rule(_Part):
    """[3.49]"""

    id: str
    short_description: Message
    full_description: Message
    help: Message


class Driver(_Part):
    """[3.19]"""

    name: str = "trampoline-proofs"
    version: str
    rules: tuple[Rule, ...]


class Tool(_Part):
    """[3.18]"""

    driver: Driver


class Run(_Part):
    """[3.14]"""

    tool: Tool
    results: tuple[Result, ...]
    column_kind: str = "unicodeCodePoints"


class Log(BaseModel):
    """[3.13]"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = "2.1.0"
    runs: tuple[Run, ...]


def sarif(records: Iterable[ClaimRecord]) -> bytes:
    """The document, in UTF-8.

    Sources are said to lie in trampoline/NAME, as those of all shipped ones do, or with the host
    that its contract names. What is refuted,
    and what could not be decided, is a result; a finding that the contract accepts is a suppressed
    one. Rules are the claims; a result's fingerprint is that of its cause, so that it is the same
    after an edit elsewhere.
    """
    ordered = in_order(records)
    rules: dict[str, Rule] = {}
    for record in ordered:
        rules.setdefault(record.claim, _rule(record.claim, record.sentence or record.claim))
    results = [_result(one) for one in ordered if one.verdict != PROVED]
    driver = Driver(version=version("trampoline-proofs"), rules=tuple(rules.values()))
    run = Run(tool=Tool(driver=driver), results=tuple(results))
    body = Log(runs=(run,)).model_dump(by_alias=True, exclude_none=True, mode="json")
    return json.dumps({"$schema": SCHEMA, **body}, indent=2).encode() + b"\n"


def _rule(claim: str, sentence: str) -> Rule:
    """A claim; its sentence says what holds if it is PROVED."""
    return Rule(
        id=claim,
        short_description=Message(text=f"The claim {claim} holds."),
        full_description=Message(text=sentence),
        help=Message(text=f"{sentence} What breaks it, step by step: {EXPLAIN}"),
    )


def _result(record: ClaimRecord) -> Result:
    found = cause(record)
    if found is not None and found.source:
        file, _, number = found.source.rpartition(":")
        line = int(number)
    else:
        file, line = "contract.toml", _line_in_contract(record)
    where = PhysicalLocation(
        artifact_location=ArtifactLocation(uri=_uri(record.trampoline, file)),
        region=Region(start_line=line),
    )
    named = (LogicalLocation(name=found.place),) if found is not None and found.place else ()
    accepted = record.as_expected and bool(findings([record]))
    return Result(
        rule_id=record.claim,
        level="error" if not record.as_expected else "warning",
        message=Message(text=_said(record)),
        locations=(Location(physical_location=where, logical_locations=named),),
        partial_fingerprints={"cause/v1": found.fingerprint if found else record.verdict},
        suppressions=(Suppression(justification=record.title),) if accepted else (),
    )


def _line_in_contract(record: ClaimRecord) -> int:
    """Where the contract speaks of the claim; its first line if it does not, or is not there."""
    contract = contract_of(record.trampoline)
    if contract.is_file():
        for number, line in enumerate(contract.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip() == f"[expected.{record.claim}]":
                return number
    return 1


def _uri(trampoline: str, file: str) -> str:
    """Of a source file: beside the contract, or among the sources of its host."""
    contract = contract_of(trampoline)
    beside = contract.parent / file
    if not beside.is_file() and contract.is_file():
        host = load_contract(contract).host
        among = beside if host is None else (contract.parent / host.source / file).resolve()
        if among.is_file():
            beside = among
    return beside.relative_to(ROOT).as_posix()


def _said(record: ClaimRecord) -> str:
    parts = [f"{record.trampoline}: {record.claim} {verdict_words(record)}"]
    parts += [record.title] if record.as_expected else []
    found = cause(record)
    parts += [found.condition if found else record.reason, holds_for(record)]
    if record.witness is not None:
        parts.append(f"smallest input: {smallest_input(record.witness)}")
    parts.append(f"evidence: {evidence_words(record)}")
    return ". ".join(part.rstrip(".") for part in parts if part) + "."
