# SPDX-License-Identifier: GPL-2.0-only
"""The quantities in which safe sets are described, and where failures are likely to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import z3

from harness.solve.region import Coordinate
from harness.x86.terms import INDEX, VECTOR, const, simplify, variables
from harness.x86.translate import UPPER_HALF
from proofs.subject import OFFSET, SIZE, Subject
from proofs.written import written

GIB_SHIFT = 30
LARGE_PAGE_SHIFT = 21
FEATURES = {
    "cpu_has_long_mode": "long mode",
    "cpu_has_pae": "PAE",
    "cpu_has_1gib_pages": "1 GiB pages",
    "cpu_has_nx": "NX",
    "cpu_has_la57": "LA57",
}


@dataclass(frozen=True)
class Memory:
    """A range of memory that the host names; address and size have 64 bits."""

    name: str
    first: z3.BitVecRef
    size: z3.BitVecRef

    @property
    def last(self) -> z3.BitVecRef:
        """The address of its last byte."""
        return self.first + (self.size - 1)


def coordinates(
    subject: Subject, symbols: Mapping[str, z3.ExprRef], inputs: set[str]
) -> list[Coordinate]:
    """Plain inputs first, then what is made of them. `symbols` are all those of the claim."""
    found = list(_cpu(symbols, inputs))
    kernel, *others = _ranges(subject)
    for memory in (kernel, *others):
        if str(memory.first) in inputs:
            found.append(Coordinate(str(memory.first), memory.first))
    if (
        str(SIZE) in inputs
        and str(OFFSET) not in symbols
        and any(str(other.first) in inputs for other in others)
    ):
        # The claim speaks of ranges, not of single bytes in them: what matters is what they meet.
        return [*found, *_meetings(subject)]
    if "maxphyaddr" in inputs:
        found.append(Coordinate("MAXPHYADDR", symbols["maxphyaddr"], decimal=True))
        if str(kernel.first) in inputs:
            found.append(
                Coordinate(
                    "kernel_phys_addr below 2^MAXPHYADDR",
                    z3.LShR(kernel.first, subject.maxphyaddr) == 0,
                    otherwise="kernel_phys_addr at or above 2^MAXPHYADDR",
                )
            )
    if VECTOR in inputs:
        found.append(Coordinate("base", subject.base))
    if str(SIZE) in inputs:
        found.append(Coordinate("the kernel's last byte", kernel.last))
        crossed = _gib(kernel.last) - _gib(kernel.first)
        found.append(Coordinate("GiB lines that the kernel crosses", crossed, decimal=True))
    for other in others:
        if {str(kernel.first), str(other.first)} <= inputs:
            found += _both(kernel, other)
    return found


def landmarks(
    subject: Subject, symbols: Mapping[str, z3.ExprRef], inputs: set[str]
) -> dict[str, list[z3.ExprRef]]:
    """Where in a range, in the address space or in a loop a failure is likely to be."""
    kernel, *others = _ranges(subject)
    found: dict[str, list[z3.ExprRef]] = {
        str(OFFSET): [SIZE - 1, *(simplify(other.size - 1) for other in others)],
        "linear_address": [
            _behind_the_pdpt(kernel.first) << LARGE_PAGE_SHIFT, kernel.first,
            *(other.first for other in others), subject.base,
        ],
        INDEX: [*(_first_met(subject) if str(SIZE) in inputs else []), _gib(kernel.first)],
    }  # fmt: skip
    return {
        name: [term for term in terms if variables(term).keys() <= inputs]
        for name, terms in found.items()
        if name in symbols
    }


def _cpu(symbols: Mapping[str, z3.ExprRef], inputs: set[str]) -> Iterator[Coordinate]:
    for name, words in FEATURES.items():
        if name in inputs:
            yield Coordinate(
                f"the CPU has {words}", symbols[name], otherwise=f"the CPU has no {words}"
            )
    for name in sorted(inputs):
        if UPPER_HALF in name:
            register = name.partition("_")[0].upper()
            yield Coordinate(f"upper half of {register} in 64-bit mode", symbols[name])


def _both(kernel: Memory, boot_params: Memory) -> list[Coordinate]:
    """Where boot_params lies, as seen from the kernel."""
    region = _behind_the_pdpt(kernel.first)
    meets = [
        z3.LShR(end, LARGE_PAGE_SHIFT) == region for end in (boot_params.first, boot_params.last)
    ]
    number = "2 MiB region number (kernel_phys_addr / 1 GiB - 512)"
    found = [Coordinate("the last byte of boot_params", boot_params.last)]
    for verb, end in (("start", boot_params.first), ("end", boot_params.last)):
        where = "in the GiB in which the kernel starts"
        found.append(
            Coordinate(
                f"boot_params {verb}s {where}",
                _gib(end) == _gib(kernel.first),
                otherwise=f"boot_params does not {verb} {where}",
            )
        )
    found.append(
        Coordinate(
            f"boot_params meets {number}", z3.Or(*meets), otherwise=f"boot_params misses {number}"
        )
    )
    return found


def _meetings(subject: Subject) -> Iterator[Coordinate]:
    """Which of the bytes that hand-off paths write lie in the kernel or in boot_params."""
    for part in written(subject):
        for memory in _ranges(subject):
            yield Coordinate(
                f"{memory.name} meets {part.name}",
                part.meets(memory.first, memory.size),
                otherwise=f"{memory.name} misses {part.name}",
                note=part.note,
            )


def _first_met(subject: Subject) -> list[z3.BitVecRef]:
    """The first iteration, and that in which a loop which writes reaches a range's first byte."""
    found: dict[int, z3.BitVecRef] = {0: const(0)}
    for end in subject.hand_offs:
        for access in subject.writes(end):
            if access.count > 1:
                for memory in _ranges(subject):
                    shift = access.stride.bit_length() - 1
                    term = simplify(z3.LShR(memory.first - access.linear, shift))
                    found[term.get_id()] = term
    return list(found.values())


def _ranges(subject: Subject) -> list[Memory]:
    """The kernel, and boot_params if there is one."""
    found = [Memory("the kernel", subject.kernel, SIZE)]
    if subject.boot_params is not None:
        found.append(Memory("boot_params", *subject.boot_params_range))
    return found


def _gib(address: z3.BitVecRef) -> z3.BitVecRef:
    return z3.LShR(address, GIB_SHIFT)


def _behind_the_pdpt(kernel: z3.BitVecRef) -> z3.BitVecRef:
    """The 2 MiB region whose entry a PDPT entry for the kernel's GiB replaces from 512 GiB on.

    That is so where the page directories of the first GiBs follow the PDPT in memory.
    """
    return _gib(kernel) - 512
