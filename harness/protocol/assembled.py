# SPDX-License-Identifier: GPL-2.0-only
"""A pair as it is: the assembled trampoline and the compiled host, and the invariant kept of it.

The invariant lies beside the contract. It is only checked, never trusted: if it does not prove the
pair, another one is looked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.protocol import invariant_file, verdict
from harness.protocol.explore import Bounds
from harness.protocol.invariant import Invariant
from harness.protocol.pair import pair_of, statuses
from harness.protocol.verdict import SEARCHES, Decision
from harness.x86.execute import execute
from models.protocol import Pair
from trampoline.contract import Contract
from trampoline.host_object import HostObject, host_of
from trampoline.image import load_image

KEPT = "protocol.invariant"
"""The kept invariant's file, in the contract's folder."""


@dataclass(frozen=True)
class Assembled:
    """`statuses`: the values of the status word that have a name. `kept`: the invariant's file."""

    contract: Contract
    pair: Pair
    statuses: dict[str, int]

    @property
    def kept(self) -> Path:
        """The invariant's file, there or not."""
        return self.contract.path.parent / KEPT

    def text(self, invariant: Invariant) -> str:
        """What the file holds for this invariant."""
        return invariant_file.text(invariant, self.statuses, self.pair)


def assemble(contract: Contract, host: HostObject | None = None) -> Assembled:
    """The trampoline of `contract`, at any base, with `host`; None: the one that it names.

    Raises UserError.
    """
    host = host_of(contract) if host is None else host
    image = load_image(contract)
    pair = pair_of(contract, image, execute(contract, image), host)
    return Assembled(contract, pair, statuses(contract, host))


def read_kept(assembled: Assembled) -> tuple[Invariant | None, str]:
    """The kept invariant, or why there is none."""
    try:
        text = assembled.kept.read_text(encoding="utf-8")
        return invariant_file.parse(text, assembled.statuses), ""
    except FileNotFoundError:
        return None, "there is no such file"
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        return None, "it is no text"
    except ValueError as error:
        return None, str(error)


def decide(assembled: Assembled, searches: tuple[Bounds, ...] = SEARCHES) -> Decision:
    """The six verdicts, with the kept invariant if it proves what no schedule breaks.

    `Decision.not_kept` is one sentence for people if another invariant had to be found.
    """
    kept, reason = read_kept(assembled)
    decision = verdict.decide(assembled.pair, searches, kept)
    if decision.invariant is None or decision.invariant is kept:
        return replace(decision, not_kept="")
    said = (
        f"{assembled.kept}: not the invariant of this code ({reason or decision.not_kept}); "
        f"write the new one: python -m harness.protocol {assembled.contract.path} --write"
    )
    return replace(decision, not_kept=said)
