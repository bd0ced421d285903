# SPDX-License-Identifier: GPL-2.0-only
"""The target CPU's process, from the accesses that the symbolic machine recorded.

Each path of the run is a sequence of events in program order. Paths that begin alike share their
locations; where they part after a locked access, the edges say whether it found what it expected,
and elsewhere anything may decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import z3

from harness.x86.lift import MAX_LENGTH, lift
from harness.x86.memory import Write, overlap
from harness.x86.prover import Prover
from harness.x86.run import PAGED, Access, EndKind, PathEnd, Run
from harness.x86.terms import const, index_symbol, number
from models.modes import Mode
from models.process import Edge, Kind, Location, Process, Value
from trampoline.contract import Contract
from trampoline.errors import UserError
from trampoline.image import MAILBOX_WORD_SIZE, STATUS_WORD_SIZE, Image

SERIALIZING = frozenset(
    {"CPUID", "WBINVD", "INVD", "LGDT", "LIDT", "LLDT", "LTR", "WRMSR", "IRET", "MFENCE"}
)
"""These wait until the store buffer is empty (SDM 3A 8.3 "Serializing Instructions"; 8.2.5 for
MFENCE). So does a MOV to a control register."""


class ProcessError(UserError):
    """The code does something to shared memory that a process cannot say."""


@dataclass(frozen=True)
class Event:
    """One action of a path; equal events of two paths are the same location."""

    instruction: int  # byte offset in the image
    kind: Kind
    word: str = ""
    value: Value | None = None
    expected: Value | None = None
    paged: bool = False
    fault: bool = False


@dataclass
class _Node:
    """A location under construction: what follows, by what was read."""

    event: Event
    after: list[tuple[tuple[str, tuple[Value, ...]] | None, _Node]] = field(default_factory=list)


def process_of(contract: Contract, image: Image, run: Run) -> Process:
    """What a CPU does from SIPI to the jump or the end of its way. Raises ProcessError."""
    if run.lost:
        raise ProcessError(f"{contract.name}: {run.lost}; no process without all paths.")
    reader = _Reader(contract, image, run)
    roots: list[tuple[tuple[str, tuple[Value, ...]] | None, _Node]] = []
    for end in run.ends:
        if end.kind is EndKind.UNSUPPORTED:
            raise ProcessError(f"{contract.name}: {end.detail}; no process without all paths.")
        if end.kind is EndKind.WAITING:
            raise ProcessError(f"{contract.name}: a loop that waits, which no process can say.")
        here, when = roots, None
        for event, answer in reader.events(end):
            node = next((n for w, n in here if n.event == event and w == when), None)
            if node is None:
                node = _Node(event)
                here.append((when, node))
            here, when = node.after, answer
    if len(roots) != 1:
        raise ProcessError(f"{contract.name}: not every path begins with the same shared access.")
    return Process("CPU", tuple(_numbered(roots[0][1], image)))


def _numbered(root: _Node, image: Image) -> list[Location]:
    """The tree as locations, each with its number."""
    nodes = [root]
    for node in nodes:  # grows while it is read
        nodes += [child for _, child in node.after]
    numbers = {id(node): number for number, node in enumerate(nodes)}
    return [
        Location(
            kind=node.event.kind,
            edges=tuple(Edge(numbers[id(child)], when) for when, child in node.after),
            word=node.event.word,
            value=node.event.value,
            expected=node.event.expected,
            paged=node.event.paged,
            place=_place(image, node.event.instruction),
            fault=node.event.fault,
            addresses=(node.event.instruction,),
        )
        for node in nodes
    ]


def _repeats(last: Event, event: Event) -> bool:
    """One store to the tables, or one fence, stands for all that follow each other."""
    same = (event.kind, event.word, event.paged) == (last.kind, last.word, last.paged)
    return same and (event.word == "tables" or event.kind is Kind.FENCE)


def _place(image: Image, offset: int) -> str:
    """The symbol at or before an instruction, and how far behind it."""
    symbol, at = max(
        ((name, at) for name, at in image.symbols.items() if at <= offset), key=lambda pair: pair[1]
    )
    return f"{symbol}+{offset - at:#x}" if offset != at else symbol


class _Reader:
    """Turns the accesses of a path into events."""

    def __init__(self, contract: Contract, image: Image, run: Run) -> None:
        self._contract = contract
        self._image = image
        self._prover = Prover(run.hypotheses)
        symbols, mailbox = image.symbols, contract.shared
        self._words = {
            symbols[contract.shared.status.word]: ("status", STATUS_WORD_SIZE),
            symbols[mailbox.kernel]: ("kernel", MAILBOX_WORD_SIZE),
            symbols[mailbox.boot_params]: ("boot_params", MAILBOX_WORD_SIZE),
        }
        self._apic_id = z3.ZeroExt(24, run.features.apic_id)

    def events(self, end: PathEnd) -> Iterator[tuple[Event, tuple[str, tuple[Value, ...]] | None]]:
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
                if last is not None and _repeats(last, event):
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
    ) -> Iterator[tuple[Event, tuple[str, tuple[Value, ...]] | None]]:
        if self._drains(end, instruction):
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

    def _drains(self, end: PathEnd, offset: int) -> bool:
        mode = next(name for at, name in end.trace if at == offset)
        data = self._image.data[offset : offset + MAX_LENGTH]
        instruction = lift(data, offset, Mode[mode].bits)
        if instruction.mnemonic in SERIALIZING:
            return True
        outputs = [op.output.name for op in instruction.ops if op.output is not None]
        return instruction.mnemonic == "MOV" and any(n in ("CR0", "CR3", "CR4") for n in outputs)

    def _word(self, end: PathEnd, access: Access) -> str:
        """The word that an access is to, all of it; "tables" if it is to none of the others."""
        first = access.linear + index_symbol * access.stride
        for offset, (word, size) in self._words.items():
            place = end.memory.base.at(offset)
            if end.memory.base.offset_of(access.linear) == offset and access.size == size:
                return word
            meets = z3.And(
                z3.ULT(index_symbol, access.count),
                overlap(Write(place, size, const(0, 8 * size)), first, access.size),
            )
            if self._prover.possible(end.path, meets):
                raise ProcessError(
                    f"{self._at(access.instruction)}: an access that may meet part of the {word} "
                    "word; make it one access to the whole word."
                )
        return "tables"

    def _value(self, term: z3.BitVecRef, instruction: int) -> Value:
        if (value := number(z3.simplify(term))) is not None:
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
        return f"{self._contract.name}: {_place(self._image, instruction)}"
