# SPDX-License-Identifier: GPL-2.0-only
"""What is known of a trampoline's mutants, in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from proofs.mutants.kinds import Change
from proofs.mutants.trial import Outcome
from proofs.mutants.workers import UNDECIDED
from reports.files import write_atomically
from trampoline.errors import UserError


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mutant(_Stored):
    """One change of the image and what came of it: see Change and Outcome."""

    name: str
    kind: str
    offset: int  # in the image, in bytes
    source: str  # file:line
    symbol: str  # the symbol before it
    was: str
    becomes: str
    verdict: str
    claim: str
    reason: str
    differs: tuple[str, ...]
    seconds: float
    replays: int = 0
    alone: bool | None = None
    """No other claim notices it; None: that was not asked."""

    @classmethod
    def of(cls, change: Change, outcome: Outcome) -> Mutant:
        """The record of a trial."""
        return cls(
            name=change.name, kind=change.kind, offset=change.offset, source=change.source,
            symbol=change.symbol, was=change.was, becomes=change.becomes, **vars(outcome),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.source} ({self.offset:#x}), {self.kind}: {self.was} -> {self.becomes}"


class Campaign(_Stored):
    """All that is known so far of the mutants of one trampoline.

    `fingerprint`: of the project's and the contract's files, with which that is so. `possible`: how
    many mutants there are.
    """

    trampoline: str
    fingerprint: str
    possible: int
    claims: tuple[str, ...]
    not_reached: tuple[str, ...]
    mutants: tuple[Mutant, ...] = ()

    def with_more(self, more: Iterable[Mutant]) -> Campaign:
        """What is known, with these instead of what was known of the same mutants."""
        known = {mutant.name: mutant for mutant in self.mutants}
        known |= {mutant.name: mutant for mutant in more}
        together = sorted(known.values(), key=lambda mutant: (mutant.offset, mutant.name))
        return self.model_copy(update={"mutants": tuple(together)})

    def write(self, path: Path) -> None:
        """Raises UserError if that cannot be."""
        write_atomically({path: self.model_dump_json(indent=1).encode() + b"\n"})


def known(path: Path, fresh: Campaign) -> Campaign:
    """What the file holds with the same fingerprint; UNDECIDED ones are tried again."""
    try:
        stored = Campaign.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return fresh
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name another folder."
        ) from None
    except ValidationError:
        return fresh  # of another version of the project
    if (stored.fingerprint, stored.trampoline) != (fresh.fingerprint, fresh.trampoline):
        return fresh
    decided = tuple(one for one in stored.mutants if one.verdict != UNDECIDED)
    return fresh.model_copy(update={"mutants": decided})
