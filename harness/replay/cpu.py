# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU's CPU is like, and inputs as that CPU meets them."""

from __future__ import annotations

from collections.abc import Mapping

import z3

from harness.qemu.job import Injection
from harness.replay.predict import Input, Prediction
from harness.solve.evaluate import compile_term
from harness.x86.run import EndKind, PathEnd
from harness.x86.terms import simplify, variables
from models.mode_switches import LEGACY_REGISTERS
from models.modes import ARITHMETIC_AND_DIRECTION, GENERAL_REGISTERS, Mode

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

AT_ENTRY = "_at_entry"
"""Ends the names of the symbols for what a real-mode entry finds."""
SETTABLE = {
    **{f"{register}_at_entry": 0xFFFF_FFFF for register in LEGACY_REGISTERS},
    "rflags_at_entry": ARITHMETIC_AND_DIRECTION,
}
"""What the debugger can set at a real-mode entry: which bits of which symbol."""
AFTER_INIT = {"gdtr_limit_at_entry": 0xFFFF, "idtr_limit_at_entry": 0xFFFF}
"""What QEMU's INIT does not leave 0 of what a run from any registers knows nothing of."""

KEPT = "undefined_gdtr_half"
"""Begins the names of symbols for "the upper half of GDTR.base is lost": QEMU keeps it."""

NOT_RAISED = {
    "#GP: EFER": "QEMU lets WRMSR set bits of EFER that the CPU does not have, or ignores them",
    "#GP: the CPU has no IA32_EFER": "QEMU has IA32_EFER on every CPU",
    "#GP: CR0": "QEMU does not check all rules for CR0",
    "#GP: CR3": "QEMU hangs where reserved bits of CR3 are set",
    "#GP or #SS: the segment": "QEMU does not check the limits of data segments",
    "#GP: CR4": "QEMU does not raise #GP for a bit of CR4 that the CPU does not have",
}
"""Faults of the manual, by the beginning of a path end's detail, that QEMU does not raise."""


def on_qemu(
    values: Mapping[str, int],
    unknown: Mapping[int, int],
    garbage: bytes = b"\0",
    any_registers: bool = False,
) -> Input:
    """The input with what describes the CPU as it is in QEMU.

    Features stay as the input has them; those that it does not speak of are there. QEMU's INIT
    zeroes all registers; those of a run from any registers stay as far as the debugger can set
    them. GDTR.base keeps its upper half in legacy mode. Without long mode MAXPHYADDR is 36.
    """
    features = {name: values.get(name, 1) for name in FEATURES}
    entry = {name: 0 for name in values if name.endswith(AT_ENTRY)}
    if any_registers:
        kept = {name: values.get(name, 0) & bits for name, bits in SETTABLE.items()}
        entry = {**entry, **AFTER_INIT, **kept}
    entry |= {name: 0 for name in values if name.startswith(KEPT)}
    own = {**QEMU_CPU, **features}
    if not features["cpu_has_long_mode"]:
        own["maxphyaddr"] = PHYS_BITS_32
    return Input({**values, **entry, **own}, unknown, garbage)


def lacking(values: Mapping[str, int]) -> frozenset[str]:
    """QEMU's names of the features that the CPU of an input does not have."""
    return frozenset(flag for name, flag in FEATURES.items() if not values.get(name, 1))


def fault_not_raised(prediction: Prediction) -> str:
    """Why QEMU does not raise the fault that ends the path; empty if it does."""
    return end_not_raised(prediction.end)


def end_not_raised(end: PathEnd) -> str:
    """Why QEMU does not raise the fault at an end; empty if it does, or if there is none."""
    if end.kind is not EndKind.SHUTDOWN:
        return ""
    reasons = (reason for fault, reason in NOT_RAISED.items() if end.detail.startswith(fault))
    return next(reasons, "")


def injection(prediction: Prediction) -> Injection | str | None:
    """How to give registers what the prediction has in them at entry, or where 64-bit code begins.

    Their upper halves are undefined there, and R8 to R15 may be. On the first way to 64-bit code
    QEMU leaves 0: nothing has to be done for that (None). On a way back to it QEMU keeps what
    32-bit code has not written: all is set. A string says why it cannot be set.
    """
    first, second = _at_entry(prediction), _where_64_bit_code_begins(prediction)
    if first is None or second is None or isinstance(second, str):
        return second or first
    return "registers would have to be changed at entry and where 64-bit code begins"


def _at_entry(prediction: Prediction) -> Injection | None:
    """What differs at a real-mode entry from what INIT leaves."""
    held = {name: prediction.values[name] for name in SETTABLE}
    if not any(held.values()) or not prediction.real_mode:
        return None
    registers = {register: held[f"{register}_at_entry"] for register in LEGACY_REGISTERS}
    return Injection(linear(prediction, 0), registers=registers, rflags=held["rflags_at_entry"])


def _where_64_bit_code_begins(prediction: Prediction) -> Injection | str | None:
    begins = _begins(prediction)
    if not begins:
        return None
    *others, last = begins
    for number in others:
        if register := _matters(prediction, number):
            return f"64-bit code is entered more than once, and uses {register} of an earlier time"
    again = _again(prediction, last)
    lost = {
        register: compile_term(term)(prediction.values, prediction.memory)
        for register, term in _lost(prediction, last).items()
    }
    halves = {r: half for r, half in lost.items() if not _is_whole(r, again) and (half or again)}
    whole = {register: value for register, value in lost.items() if _is_whole(register, again)}
    if not halves and not whole:
        return None
    place = linear(prediction, last)
    if any(linear(prediction, number) == place for number in range(last)):
        return "64-bit code is entered more than once, or where other code ran before"
    return Injection(place, halves, whole)


def _begins(prediction: Prediction) -> list[int]:
    """Where in the trace 64-bit code begins behind code of another mode."""
    modes = [mode == Mode.LONG64.name for _, mode in prediction.end.trace]
    return [number for number in range(1, len(modes)) if modes[number] and not modes[number - 1]]


def _again(prediction: Prediction, number: int) -> bool:
    """There was 64-bit code before this instruction of the trace."""
    return any(mode == Mode.LONG64.name for _, mode in prediction.end.trace[:number])


def _is_whole(register: str, again: bool) -> bool:
    """Where the register loses something, it loses all 64 bits, not the upper 32 only."""
    return again and register not in LEGACY_REGISTERS


def _lost(prediction: Prediction, number: int) -> dict[str, z3.BitVecRef]:
    """What 64-bit code that begins here finds in place of what got lost: in the upper half of a
    register, or in all of it. The far transfer before it has written just these registers."""
    again, values = _again(prediction, number), prediction.end.history[number].values
    return {
        register: term if _is_whole(register, again) else simplify(z3.Extract(63, 32, term))
        for register in GENERAL_REGISTERS
        if isinstance(term := values.get(register), z3.BitVecRef)
    }


def _matters(prediction: Prediction, number: int) -> str:
    """A register of which the path or its outcome depends on what it holds where 64-bit code begins
    here; empty if there is none. What QEMU leaves there, 0 the first time, does no harm."""
    end, again = prediction.end, _again(prediction, number)
    terms = [*end.path, end.state.rip, *end.state.registers.values()]
    terms += [term for record in end.memory.records for term in (record.address, record.value)]
    used = {name for term in terms for name in variables(term)}
    for register, term in _lost(prediction, number).items():
        if any(name in used and (again or prediction.values[name]) for name in variables(term)):
            return register.upper()
    return ""


def linear(prediction: Prediction, number: int) -> int:
    """The linear address of an instruction of the trace, by its number there."""
    end = prediction.end
    origin = end.history[number].origin
    start = origin.as_long() if z3.is_bv_value(origin) else prediction.given.base
    return (start + end.trace[number][0]) % (1 << 64)
