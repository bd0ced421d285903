# SPDX-License-Identifier: GPL-2.0-only
"""Why a mutant that no claim notices is right all the same: `survivors.toml` beside the contract.

[[survivor]]
was = "cmp eax, 0x80000001"         # the instruction or byte, as the campaign writes it
becomes = "cmp eax, 0x80000002"     # what is left out matches anything, * any part of a text
why = "A CPU whose last extended leaf is 0x80000001 has no long mode."
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from proofs.mutants.record import Mutant
from proofs.mutants.trial import SURVIVED
from reports.fingerprint import SURVIVORS
from trampoline.errors import UserError

EXPLAINED = "EXPLAINED"


class Survivor(BaseModel):
    """One reason, and which mutants it speaks of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: str
    was: str = "*"
    becomes: str = "*"
    kind: str = "*"
    symbol: str = "*"  # the one before it, or with a distance: "gdt+0x8"
    differs: tuple[str, ...] | None = None
    """How the run differs: nothing but these."""

    @model_validator(mode="after")
    def _of_some(self) -> Survivor:
        if self.differs is None and {self.was, self.becomes, self.kind, self.symbol} <= {"*", ""}:
            raise ValueError("a reason speaks of every mutant there is")
        return self

    def speaks_of(self, mutant: Mutant) -> bool:
        """This mutant, which no claim has noticed."""
        return all(
            fnmatchcase(getattr(mutant, name), getattr(self, name).replace("[", "[[]"))
            for name in ("was", "becomes", "kind", "symbol")
        ) and (self.differs is None or set(mutant.differs) <= set(self.differs))


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    survivor: tuple[Survivor, ...] = ()


def survivors_of(contract: Path) -> tuple[Survivor, ...]:
    """The reasons beside a contract; none without a file. Raises UserError."""
    path = contract.parent / SURVIVORS
    try:
        return _File.model_validate(tomllib.loads(path.read_text())).survivor
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        first = str(error).splitlines()[-2 if isinstance(error, ValidationError) else 0].strip()
        raise UserError(f"{path}: cannot be used ({first}); mend it.") from None


def explained(mutants: Iterable[Mutant], known: Sequence[Survivor]) -> list[Mutant]:
    """The mutants; those that survived and are spoken of are EXPLAINED, with the reason."""
    found = []
    for mutant in mutants:
        if mutant.verdict == SURVIVED:
            why = next((one.why for one in known if one.speaks_of(mutant)), "")
            if why:
                mutant = mutant.model_copy(update={"verdict": EXPLAINED, "reason": why})
        found.append(mutant)
    return found


def unused(mutants: Sequence[Mutant], known: Sequence[Survivor]) -> list[Survivor]:
    """Reasons that speak of no mutant that survived."""
    left = [mutant for mutant in mutants if mutant.verdict in (SURVIVED, EXPLAINED)]
    return [one for one in known if not any(map(one.speaks_of, left))]
