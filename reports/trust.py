# SPDX-License-Identifier: GPL-2.0-only
"""The trust page: what must be believed for a PROVED to mean something, and what was checked.

All of it is gathered: from the records, from the guard files, from the models' own docstrings, and
from the packages that are installed.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.guard import GuardRecord
from harness.record import ClaimRecord
from models.not_modelled import NOT_MODELLED
from reports.guards import NAMES
from reports.summary import second_agrees

MODELS = Path(__file__).resolve().parent.parent / "models"
FEW = 3
"""So many claims are named."""
GAPS = MODELS / "not_modelled.py"
TOOLS = {
    "angr": "runs the p-code of the image's instructions",
    "pypcode": "decodes them (Ghidra's SLEIGH); system instructions by name only",
    "z3-solver": "decides every obligation",
    "bitwuzla": "decides every obligation again",
    "cvc5": "decides the invariants of one_at_a_time again",
    "unicorn": "steps beside the machine",
    "capstone": "decodes what mutants change",
    "pyelftools": "reads object files",
}
"""Package -> what it is trusted with, or checks."""
PROGRAMS = {"qemu-system-x86_64": "replays inputs", "as": "assembles; what it makes is executed"}
SECTION = re.compile(r"(?:(?:SDM|APM) \d[A-D]?,? )?(?<![\w.])\d+\.\d+(?:\.\d+)*(?![\w.])")
"""A section of a manual. A number without a volume is of volume 3A: see models/__init__.py."""
NO_SECTION = re.compile(r"SPDX.*|ACPI [\d., ]+")


@dataclass(frozen=True)
class Model:
    """One module of models/: its first sentence, its limits, and where the manual is cited."""

    name: str
    says: str
    limits: str
    sections: tuple[str, ...]


@dataclass(frozen=True)
class Tool:
    """A package or program, its version, and what it is there for."""

    name: str
    version: str
    role: str


@dataclass(frozen=True)
class Assumption:
    """What some claims take for granted, and which: trampoline and claims."""

    text: str
    of: tuple[str, ...]


@dataclass(frozen=True)
class Trust:
    """All that the page says."""

    guards: tuple[GuardRecord, ...]
    not_run: tuple[str, ...]
    """Names of the guards that there are beside these."""
    assumptions: tuple[Assumption, ...]
    models: tuple[Model, ...]
    tools: tuple[Tool, ...]
    not_modelled: tuple[tuple[str, str], ...]
    replays: int
    second: tuple[int, int]
    """Obligations that a second solver was asked of, and on how many of them it agrees."""


def gather(records: Sequence[ClaimRecord], guards: Iterable[GuardRecord]) -> Trust:
    """What is to be believed for these records."""
    asked = [one for record in records for one in record.obligations if one.second is not None]
    samples = {record.trampoline: record.samples for record in records if record.samples}
    guards = tuple(guards)
    return Trust(
        guards=guards,
        not_run=tuple(name for name in NAMES if name not in {guard.name for guard in guards}),
        assumptions=tuple(_assumptions(records)),
        models=tuple(_model(path) for path in sorted(MODELS.glob("[!_]*.py")) if path != GAPS),
        tools=tuple(_tools()),
        not_modelled=tuple(NOT_MODELLED.items()),
        replays=sum(one.agreed for one in samples.values() if one is not None),
        second=(len(asked), sum(map(second_agrees, asked))),
    )


def _assumptions(records: Sequence[ClaimRecord]) -> Iterable[Assumption]:
    """Each once, with the trampolines and claims that make it, those of most claims first."""
    made: dict[str, dict[str, list[str]]] = {}
    claims: dict[str, int] = {}
    for record in records:
        claims[record.trampoline] = claims.get(record.trampoline, 0) + 1
        for text in record.assumptions:
            made.setdefault(text, {}).setdefault(record.trampoline, []).append(record.claim)
    for text, of in sorted(made.items(), key=lambda item: -sum(map(len, item[1].values()))):
        yield Assumption(text, tuple(_of(name, found, claims[name]) for name, found in of.items()))


def _of(name: str, claims: Sequence[str], number: int) -> str:
    if len(claims) == number:
        return name
    few = ", ".join(claims) if len(claims) <= FEW else f"{len(claims)} of {number} claims"
    return f"{name} ({few})"


def _model(path: Path) -> Model:
    text = NO_SECTION.sub("", path.read_text())
    said = ast.get_docstring(ast.parse(text)) or ""
    first, *rest = said.split("\n\n")
    limits = [part for part in rest if part.startswith("Limit")]
    return Model(path.stem, _line(first), _line(" ".join(limits)), _sections(text))


def _sections(text: str) -> tuple[str, ...]:
    """The manual's sections that are named, each once, in order: "3A 4.5", "1 3.4.3"."""
    found = (" ".join(match.replace(",", "").split()) for match in SECTION.findall(text))
    whole = {one.removeprefix("SDM ") if "SDM" in one else f"3A {one}" for one in found}
    return tuple(
        sorted(
            whole,
            key=lambda one: [int(n) if n.isdigit() else n for n in re.split(r"[ .]", one)[1:]],
        )
    )


def _line(text: str) -> str:
    return " ".join(text.split())


def _tools() -> Iterable[Tool]:
    for name, role in TOOLS.items():
        try:
            yield Tool(name, version(name), role)
        except PackageNotFoundError:
            yield Tool(name, "not installed", role)
    for name, role in PROGRAMS.items():
        yield Tool(name, _version(name), role)


def _version(program: str) -> str:
    if shutil.which(program) is None:
        return "not installed"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\d+\.\d+[\w.]*", said.stdout)
    return match[0] if match else "unknown"
