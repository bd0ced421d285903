# SPDX-License-Identifier: GPL-2.0-only
"""Replay one input in QEMU and compare the whole outcome with the prediction."""

from __future__ import annotations

from collections.abc import Mapping

from harness.qemu.job import Job, Outcome, OutcomeKind
from harness.qemu.machine import Machine
from harness.qemu.protocol import P
from harness.record import Evidence, ReplayRecord
from harness.replay.predict import Input, Prediction, Predictor
from harness.x86.run import EndKind
from models.modes import RFLAGS_IF
from models.paging import Access
from trampoline.contract import Contract

PAGE = 0x1000
PAYLOAD = 512  # bytes of the payload's code, at most
CONVENTIONAL_END = 0xA0000  # first physical address of video memory
ACCESSED_DIRTY = 0x60  # of a paging-structure entry; the CPU sets them
QEMU_CPU = {
    "cpu_has_pae": 1,
    "cpu_has_long_mode": 1,
    "cpu_has_1gib_pages": 1,
    "cpu_has_nx": 1,
    "cpu_has_la57": 1,
    "cpuid_max_basic": 7,
    "cpuid_max_extended": 0x8000_0008,
    "cr0_at_entry": 0x60000000,
}
"""What `-cpu max` is at least, and what INIT leaves in CR0 there: CD and NW set."""
FAILED = frozenset(OutcomeKind) - {OutcomeKind.HAND_OFF}


def on_qemu(values: Mapping[str, int], unknown: Mapping[int, int], garbage: bytes = b"\0") -> Input:
    """The input with everything that describes the CPU as it is in QEMU.

    QEMU's INIT zeroes upper halves, so symbols for them become 0, too.
    """
    cpu = {name: 0 for name in values if "upper_half" in name or name.endswith("_at_entry")}
    return Input({**values, **cpu, **QEMU_CPU}, unknown, garbage)


def obstacle(machine: Machine, prediction: Prediction) -> str:
    """Why an input cannot be replayed on this machine; empty if it can."""
    given, length = prediction.given, len(prediction.entry)
    kernel = given.values["kernel_phys_addr"]
    if given.values["maxphyaddr"] != machine.phys_bits:
        return f"QEMU runs with MAXPHYADDR {machine.phys_bits}"
    if given.base + length > CONVENTIONAL_END:
        return "the image would reach into video memory"
    if prediction.end.kind is EndKind.HAND_OFF and not machine.has_ram(kernel, PAYLOAD):
        return f"QEMU has no RAM for a kernel at {kernel:#x}"
    if machine.has_ram(kernel, PAYLOAD) and _meet(kernel, PAYLOAD, given.base, length):
        return "the payload would overwrite the image"
    return ""


def _meet(a: int, a_length: int, b: int, b_length: int) -> bool:
    return a < b + b_length and b < a + a_length


def replay(
    contract: Contract,
    predictor: Predictor,
    machine: Machine,
    given: Input,
    probes: tuple[int, ...] = (),
) -> ReplayRecord:
    """Replay an input and say whether QEMU does what was predicted. Addresses are linear."""
    prediction = predictor.predict(given)
    if reason := obstacle(machine, prediction):
        return ReplayRecord(
            evidence=Evidence.NOT_REPLAYABLE, reason=reason, predicted={}, observed={}
        )
    status = given.base + predictor.image.symbols[contract.status.word]
    refused = contract.status.refused
    outcome = machine.replay(
        Job(
            image=prediction.entry,
            base=given.base,
            kernel=given.values["kernel_phys_addr"],
            boot_params=given.values["boot_params_phys_addr"],
            probes=probes,
            dumps=((given.base, len(prediction.entry)),),
            place_payload=machine.has_ram(given.values["kernel_phys_addr"], PAYLOAD),
            status_address=status if refused else None,
            refusals=refused.values if refused else (),
        )
    )
    kinds, done = expected(prediction, probes)
    differences, predicted, observed = _compare(
        contract, predictor, prediction, kinds, done, outcome
    )
    return ReplayRecord(
        evidence=Evidence.CONTRADICTED if differences else Evidence.CONFIRMED,
        reason="; ".join(differences),
        predicted=predicted,
        observed=observed,
    )


def expected(
    prediction: Prediction, probes: tuple[int, ...]
) -> tuple[frozenset[OutcomeKind], int | None]:
    """The outcomes that the prediction allows, and how many probes complete."""
    kind = prediction.end.kind
    if kind is not EndKind.HAND_OFF:
        simple = {
            EndKind.SHUTDOWN: frozenset({OutcomeKind.SHUTDOWN}),
            EndKind.PARKED: frozenset({OutcomeKind.PARKED}),
            EndKind.SPINNING: frozenset({OutcomeKind.HANG}),
        }
        return simple.get(kind, FAILED), None  # elsewhere all is allowed but success

    def mapped(start: int, length: int, access: Access) -> bool:
        return prediction.mapped(start, access) and prediction.mapped(start + length - 1, access)

    kernel = prediction.registers()["rip"]
    if not prediction.mapped(kernel, Access.FETCH):
        return frozenset({OutcomeKind.SHUTDOWN}), None
    own = mapped(P["CONTROL"], PAGE, Access.READ) and mapped(P["REPORT"], PAGE, Access.WRITE)
    if not own or not mapped(kernel, PAYLOAD, Access.FETCH):
        return frozenset({OutcomeKind.SHUTDOWN, OutcomeKind.SHUTDOWN_AFTER_HAND_OFF}), None
    loads = (prediction.registers()["rsi"], *probes)
    for number, address in enumerate(loads):
        if not mapped(address, 8, Access.READ):
            return frozenset({OutcomeKind.SHUTDOWN_AFTER_HAND_OFF}), max(number - 1, 0)
    return frozenset({OutcomeKind.HAND_OFF}), len(probes)


def _compare(
    contract: Contract,
    predictor: Predictor,
    prediction: Prediction,
    kinds: frozenset[OutcomeKind],
    done: int | None,
    outcome: Outcome,
) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Differences, and what was predicted and observed, for the report."""
    wanted = "any failure" if kinds == FAILED else " or ".join(sorted(kinds))
    predicted, observed = {"outcome": wanted}, {"outcome": str(outcome.kind)}
    differences = [] if outcome.kind in kinds else [f"outcome: {outcome.kind}"]
    if done is not None:
        predicted["probes completed"] = str(done)
        observed["probes completed"] = str(outcome.probes_done)
        if outcome.kind in kinds and outcome.probes_done != done:
            differences.append("another probe faults")
    if outcome.registers:
        registers = prediction.registers()
        for name, value in registers.items():
            seen = outcome.registers[name]
            if name in ("rip", "rsi", "cr0", "cr3", "cr4", "efer", "cs", "ds", "gdtr_base"):
                predicted[name], observed[name] = hex(value), hex(seen)
            if value != seen:
                predicted[name], observed[name] = hex(value), hex(seen)
                differences.append(f"{name}: {seen:#x} instead of {value:#x}")
        if outcome.registers["rflags"] & RFLAGS_IF:
            differences.append("interrupts are on")
        if not outcome.loads_match():
            differences.append("a load reads other bytes than those at its physical address")
    if kinds != FAILED:
        differences += _compare_image(contract, predictor, prediction, outcome)
        offset = predictor.image.symbols[contract.status.word]
        after = prediction.image_after
        predicted["status word"] = f"{int.from_bytes(after[offset : offset + 4], 'little'):#x}"
        seen_bytes = outcome.memory[0][offset : offset + 4]
        observed["status word"] = f"{int.from_bytes(seen_bytes, 'little'):#x}"
    return differences, predicted, observed


def _compare_image(
    contract: Contract, predictor: Predictor, prediction: Prediction, outcome: Outcome
) -> list[str]:
    """Every byte of the image after the run, page tables modulo accessed and dirty flags.

    QEMU does not set the accessed flag of a code descriptor on a far return.
    """
    seen, wanted = bytearray(outcome.memory[0]), bytearray(prediction.image_after)
    symbols = predictor.image.symbols
    tables = range(symbols[contract.tables.start], symbols[contract.tables.end], 8)
    not_accessed_dirty = bytes(byte & ~ACCESSED_DIRTY & 0xFF for byte in range(256))
    for data in (seen, wanted):
        flags = data[tables.start : tables.stop : 8].translate(not_accessed_dirty)
        data[tables.start : tables.stop : 8] = flags
        for offset in prediction.accessed_flags():
            data[offset] |= 1
    if seen == wanted:
        return []
    offset = next(i for i, (a, b) in enumerate(zip(seen, wanted, strict=True)) if a != b)
    return [f"image byte {offset:#x}: {seen[offset]:#x} instead of {wanted[offset]:#x}"]
