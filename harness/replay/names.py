# SPDX-License-Identifier: GPL-2.0-only
"""The inputs of a witness by names that people use, and those of a second start apart."""

from __future__ import annotations

import re

from harness.solve.obligation import Witness
from harness.x86.terms import OTHER

_ENDING = f"_{OTHER}"
_IN_WORDS = (
    (re.compile(r"(\w+?)_upper_half_\d+"), "{name} (upper half of {0}, undefined)"),
    (re.compile(r"(\w+)_undefined_\d+"), "{name} ({0}, undefined)"),
    (re.compile(r"(\w+)_at_entry"), "{0} at entry"),
    (re.compile(r"(\w+)_at_hand_over"), "{0} at hand-over"),
    (re.compile(r"cpu_has_(\w+)"), "the CPU has {0}"),
    (re.compile(r"cpuid_max_(basic|extended)"), "{name} (highest CPUID leaf)"),
    (re.compile(r"cpuid_([0-9a-f]+)_(e[abcd]x)_\d+"), "{name} (of CPUID {0}: {1})"),
)


def in_words(name: str) -> str:
    """What an input is, where the symbol's name does not say it: `rsi_upper_half_1` is the upper
    half of RSI. Other names stay, and no two become the same."""
    for shape, words in _IN_WORDS:
        if match := shape.fullmatch(name):
            said = (part.upper().replace("_", " ") for part in match.groups())
            return words.format(*said, name=name)
    return name


def first_start(witness: Witness) -> dict[str, int]:
    """The values of all symbols but those that are the second start's alone."""
    return {name: v for name, v in witness.values.items() if not name.endswith(_ENDING)}


def second_start(witness: Witness) -> Witness | None:
    """The second of two starts that a claim compares, as one by itself; None if there is one start
    only. It violates nothing by itself."""
    own = {
        name.removesuffix(_ENDING): value
        for name, value in witness.values.items()
        if name.endswith(_ENDING)
    }
    return Witness({**witness.values, **own}, witness.entry_bytes, ()) if own else None
