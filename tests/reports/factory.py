# SPDX-License-Identifier: GPL-2.0-only
"""Records as a run leaves them: one proved claim, one finding, and variations of both."""

from __future__ import annotations

from typing import Any

from harness.record import (
    AnotherRecord,
    ClaimRecord,
    EventRecord,
    Evidence,
    GoalRecord,
    MappingRecord,
    ModeRecord,
    ObligationRecord,
    OutsideRecord,
    PageRecord,
    PictureRecord,
    RangeRecord,
    ReplayRecord,
    SafeSetRecord,
    SamplesRecord,
    ScheduleRecord,
    SecondRecord,
    SecondStartRecord,
    StepRecord,
    StretchRecord,
    TransitionRecord,
    WitnessRecord,
)
from reports.fingerprint import fingerprint

NOW = fingerprint()
AGREES = SecondRecord(
    solver="bitwuzla 0.10.0",
    hypotheses="sat",
    violation="unsat",
    seconds=0.25,
    script="0123456789abcdef.smt2",
)
NO_QEMU = "qemu-system-x86_64 not found"


def working(units: int, **changes: Any) -> ClaimRecord:
    """A proof that takes z3 so many resource units."""
    (one,) = proved().obligations
    return proved(obligations=(one.model_copy(update={"rlimit": units}),), **changes)


def proved(trampoline: str = "multikernel", claim: str = "hand_off", **changes: Any) -> ClaimRecord:
    fields: dict[str, Any] = {
        "of": NOW,
        "trampoline": trampoline,
        "summary": "The hardened trampoline.",
        "claim": claim,
        "sentence": "At the jump RIP is the kernel's address.",
        "verdict": "PROVED",
        "expected": "PROVED",
        "finding": "",
        "title": "",
        "as_expected": True,
        "reason": "",
        "seconds": 1.25,
        "assumptions": ("The CPU has long mode.",),
        "obligations": (
            ObligationRecord(
                name="rip is kernel", verdict="PROVED", seconds=0.75, rlimit=1234567, second=AGREES
            ),
        ),
        "one_way": ("check+0x1 (trampoline.S:7): `jz 0x9` is never taken",),
        "machine_rlimit": 765432,
        "witness": None,
        "samples": samples(),
        "bases": ("0x1000", "0x9b000"),
        "paths": ("jump out of the image in 64-bit mode", "halted with interrupts off"),
        "not_reached": ("0x1f0: ud2",),
    }
    return ClaimRecord(**(fields | changes))


def refuted(
    trampoline: str = "multikernel_rfc", claim: str = "kernel_identity_map", **changes: Any
) -> ClaimRecord:
    fields: dict[str, Any] = {
        "summary": "The trampoline as posted.",
        "verdict": "REFUTED",
        "expected": "REFUTED",
        "finding": "MKRFC-2",
        "title": "The kernel is mapped only to the end of its GiB",
        "witness": witness(),
        "samples": None,
    }
    return proved(trampoline, claim, **(fields | changes))


def broken(claim: str = "own_mail", **changes: Any) -> ClaimRecord:
    """Of trampoline and host together: refuted by schedules."""
    fields: dict[str, Any] = {
        "finding": "MKRFC-14",
        "title": "A CPU jumps with another attempt's mail",
        "witness": None,
        "bases": (),
        "paths": (),
        "not_reached": (),
        "one_way": (),
        "machine_rlimit": 0,
        "schedules": (schedule(), schedule("one word of each", Evidence.NOT_REPLAYABLE)),
        "transitions": (
            TransitionRecord(
                before="free", after="started", who="CPU", what="store", where="start+0x5"
            ),
            TransitionRecord(
                before="started", after="free", who="host", what="xchg", where="kick.c:29"
            ),
        ),
    }
    return refuted("multikernel_rfc", claim, **(fields | changes))


def host_broken(**changes: Any) -> ClaimRecord:
    """Of a host's code: refuted by an input of its own."""
    fields: dict[str, Any] = {
        "finding": "MKRFC-18",
        "title": "A load checks no type",
        "schedules": (),
        "goals": (GoalRecord(goal="only checked images", inputs={"type": "0"}, replay=replay()),),
    }
    return broken("load", **(fields | changes))


def schedule(shows: str = "", evidence: Evidence = Evidence.CONFIRMED) -> ScheduleRecord:
    events = (
        EventRecord(who="host", what="store kernel", where="kick.c:29"),
        EventRecord(who="CPU 1", what="SIPI", where=""),
    )
    return ScheduleRecord(shows=shows, events=events, replay=replay(evidence, reason="10 times"))


def replay(evidence: Evidence = Evidence.CONFIRMED, **changes: Any) -> ReplayRecord:
    fields: dict[str, Any] = {
        "evidence": evidence,
        "reason": "",
        "predicted": {"end": "page fault", "cr2": "0x40000000"},
        "observed": {"end": "page fault", "cr2": "0x40000000"},
    }
    return ReplayRecord(**(fields | changes))


def not_replayed(reason: str = NO_QEMU) -> ReplayRecord:
    return replay(Evidence.NOT_REPLAYED, reason=reason, observed={})


def witness(**changes: Any) -> WitnessRecord:
    fields: dict[str, Any] = {
        "inputs": {"base": "0x7000", "kernel_phys_addr": "0x3ffff000"},
        "violated": ("the page at kernel + 0x1000 is present",),
        "end": "jump to 0x3ffff000 in 64-bit mode",
        "path": (
            StepRecord(
                offset="0x11",
                mode="real",
                symbol="trampoline_data_bsp",
                source="trampoline.S:42",
                instruction="rep stosl",
                count=6144,
                changes=("mode: real -> 16-bit protected", "PML4[0] = 0x93007 (4 bytes)"),
            ),
            StepRecord(
                offset="0x162",
                mode="64-bit",
                symbol="startup_64_bsp+0x5e",
                source="trampoline.S:151",
                instruction="end: jump out of the image",
                count=0,
                changes=("violated: the page at kernel + 0x1000 is present (offset = 0x1000)",),
            ),
        ),
        "replay": replay(),
    }
    return WitnessRecord(**(fields | changes))


def two_starts(**changes: Any) -> WitnessRecord:
    """A witness of a claim that compares two starts."""
    fields: dict[str, Any] = {
        "inputs": {"RFLAGS at entry": "0x400"},
        "end": "halted with interrupts off",
        "path": witness().path[:1],
        "replay": replay(observed={"end": "halted"}),
    }
    return witness(second=SecondStartRecord(**(fields | changes)))


def another() -> WitnessRecord:
    """A witness that QEMU cannot show, and the input that was replayed in its place."""
    return witness(replay=replay(reason="by another input"), another=instead())


def instead(second: SecondStartRecord | None = None) -> AnotherRecord:
    return AnotherRecord(
        second=second,
        why="what follows depends on page tables that the host has made",
        inputs={"base": "0x200000", "cr3_at_hand_over": "0xd0100080"},
        violated=("no input ends with: #PF",),
    )


def safe_set(**changes: Any) -> SafeSetRecord:
    fields: dict[str, Any] = {
        "exact": True,
        "sentence": "It holds exactly for: the kernel's last byte below 0x1_0000_0000 (4 GiB).",
        "inside": ("last byte of the kernel below 0x1_0000_0000",),
        "outside": (
            OutsideRecord(
                box="last byte of the kernel at or above 0x1_0000_0000",
                example={"kernel_phys_addr": "0xfffff001"},
            ),
        ),
        "unknown": (),
        "seconds": 3.75,
    }
    return SafeSetRecord(**(fields | changes))


def ranges(part: str = "inside", **changes: Any) -> RangeRecord:
    fields: dict[str, Any] = {
        "quantity": "kernel_phys_addr",
        "part": part,
        "low": "0x0",
        "high": "0xffffffff",
        "alone": True,
    }
    return RangeRecord(**(fields | changes))


def picture(**changes: Any) -> PictureRecord:
    fields: dict[str, Any] = {
        "base": "0x90000",
        "size": 0x2000,
        "inputs": {"kernel_phys_addr": "0x1000000"},
        "own_tables": True,
        "pages": (
            PageRecord(start="0x1000", where=""),
            PageRecord(start="0x90000", where="entry"),
            PageRecord(start="0x91000", where="table+0x1000"),
        ),
        "modes": (
            ModeRecord(mode="real-address mode", instructions=34),
            ModeRecord(mode="64-bit mode", instructions=7),
        ),
        "stretches": (
            stretch("0x1000", "0x1008", "read", where=""),
            stretch("0x90000", "0x9008c", "fetched", mode="real-address mode"),
            stretch("0x90ffc", "0x91004", "written", where="table+0xffc"),
        ),
        "mappings": (mapping(), mapping(start="0x100000000", end="0x140000000", page=1 << 30)),
    }
    return PictureRecord(**(fields | changes))


def stretch(
    start: str, end: str, what: str, mode: str = "64-bit mode", where: str = "entry"
) -> StretchRecord:
    return StretchRecord(start=start, end=end, what=what, mode=mode, where=where)


def mapping(**changes: Any) -> MappingRecord:
    fields: dict[str, Any] = {
        "start": "0x0",
        "end": "0x100000000",
        "physical": "0x0",
        "page": 1 << 21,
        "rights": "rwx",
        "entries": "PML4[0].PDPT[0].PD[0] to PDPT[3].PD[511]",
    }
    return MappingRecord(**(fields | changes))


def samples(**changes: Any) -> SamplesRecord:
    fields: dict[str, Any] = {
        "count": 207,
        "agreed": 207,
        "contradictions": (),
        "spread": {"below 4 GiB": 99, "4..512 GiB": 108},
        "milliseconds": 1.375,
    }
    return SamplesRecord(**(fields | changes))


def no_samples(reason: str = NO_QEMU) -> SamplesRecord:
    return samples(count=0, agreed=0, spread={}, milliseconds=0.0, reason=reason)


def transition(*fields: str) -> TransitionRecord:
    return TransitionRecord(**dict(zip(TransitionRecord.model_fields, fields, strict=True)))
