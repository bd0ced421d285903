# SPDX-License-Identifier: GPL-2.0-only
"""Random inputs to step through beside another CPU: always the same, as many for each entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count as rounds
from random import Random

from harness.lockstep.unicorn_cpu import PHYS_BITS
from harness.qemu.machine import Machine
from harness.replay.predict import Prediction, Predictor
from harness.replay.sample import randoms
from harness.replay.writes import Values
from harness.x86.execute import APIC_ID, bases
from trampoline.errors import UserError

SHARE = 0.1
"""Of the usual number of samples: so many are drawn at once, from every region of memory."""
MAX_ROUNDS = 200


def predictions(
    predictor: Predictor,
    number: int,
    own: Mapping[str, int] | None = None,
    suits: Callable[[Prediction], bool] = lambda _: True,
) -> Iterator[Prediction]:
    """What the run foretells of `number` inputs for each entry, as far as they suit.

    `own`: what the CPU beside is like, if it is not one with all features and APIC id 0, by what
    the run calls that. Raises UserError if an entry has not so many.
    """
    contract, image = predictor.contract, predictor.image
    machine = Machine(PHYS_BITS)  # never started: only its memory map is asked for
    missing = Counter(dict.fromkeys(range(len(contract.entry)), number))
    for again in rounds():
        if not missing.total():
            return
        if again == MAX_ROUNDS:
            raise UserError(
                f"{contract.name}: not {number} random inputs for each entry; ask for less."
            )
        drawn = list(randoms(predictor, bases(contract, image), machine, SHARE, again))
        Random(again).shuffle(drawn)
        for given in drawn:
            values = Values({**given.values, APIC_ID: 0, **(own or {})})
            prediction = predictor.predict(replace(given, values=values))
            if missing[prediction.end.entry] and suits(prediction):
                missing[prediction.end.entry] -= 1
                yield prediction
