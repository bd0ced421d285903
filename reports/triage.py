# SPDX-License-Identifier: GPL-2.0-only
"""Refutations that no contract expects, by root cause; and how one is accepted as a finding.

Claims that are refuted at one instruction by one condition are one defect, and one group.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.record import ClaimRecord, Evidence
from reports.causes import REFUTED, Cause, cause
from reports.files import write_atomically
from reports.summary import in_order
from trampoline.errors import UserError

ID = re.compile(r"[A-Z][A-Z0-9]*-[0-9]+")


@dataclass(frozen=True)
class Group:
    """Claims that one defect refutes. `proposed`: an id that is free; `cause`: of the first."""

    proposed: str
    cause: Cause
    records: tuple[ClaimRecord, ...]

    @property
    def claims(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(record.claim for record in self.records)

    @property
    def title(self) -> str:
        """A proposal: what is violated, and where."""
        where = " ".join(part for part in (self.cause.place, self.cause.source) if part)
        return f"{self.cause.condition or self.claims[0]}{f' ({where})' if where else ''}"

    def entries(self, title: str) -> dict[str, str]:
        """What the contract needs, by claim: the table's text."""
        return {record.claim: _entry(record, self.proposed, title) for record in self.records}


def triage(records: Sequence[ClaimRecord]) -> list[Group]:
    """The groups, by trampoline; ids go on where those of its known findings end."""
    found: dict[tuple[str, ...], list[tuple[Cause, ClaimRecord]]] = {}
    for record in in_order(records):
        root = cause(record)
        if root is None or record.as_expected:
            continue
        # Without a place two claims are not known to have a defect in common.
        own = "" if root.place else record.claim
        key = (record.trampoline, root.condition, root.place, root.operation, own)
        found.setdefault(key, []).append((root, record))
    groups: list[Group] = []
    for (trampoline, *_), members in found.items():
        ids = [one.finding for one in records if one.trampoline == trampoline and one.finding]
        ids += [group.proposed for group in groups if group.cause.trampoline == trampoline]
        both = tuple(record for _, record in members)
        groups.append(Group(_free(trampoline, ids), members[0][0], both))
    return groups


def undecided(records: Sequence[ClaimRecord]) -> list[ClaimRecord]:
    """Verdicts that no contract expects and that are no refutations: nothing to accept."""
    return [one for one in in_order(records) if not one.as_expected and one.verdict != REFUTED]


def accept(group: Group, contract: Path, title: str) -> None:
    """Write the finding into the contract. Raises UserError, and then nothing is written."""
    try:
        text = contract.read_text()
        before = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{contract}: cannot be read ({error}); mend it.") from None
    for claim, entry in group.entries(title).items():
        text = _with_table(text, f"expected.{claim}", entry)
    wanted: dict[str, Any] = {**before.get("expected", {})}
    wanted |= {claim: tomllib.loads(entry) for claim, entry in group.entries(title).items()}
    try:
        after = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        after = {}
    if after != {**before, "expected": wanted}:
        raise UserError(
            f"{contract}: what it expects is not written as tables [expected.CLAIM]; add to it by "
            f"hand:\n{entries_text(group, title)}"
        )
    write_atomically({contract: text.encode()})


def entries_text(group: Group, title: str) -> str:
    """The tables as they stand in a contract."""
    return "\n".join(
        f"[expected.{claim}]\n{entry}" for claim, entry in group.entries(title).items()
    )


def _entry(record: ClaimRecord, finding: str, title: str) -> str:
    lines = [f'verdict = "{REFUTED}"', f'finding = "{finding}"', f"title = {_quoted(title)}"]
    if (root := cause(record)) is not None:
        lines.append(f'cause = "{root.fingerprint}"')
    replay = record.replay
    if replay is not None and replay.evidence is Evidence.NOT_REPLAYABLE:
        lines.append(f'evidence = "{Evidence.NOT_REPLAYABLE}"')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string (TOML 1.0, "String")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _with_table(text: str, name: str, body: str) -> str:
    """The document with this table in the place of an older one of the same name, or at its end."""
    header = re.compile(rf"^\[{re.escape(name)}\][^\n]*\n", re.MULTILINE)
    here = header.search(text)
    if here is None:
        return f"{text.rstrip()}\n\n[{name}]\n{body}"
    following = re.compile(r"^\s*(\[|#|$)", re.MULTILINE).search(text, here.end())
    end = following.start() if following else len(text)
    return text[: here.end()] + body + text[end:]


def _free(trampoline: str, ids: Sequence[str]) -> str:
    known = [one.rpartition("-") for one in ids if ID.fullmatch(one)]
    prefix = known[0][0] if known else re.sub(r"[^A-Z0-9]", "", trampoline.upper())
    if not prefix[:1].isalpha():
        prefix = f"F{prefix}"
    return f"{prefix}-{max((int(n) for p, _, n in known if p == prefix), default=0) + 1}"
