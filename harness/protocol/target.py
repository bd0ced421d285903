# SPDX-License-Identifier: GPL-2.0-only
"""The target CPU's process, from the accesses that the symbolic machine recorded.

Where paths part after a locked access, the edges say whether it found what it expected, and
elsewhere anything may decide: see `harness.protocol.tree`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import z3

from harness.protocol.tree import (
    Event,
    Ways,
    When,
    drains,
    follow,
    instruction_at,
    numbered,
    place,
    repeats,
)
from harness.x86.memory import Write, overlap
from harness.x86.prover import prover_of
from harness.x86.run import PAGED, Access, EndKind, PathEnd, Run
from harness.x86.terms import const, index_symbol, number, simplify
from models.modes import Mode
from models.process import Kind, Process, Value
from trampoline.contract import Contract
from trampoline.errors import UserError
from trampoline.image import MAILBOX_WORD_SIZE, STATUS_WORD_SIZE, Image


class ProcessError(UserError):
    """The code does something to shared memory that a process cannot say."""


def process_of(contract: Contract, image: Image, run: Run) -> Process:
    """What a CPU does from SIPI to the jump or the end of its way. Raises ProcessError."""
    if run.lost:
        raise ProcessError(f"{contract.name}: {run.lost}; no process without all paths.")
    reader = _Reader(contract, image, run)
    roots: Ways = []
    for end in run.ends:
        if end.kind is EndKind.UNSUPPORTED:
            raise ProcessError(f"{contract.name}: {end.detail}; no process without all paths.")
        if end.kind is EndKind.WAITING:
            raise ProcessError(f"{contract.name}: a loop that waits, which no process can say.")
        here: Ways = roots
        when: When = None
        for event, answer in reader.events(end):
            here, when = follow(here, when, event).after, answer
    if len(roots) != 1:
        raise ProcessError(f"{contract.name}: not every path begins with the same shared access.")
    return Process("CPU", numbered([roots[0][1]], image))


class _Reader:
    """Turns the accesses of a path into events."""

    def __init__(self, contract: Contract, image: Image, run: Run) -> None:
        self._contract = contract
        self._image = image
        self._prover = prover_of(run)
        symbols, mailbox = image.symbols, contract.shared
        self._words = {
            symbols[contract.shared.status.word]: ("status", STATUS_WORD_SIZE),
            symbols[mailbox.kernel]: ("kernel", MAILBOX_WORD_SIZE),
            symbols[mailbox.boot_params]: ("boot_params", MAILBOX_WORD_SIZE),
        }
        self._apic_id = z3.ZeroExt(24, run.features.apic_id)

    def events(self, end: PathEnd) -> Iterator[tuple[Event, When]]:
        """The events of a path in program order, each with what its read gave there."""
        last: Event | None = None
        loaded: list[str] = []
        for step, (instruction, mode_name) in enumerate(end.trace):
            first = end.history[step].accesses
            more = step + 1 < len(end.history)
            accesses = end.accesses[first : end.history[step + 1].accesses if more else None]
            paged = Mode[mode_name] in PAGED
            for event, answer in self._of_instruction(end, instruction, paged, accesses):
                if event.kind is Kind.LOAD and event.word in ("kernel", "boot_params"):
                    loaded.append(event.word)
                if last is not None and repeats(last, event):
                    continue
                last = event
                yield event, answer
        paged = end.mode in PAGED
        if end.kind is EndKind.HAND_OFF:
            if sorted(loaded) != ["boot_params", "kernel"]:
                raise ProcessError(
                    f"{self._contract.name}: a path jumps and has read {loaded or 'nothing'} of "
                    "the mailbox; each word must be read once."
                )
            yield Event(end.instruction, Kind.JUMP, paged=paged), None
        else:
            fault = end.kind is not EndKind.PARKED
            yield Event(end.instruction, Kind.PARK, paged=paged, fault=fault), None

    def _of_instruction(
        self, end: PathEnd, instruction: int, paged: bool, accesses: Sequence[Access]
    ) -> Iterator[tuple[Event, When]]:
        mode = next(name for at, name in end.trace if at == instruction)
        if drains(instruction_at(self._image, instruction, mode)):
            yield Event(instruction, Kind.FENCE, paged=paged), None
        for access in accesses:
            word = self._word(end, access)
            if access.kind == "locked" and access.expected is None:
                raise ProcessError(
                    f"{self._at(instruction)}: a locked access that is no compare-and-exchange."
                )
            if word == "tables" and access.seen is not None:
                raise ProcessError(f"{self._at(instruction)}: a shared word with no name.")
            if word == "tables":
                if access.writes:  # what it reads there is its own
                    yield Event(instruction, Kind.STORE, word, paged=paged), None
                continue
            kind = {"load": Kind.LOAD, "store": Kind.STORE, "locked": Kind.COMPARE_EXCHANGE}.get(
                access.kind
            )
            if kind is None:
                raise ProcessError(f"{self._at(instruction)}: a {access.kind} access to {word}.")
            value = self._value(access.value, instruction) if access.writes else None
            expected, answer = None, None
            if access.expected is not None:
                expected = self._value(access.expected, instruction)
                found = self._answer(end, access)
                answer = (found, (expected,)) if found else None
            yield Event(instruction, kind, word, value, expected, paged), answer

    def _word(self, end: PathEnd, access: Access) -> str:
        """The word that an access is to, all of it; "tables" if it is to none of the others."""
        base = end.memory.base
        first = access.linear + index_symbol * access.stride
        known = base.offset_of(access.linear)
        alone = access.count == 1
        for offset, (word, size) in self._words.items():
            if known == offset and access.size == size:
                return word
            if known is not None and alone:
                ahead = (known - offset) % (1 << 64)
                may_meet = ahead < size or ahead > (1 << 64) - access.size
            else:
                at = Write(base.at(offset), size, const(0, 8 * size))
                there = z3.ULT(index_symbol, access.count)
                meets = z3.And(there, overlap(at, first, access.size))
                may_meet = self._prover.possible(end.path, meets)
            if may_meet:
                raise ProcessError(
                    f"{self._at(access.instruction)}: an access that may meet part of the {word} "
                    "word; make it one access to the whole word."
                )
        return "tables"

    def _value(self, term: z3.BitVecRef, instruction: int) -> Value:
        if (value := number(simplify(term))) is not None:
            return value
        shake = self._contract.shared.status.handshake
        if shake is not None and self._prover.holds((), term == shake.offered + self._apic_id):
            return "offer"
        raise ProcessError(
            f"{self._at(instruction)}: a value that is neither constant nor an offer."
        )

    def _answer(self, end: PathEnd, access: Access) -> str:
        """Whether a locked access of a path found what it expected: "is", "is not", "" if open."""
        met = access.seen == access.expected
        if not self._prover.possible(end.path, z3.Not(met)):
            return "is"
        if not self._prover.possible(end.path, met):
            return "is not"
        return ""

    def _at(self, instruction: int) -> str:
        return f"{self._contract.name}: {place(self._image, instruction)}"
