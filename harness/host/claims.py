# SPDX-License-Identifier: GPL-2.0-only
"""All that is claimed of a host's load and kick, ready to be decided.

`decide_all` gives the verdict on each obligation; a claim's is the worst of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from harness.host.area import setup_obligations
from harness.host.checks import check_obligations
from harness.host.image import image_obligations
from harness.host.kicking import Kick
from harness.host.lists import list_obligations
from harness.host.loading import segment_obligations
from harness.host.release import release_obligations
from harness.host.waiting import wait_obligations
from harness.host.whole import whole_obligations
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Result, Verdict
from harness.x86.inputs import Inputs
from trampoline.contract import Contract
from trampoline.host_object import HostObject

ASSUMPTIONS = (
    "The platform's functions do what platform.h says of them, and keep to the ABI.",
    "Whoever else writes the host's memory or an image's list of segments takes the lock as well.",
    "Host, image and area lie apart from each other, from code and stack, and are put at one place "
    "each; no result depends on where. (Of the segments in their checks this is proved.)",
    "DF is clear at a call, and the stack has room.",
)
"""What is taken for granted, in words for reports."""


class UserMemory:
    """The memory that these obligations speak of: the user's, by virtual address. It holds what
    the solver chose, else 0."""

    def memory_at_entry(
        self, values: Mapping[str, int], unknown: Mapping[int, int]
    ) -> Callable[[int], int]:
        """The byte at an address."""
        return lambda address: unknown.get(address, 0)


EASY = 500_000
"""z3's resource units for all goals of a path at once."""


def load_obligations(host: HostObject, contract: Contract) -> tuple[Obligation, ...]:
    """Claim 10: what a load puts into memory, what it checks before, and the area's set-up.

    `contract`: of the trampoline that is put into the area. For images of any number of segments,
    and for segments of any place and size. Each loop is proved by induction. Raises Refusal.
    """
    return (
        *setup_obligations(host, contract),
        *check_obligations(host),
        *list_obligations(host),
        *image_obligations(host),
        *segment_obligations(host),
        *whole_obligations(),
    )


def kick_obligations(host: HostObject, contract: Contract) -> tuple[Obligation, ...]:
    """What a kick returns, what stands before INIT and SIPI, what its wait leaves, and a release.

    `contract`: of the trampoline that they send CPUs through. Raises Refusal.
    """
    kick = Kick(host, contract)
    return (*kick.obligations(), *wait_obligations(kick), *release_obligations(host, contract))


def decide_all(
    obligations: Iterable[Obligation], backwards: bool = False
) -> list[tuple[Obligation, Result]]:
    """Each obligation with its verdict, as from `decide` with `UserMemory`. `backwards`: they are
    decided in reverse order, and given in the same one.

    Those of one path, which have the same hypotheses, are first asked for all at once; only where
    that is not easily proved, one by one. What they took together counts in equal shares.
    """
    paths: dict[tuple[int, ...], list[Obligation]] = {}
    for obligation in obligations:
        key = tuple(hypothesis.get_id() for hypothesis in obligation.hypotheses)
        paths.setdefault(key, []).append(obligation)
    turn = -1 if backwards else 1
    judged = [_decide_path(path[::turn])[::turn] for path in list(paths.values())[::turn]]
    return [pair for path in judged[::turn] for pair in path]


def _decide_path(path: list[Obligation]) -> list[tuple[Obligation, Result]]:
    goals = {f"{number}: {one.name}": one.goal for number, one in enumerate(path)}
    satisfied = Inputs()
    together = replace(path[0], goals=goals, shown_by={})
    result = decide(together, UserMemory(), satisfied, rlimit=EASY)
    if result.verdict is not Verdict.PROVED:
        return [(one, decide(one, UserMemory(), satisfied)) for one in path]
    share = replace(result, seconds=result.seconds / len(path), rlimit=result.rlimit // len(path))
    return [(one, replace(share, obligation=one.name)) for one in path]
