# SPDX-License-Identifier: GPL-2.0-only
"""What CPUID tells about the features on which paging and modes depend.

SDM 2, CPUID; SDM 3A 4.1.4 "Enumeration of Paging Features by CPUID". Every bit of every leaf that
is not named here is open. Assumed: the leaves named here exist, as on every processor with Intel
64 (CPUID.80000000H:EAX is at least 80000008H); that leaf's own answer is open all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import z3

from models.bits import field


@dataclass(frozen=True)
class Features:
    """What a processor supports, symbolic."""

    maxphyaddr: z3.BitVecRef
    """64 bits: number of physical-address bits, at most 52."""
    long_mode: z3.BoolRef
    gib_pages: z3.BoolRef
    no_execute: z3.BoolRef
    five_level: z3.BoolRef


@dataclass(frozen=True)
class Output:
    """One 32-bit output register, of which some bits are known."""

    value: z3.BitVecRef
    """32 bits; open bits are 0 here."""
    known: int
    """Mask of the bits that mean something."""

    def complete(self, unknown: z3.BitVecRef) -> z3.BitVecRef:
        """The register with its open bits taken from `unknown` (32 bits)."""
        return self.value | (unknown & ~self.known)


# (leaf, subleaf or None where it is not read, register, bit, name in Features)
_FLAGS = (
    (0x0000_0007, 0, "ecx", 16, "five_level"),
    (0x8000_0001, None, "edx", 20, "no_execute"),
    (0x8000_0001, None, "edx", 26, "gib_pages"),
    (0x8000_0001, None, "edx", 29, "long_mode"),
)


def cpuid(leaf: int, subleaf: int, features: Features) -> dict[str, Output | None]:
    """Outputs eax, ebx, ecx, edx for EAX = `leaf`, ECX = `subleaf`; None: all of it is open."""
    outputs: dict[str, Output | None] = dict.fromkeys(("eax", "ebx", "ecx", "edx"))
    if leaf == 0x8000_0008:
        width = z3.ZeroExt(24, field(features.maxphyaddr, 7, 0))
        outputs["eax"] = Output(width, 0xFF)
    for flag_leaf, flag_subleaf, register, number, name in _FLAGS:
        if leaf == flag_leaf and flag_subleaf in (None, subleaf):
            flag: z3.BoolRef = getattr(features, name)
            mask = 1 << number
            shown = z3.If(flag, z3.BitVecVal(mask, 32, flag.ctx), z3.BitVecVal(0, 32, flag.ctx))
            before = outputs[register]
            outputs[register] = (
                Output(shown, mask)
                if before is None
                else Output(before.value | shown, before.known | mask)
            )
    return outputs
