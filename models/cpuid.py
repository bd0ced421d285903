# SPDX-License-Identifier: GPL-2.0-only
"""What CPUID tells about the features on which paging and modes depend.

SDM 2, CPUID; SDM 3A 4.1.4 "Enumeration of Paging Features by CPUID". Every bit of every leaf that
is not named here is open, and so is every bit of a leaf beyond the highest that the processor has
(SDM 2, CPUID: such a leaf gives the data of the highest basic one).
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
    pae: z3.BoolRef
    long_mode: z3.BoolRef
    gib_pages: z3.BoolRef
    no_execute: z3.BoolRef
    five_level: z3.BoolRef
    max_basic: z3.BitVecRef
    """32 bits: the highest basic leaf."""
    max_extended: z3.BitVecRef
    """32 bits: the highest extended leaf; less than 80000000H where there is none (by the manual
    CPUID then gives the data of the highest basic leaf, which is taken to be less)."""
    apic_id: z3.BitVecRef
    """8 bits: the initial APIC id of the CPU that asks."""

    @property
    def has_efer(self) -> z3.BoolRef:
        """SDM 4, table 2-2, IA32_EFER: there if the processor has NX or Intel 64."""
        return z3.Or(self.no_execute, self.long_mode)


def consistent(features: Features) -> z3.BoolRef:
    """What holds of every processor: a feature comes with those that it is built on.

    Intel 64 has PAE (SDM 3A 4.1.1, IA-32e paging needs CR4.PAE) and address sizes in leaf 80000008H
    (SDM 2, CPUID); the bit that names a feature is in a leaf that exists.
    """
    reaches_features = z3.UGE(features.max_extended, 0x8000_0001)
    return z3.And(
        z3.UGE(features.max_basic, 1),
        z3.ULT(features.max_basic, 0x8000_0000),
        z3.Implies(features.five_level, z3.UGE(features.max_basic, 7)),
        z3.Implies(z3.Or(features.no_execute, features.gib_pages), reaches_features),
        z3.Implies(features.long_mode, z3.UGE(features.max_extended, 0x8000_0008)),
        z3.Implies(features.long_mode, features.pae),
    )


@dataclass(frozen=True)
class Output:
    """One 32-bit output register, of which some bits are known."""

    value: z3.BitVecRef
    """32 bits; open bits are 0 here."""
    known: int
    """Mask of the bits that mean something, where the leaf exists."""
    exists: z3.BoolRef
    """The processor has the leaf."""

    def complete(self, unknown: z3.BitVecRef) -> z3.BitVecRef:
        """The register with its open bits taken from `unknown` (32 bits)."""
        return z3.If(self.exists, self.value | (unknown & ~self.known), unknown)


# (leaf, subleaf or None where it is not read, register, bit, name in Features)
_FLAGS = (
    (0x0000_0001, None, "edx", 6, "pae"),
    (0x0000_0007, 0, "ecx", 16, "five_level"),
    (0x8000_0001, None, "edx", 20, "no_execute"),
    (0x8000_0001, None, "edx", 26, "gib_pages"),
    (0x8000_0001, None, "edx", 29, "long_mode"),
)


def cpuid(leaf: int, subleaf: int, features: Features) -> dict[str, Output | None]:
    """Outputs eax, ebx, ecx, edx for EAX = `leaf`, ECX = `subleaf`; None: all of it is open."""
    outputs: dict[str, Output | None] = dict.fromkeys(("eax", "ebx", "ecx", "edx"))
    always = z3.BoolVal(True, features.long_mode.ctx)
    highest = features.max_extended if leaf >= 0x8000_0000 else features.max_basic
    exists = z3.ULE(z3.BitVecVal(leaf, 32, highest.ctx), highest)
    if leaf in (0, 0x8000_0000):
        outputs["eax"] = Output(highest, 0xFFFF_FFFF, always)
    if leaf == 0x8000_0008:
        width = z3.ZeroExt(24, field(features.maxphyaddr, 7, 0))
        outputs["eax"] = Output(width, 0xFF, exists)
    if leaf == 1:  # EBX[31:24]: initial APIC ID
        apic_id = z3.Concat(features.apic_id, z3.BitVecVal(0, 24, highest.ctx))
        outputs["ebx"] = Output(apic_id, 0xFF00_0000, exists)
    for flag_leaf, flag_subleaf, register, number, name in _FLAGS:
        if leaf == flag_leaf and flag_subleaf in (None, subleaf):
            flag: z3.BoolRef = getattr(features, name)
            mask = 1 << number
            shown = z3.If(flag, z3.BitVecVal(mask, 32, flag.ctx), z3.BitVecVal(0, 32, flag.ctx))
            before = outputs[register]
            outputs[register] = (
                Output(shown, mask, exists)
                if before is None
                else Output(before.value | shown, before.known | mask, exists)
            )
    return outputs
