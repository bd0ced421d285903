# SPDX-License-Identifier: GPL-2.0-only
"""Does a run foretell, for one input, each step that a concrete CPU takes?

Compared before each instruction: its address, general registers, flags, selectors, the hidden part
of segment registers, CR0, CR2 (0 since INIT), CR3, CR4, EFER, GDTR and IDTR; and all writes in
order. At the hand-off all of that once more; where a fault is foretold, which one, and the page in
CR2. What the manual leaves open, or what differs from CPU to CPU, is not compared: undefined flags,
upper halves and R8 to R15 outside of 64-bit code. A loop that the machine has summarised is
compared in its first and its last turn, and in all that it writes. Of a CPU whose writes are not
seen, what memory holds at the end is compared elsewhere (kvm.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.lockstep.emulated import Begin, Emulation, Step, Write, emulate
from harness.lockstep.followed import HIDDEN, Foreseen, Foretold, Part, follow
from harness.lockstep.together import together
from harness.lockstep.unicorn_cpu import SELECTORS
from harness.qemu import entry64
from harness.replay.cpu import fault_not_raised, injection
from harness.replay.platform import hand_over
from harness.replay.predict import Prediction, Predictor
from harness.solve.evaluate import compile_term
from harness.x86.run import EndKind
from models.modes import CR0_CD, CR0_ET, CR0_NW, GENERAL_REGISTERS, Mode
from trampoline.errors import UserError

MAY_LACK = frozenset(
    {
        *GENERAL_REGISTERS[8:],
        *("rflags", "cr2"),
        *(f"{name}_{part}" for name in SELECTORS for part in HIDDEN),
    }
)
"""Registers that not every CPU shows."""
FAULTS = {"#GP": (13, 12, 11), "#PF": (14,)}
"""Exceptions by how the detail of a path end begins; which of #GP, #SS and #NP it is, is not told
apart. SDM 3A 6.3, table 6-1."""
PAGE = 0x1000
NOTHING = "none"
Held = dict[str, tuple[Part, int | None]]
"""What is foretold of registers, by what is compared of them; None where that is open."""


@dataclass(frozen=True)
class Mismatch:
    """The first difference. `step`: index of the instruction on the path."""

    step: int
    offset: int  # image offset of the instruction
    what: str  # a register, flag or part of a segment register; "address", "write" or "fault"
    predicted: str
    observed: str


@dataclass(frozen=True)
class Agreement:
    """How much was compared. `end`: so was what the CPU holds at the end."""

    steps: int
    registers: int
    writes: int
    end: bool = False


def compare(predictor: Predictor, prediction: Prediction) -> Mismatch | Agreement:
    """The prediction against unicorn's CPU, with APIC id 0."""
    return against(prediction, beside(predictor, prediction))


def beside(predictor: Predictor, prediction: Prediction) -> Emulation:
    """What unicorn's CPU does with the same input."""
    given = prediction.given
    image = prediction.image_before(prediction.end.found)  # an earlier start may have left it
    tables = tuple(range(start, start + len(data)) for start, data in given.blocks)
    until = prediction.registers()["rip"] if prediction.end.kind is EndKind.HAND_OFF else 0
    begin = _begin(predictor, prediction)
    return emulate(begin, given.base, image, prediction.memory, tables, until)


def _begin(predictor: Predictor, prediction: Prediction) -> Begin:
    given, entry = prediction.given, hand_over(predictor, prediction)
    if entry is None:
        cr0 = CR0_ET | prediction.values["cr0_at_entry"] & (CR0_CD | CR0_NW)
        return Begin(given.base, cr0=cr0, long_mode=bool(given.values["cpu_has_long_mode"]))
    changed = injection(prediction)
    if isinstance(changed, str):
        raise UserError(f"{predictor.contract.name}: an input cannot be stepped through: {changed}")
    return Begin(entry.address, registers=entry64.registers(entry), later=changed)


def against(prediction: Prediction, seen: Emulation) -> Mismatch | Agreement:
    """The prediction against what a CPU did."""
    path, foretold, registers = follow(prediction.end), Foretold(prediction), 0
    held: Held = {}
    at, writes = 0, 0
    number, offset = 0, 0
    for number, step in enumerate(path.steps):
        offset = step.offset
        held |= {part.name: (part, foretold.known(part)) for part in step.parts}
        address = foretold.value(step.origin) + offset
        if at >= len(seen.steps):
            return Mismatch(number, offset, "address", f"{address:#x}", "the CPU stopped")
        so_far = writes if seen.shows_writes else None
        for what, value, found in _before(seen.steps[at], address, so_far, step.mode, held):
            registers += 1
            if value != found:
                return Mismatch(number, offset, *_words_of(what, value, found))
        for foreseen in foretold.writes(step):
            if not seen.shows_writes:
                writes += 1
                continue
            count = _turns(foreseen, seen.writes, writes) if foreseen.turns else 1
            written = together(seen.writes[writes : writes + count])
            if written is None or not _agree(foreseen, written):
                shown = NOTHING if written is None else _words(written)
                return Mismatch(number, offset, "write", _words(foreseen.write), shown)
            writes += count
        at += 1 + step.skipped
    wrong = _goes_on(prediction, seen, at) or _at_end(prediction, foretold, seen, writes)
    if isinstance(wrong, tuple):
        return Mismatch(number, offset, *wrong)
    return Agreement(len(path.steps), registers, writes, wrong)


Difference = tuple[str, str, str]
"""What differs, what was foretold of it, and what was seen."""


def _goes_on(prediction: Prediction, seen: Emulation, steps: int) -> Difference | None:
    """The CPU executes something behind the instruction at which it shall stop."""
    stops = prediction.end.kind in (EndKind.PARKED, EndKind.SHUTDOWN)
    if not stops or len(seen.steps) <= steps or fault_not_raised(prediction):
        return None
    return "end", prediction.end.kind.value, f"goes on at {seen.steps[steps].address:#x}"


def _at_end(
    prediction: Prediction, foretold: Foretold, seen: Emulation, writes: int
) -> Difference | bool:
    """The first difference at the end of the path; else whether anything was compared."""
    end, last = prediction.end, seen.last
    if last is None or end.kind not in (EndKind.HAND_OFF, EndKind.PARKED, EndKind.SHUTDOWN):
        return False
    if end.kind is EndKind.SHUTDOWN:
        if fault_not_raised(prediction):
            return False
        return seen.died or _fault(prediction, foretold, seen) or True
    if end.kind is EndKind.HAND_OFF:
        path = follow(end)
        assert path.rip is not None
        held = {part.name: (part, foretold.known(part)) for part in path.parts}
        so_far = writes if seen.shows_writes else None
        for what, foretold_value, value in _before(
            last, foretold.value(path.rip), so_far, end.mode, held
        ):
            if foretold_value != value:
                return _words_of(what, foretold_value, value)
    elif seen.fault is not None or seen.died or (seen.shows_writes and last.writes != writes):
        return "end", f"halted after {writes} writes", _ended(seen)
    return True


def _fault(prediction: Prediction, foretold: Foretold, seen: Emulation) -> Difference | None:
    detail = prediction.end.detail
    numbers = next(n for begin, n in FAULTS.items() if detail.startswith(begin))
    if seen.fault not in numbers:
        return "fault", detail, _ended(seen)
    address = prediction.end.address
    if address is not None and seen.last is not None:
        page, cr2 = (
            foretold.value(compile_term(address)) & -PAGE,
            seen.last.registers["cr2"] & -PAGE,
        )
        if page != cr2:
            return "cr2", f"in the page at {page:#x}", f"in the page at {cr2:#x}"
    return None


def _ended(seen: Emulation) -> str:
    assert seen.last is not None
    how = "no fault" if seen.fault is None else f"exception {seen.fault}"
    how = "a shutdown" if seen.died else how
    return f"{how} at {seen.last.address:#x}, after {len(seen.writes)} writes"


def _before(
    step: Step, address: int, writes: int | None, mode: Mode, held: Held
) -> Iterator[tuple[str, int, int]]:
    """What is compared where the CPU comes to an address: its name, the value foretold, and the
    CPU's. What is behind a difference in the first two means nothing. `writes`: None if the CPU
    does not show them."""
    yield "address", address, step.address
    if writes is not None:
        yield "write", writes, step.writes
    shown = (1 << step.other_bits) - 1
    for part, value in held.values():
        if value is None or (part.only_64 and mode is not Mode.LONG64):
            continue
        if part.low + part.width > step.bits and part.register in GENERAL_REGISTERS:
            continue
        if part.register not in MAY_LACK or part.register in step.registers:
            yield part.name, value & shown, part.seen(step.registers[part.register]) & shown


def _words_of(what: str, foretold: int, seen: int) -> Difference:
    if what == "write":
        return what, f"{foretold} so far", f"{seen} so far"
    return what, f"{foretold:#x}", f"{seen:#x}"


def _turns(foreseen: Foreseen, seen: Sequence[Write], first: int) -> int:
    """How many writes, from the first one on, have as many bytes together as a repeated string
    instruction is to write."""
    rest, at = foreseen.write[1], first
    while rest > 0 and at < len(seen):
        rest, at = rest - seen[at][1], at + 1
    return at - first


def _agree(foreseen: Foreseen, found: Write) -> bool:
    address, size, value = foreseen.write
    return found[:2] == (address, size) and (found[2] ^ value) & ~foreseen.open_bits == 0


def _words(write: Write) -> str:
    address, size, value = write
    return f"{size} byte{'s' if size > 1 else ''} at {address:#x}: {value:#x}"
