# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU's CPU is like, and inputs as that CPU meets them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.qemu.job import Injection
from harness.replay.predict import Input, Prediction
from harness.x86.run import EndKind
from models.modes import Mode

FEATURES = {
    "cpu_has_long_mode": "lm",
    "cpu_has_1gib_pages": "pdpe1gb",
    "cpu_has_nx": "nx",
    "cpu_has_la57": "la57",
    "cpu_has_pae": "pae",
}
"""What a run calls a feature, and QEMU's name for it. QEMU's CPU has each unless told otherwise."""
QEMU_CPU = {
    **dict.fromkeys(FEATURES, 1),
    "cpuid_max_basic": 7,
    "cpuid_max_extended": 0x8000_0008,
    "cr0_at_entry": 0x60000000,
    "initial_apic_id": 1,
}
"""What `-cpu max` is at least, what INIT leaves in CR0 there (CD and NW set), and which CPU of the
machine is the target."""
PHYS_BITS_32 = 36  # MAXPHYADDR of QEMU's CPUs without long mode

NOT_RAISED = {
    "#GP: EFER": "QEMU lets WRMSR set bits of EFER that the CPU does not have, or ignores them",
    "#GP: CR0": "QEMU does not check all rules for CR0",
    "#GP: CR3": "QEMU hangs where reserved bits of CR3 are set",
    "#GP: CR4": "QEMU does not raise #GP for a bit of CR4 that the CPU does not have",
}
"""Faults of the manual, by the beginning of a path end's detail, that QEMU does not raise."""

UPPER_HALF = re.compile(r"(?P<register>\w+)_upper_half_\d+")
"""A run's symbols for upper halves of registers that a mode switch leaves undefined."""


def on_qemu(values: Mapping[str, int], unknown: Mapping[int, int], garbage: bytes = b"\0") -> Input:
    """The input with what describes the CPU as it is in QEMU.

    Features stay as the input has them; those that it does not speak of are there. QEMU's INIT
    zeroes all registers. Without long mode MAXPHYADDR is 36.
    """
    features = {name: values.get(name, 1) for name in FEATURES}
    entry = {name: 0 for name in values if name.endswith("_at_entry")}
    own = {**QEMU_CPU, **features}
    if not features["cpu_has_long_mode"]:
        own["maxphyaddr"] = PHYS_BITS_32
    return Input({**values, **entry, **own}, unknown, garbage)


def lacking(values: Mapping[str, int]) -> frozenset[str]:
    """QEMU's names of the features that the CPU of an input does not have."""
    return frozenset(flag for name, flag in FEATURES.items() if not values.get(name, 1))


def fault_not_raised(prediction: Prediction) -> str:
    """Why QEMU does not raise the fault that ends the path; empty if it does."""
    end = prediction.end
    if end.kind is not EndKind.SHUTDOWN:
        return ""
    reasons = (reason for fault, reason in NOT_RAISED.items() if end.detail.startswith(fault))
    return next(reasons, "")


def injection(prediction: Prediction) -> Injection | str | None:
    """How to give upper halves of registers the values of the input; None if all of them are 0.

    They become undefined on the way to 64-bit code, and QEMU leaves 0 there. A string says why
    they cannot be set.
    """
    halves: dict[str, int] = {}
    for symbol, value in prediction.given.values.items():
        if value and (found := UPPER_HALF.fullmatch(symbol)):
            if found["register"] in halves:
                return f"the upper half of {found['register'].upper()} is lost more than once"
            halves[found["register"]] = value
    trace = prediction.end.trace
    modes = [mode == Mode.LONG64.name for _, mode in trace]
    entered = [n for n, mode in enumerate(modes) if mode and not modes[n - 1]]
    if not halves or not entered:
        return None
    offset = trace[entered[0]][0]
    if len(entered) > 1 or any(where == offset for where, _ in trace[: entered[0]]):
        return "64-bit code is entered more than once, or where other code ran before"
    return Injection(prediction.given.base + offset, halves)
