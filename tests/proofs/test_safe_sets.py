# SPDX-License-Identifier: GPL-2.0-only
"""In which quantities the safe sets of the RFC's trampoline are described."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from harness.solve.evaluate import compile_term
from harness.solve.obligation import Obligation
from harness.x86.execute import execute
from harness.x86.terms import VECTOR, index_symbol
from proofs.safe import describe
from proofs.subject import SIZE, Subject
from proofs.test_frame import test_stack as stack_claim
from proofs.test_identity_map import test_boot_params_identity_map as boot_params_claim
from proofs.test_no_fault import test_no_fault as no_fault_claim
from proofs.written import written
from trampoline.contract import load_contract
from trampoline.image import load_image

RFC = Path(__file__).resolve().parents[2] / "trampoline" / "multikernel_rfc" / "contract.toml"
GIB = 1 << 30
DEFAULTS = {
    "kernel_phys_addr": 16 << 20,
    "boot_params_phys_addr": 0x20000,
    "maxphyaddr": 40,
    VECTOR: 0x90,
    "cpu_has_long_mode": 1,
    "cpu_has_pae": 1,
    "cpu_has_1gib_pages": 1,
    "cpu_has_nx": 1,
}


@pytest.fixture(scope="module")
def rfc() -> Subject:
    contract = load_contract(RFC)
    image = load_image(contract)
    return Subject(contract, image, execute(contract, image))


def claim(subject: Subject, ask: object) -> list[Obligation]:
    obligations: list[Obligation] = []
    ask(subject, lambda name, *parts, gaps=(): obligations.extend(parts))  # type: ignore[operator]
    return obligations


def test_a_claim_that_no_path_faults_speaks_of_all_that_decides_the_path(rfc: Subject) -> None:
    found = describe(rfc, claim(rfc, no_fault_claim), DEFAULTS)
    assert found.exact
    assert found.sentence == (
        "It holds exactly for: the CPU has long mode, upper half of RSI in 64-bit mode = 0x0, "
        "kernel_phys_addr below 0x8000_0000_0000 (128 TiB)."
    )


def test_a_claim_that_holds_because_nothing_is_handed_over_is_said_to(rfc: Subject) -> None:
    found = describe(rfc, claim(rfc, stack_claim), DEFAULTS)
    assert found.sentence == (
        "It holds exactly for: the CPU has no long mode. None of these inputs is handed over."
    )


def test_the_region_that_the_stray_table_entry_takes_makes_the_set_exact(rfc: Subject) -> None:
    found = describe(rfc, claim(rfc, boot_params_claim), DEFAULTS)
    assert (found.exact, found.unknown) == (True, ())
    assert found.sentence.startswith("Of the inputs that are handed over, it holds exactly for: ")
    region = "2 MiB region number (kernel_phys_addr / 1 GiB - 512)"
    assert any(f"boot_params misses {region}" in box for box in found.inside)
    (stray,) = (part for part in found.outside if part.box == f"boot_params meets {region}")
    kernel = int(stray.example["kernel_phys_addr"], 16)
    first = int(stray.example["boot_params_phys_addr"], 16)
    assert (kernel // GIB - 512) in (first >> 21, (first + 0xFFF) >> 21)


def test_written_bytes_are_named_and_none_is_left_out(rfc: Subject) -> None:
    parts = written(rfc)
    assert [part.name for part in parts] == [
        "what is always written",
        "base + 0x8000..0x8fff",
        "the 8 bytes where the store at startup_64_bsp+0x30 would write",
    ]
    assert parts[0].note.startswith("What is always written: 0x11e8..0x11ef, base + 0x182..0x185, ")
    assert parts[0].note.endswith(" and base + 0x2000..0x7fff")
    assert parts[1].note == ""
    for end in rfc.hand_offs:
        for access in rfc.writes(end):
            for number in {0, access.count - 1}:
                iteration = z3.BitVecVal(number, 64)
                first = z3.substitute(
                    access.linear + index_symbol * access.stride, (index_symbol, iteration)
                )
                named = compile_term(z3.Or(*(part.meets(first, access.size) for part in parts)))
                for kernel in (16 << 20, 5 * GIB, 700 * GIB, 3072 * GIB):
                    values = {VECTOR: 0x1, "kernel_phys_addr": kernel}
                    assert named(values, lambda address: 0)


@pytest.mark.parametrize(
    ("kernel", "size", "meets"),
    [
        (0x11E7, 1, False),
        (0x11E7, 2, True),
        (0x11EF, 1, True),
        (0x11F0, 1, False),
        (0x51B4, 1, False),
        (0x51B5, 1, True),
        (0x51B6, 0xE4A, True),
        (0x6FFF, 1, False),
        (0xCFFF, 1, True),
        (0xD000, GIB, False),
        (0, GIB, True),
    ],
)
def test_a_range_meets_what_is_written_from_its_first_to_its_last_byte(
    rfc: Subject, kernel: int, size: int, meets: bool
) -> None:
    always = compile_term(written(rfc)[0].meets(rfc.kernel, SIZE))
    values = {VECTOR: 0x5, "kernel_phys_addr": kernel, str(SIZE): size}
    assert always(values, lambda address: 0) is int(meets)
