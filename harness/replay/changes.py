# SPDX-License-Identifier: GPL-2.0-only
"""What one instruction changes for one concrete input, in words.

The terms that the run recorded are evaluated: the input is not executed once more. So the story
tells the very path that was proved on, with the same undefined values, and cannot differ from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import z3

from harness.replay.places import Places
from harness.replay.predict import Prediction
from harness.replay.symbolic import in_words
from harness.replay.writes import Values
from harness.solve.evaluate import compile_term
from harness.x86.run import Access, PathEnd
from harness.x86.terms import ENTRY_MEMORY, INDEX, VECTOR, number, simplify, variables
from models import modes
from models.descriptors import Segment
from models.modes import GENERAL_REGISTERS, Mode

Registers = Mapping[str, z3.BitVecRef | Segment]
FLAGS = {
    "cr0": {name: getattr(modes, f"CR0_{name}") for name in ("PE", "WP", "NW", "CD", "PG")},
    "cr4": {"PAE": modes.CR4_PAE, "LA57": modes.CR4_LA57},
    "efer": {"LME": modes.EFER_LME, "LMA": modes.EFER_LMA, "NXE": modes.EFER_NXE},
}
"""Bits of control registers that are named when they change."""
POINTERS = ("gdtr", "idtr")
LOW_HALF = 0xFFFF_FFFF
NOT_FIXED = " (not fixed by the witness)"
"""Follows a value that depends on something that the witness leaves open, and that is 0 here."""


class Concrete:
    """Values of terms for the input of a prediction."""

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._fixed = {*prediction.given.values, str(ENTRY_MEMORY), INDEX}

    def value(self, term: z3.ExprRef, index: int = 0) -> int:
        """Unsigned, 0 or 1 for a condition; `index` is the iteration of a loop."""
        if z3.is_bv(term) and (known := number(term)) is not None:
            return known
        values = Values({**self._prediction.values, INDEX: index})
        return compile_term(term)(values, self._prediction.memory)

    def place(self, term: z3.BitVecRef, places: Places) -> str:
        """The symbol that the term's value points to, if it moves with the base: "" if not.

        A number that does not move only looks like an address.
        """
        value, values = self.value(term), self._prediction.values
        if VECTOR not in variables(term):
            return ""
        moved = compile_term(term)(
            Values({**values, VECTOR: values[VECTOR] ^ 1}), self._prediction.memory
        )
        follows = moved - ((values[VECTOR] ^ 1) << 12) == value - (values[VECTOR] << 12)
        return f" ({name})" if follows and (name := places.symbol(value)) else ""

    def remark(self, term: z3.ExprRef) -> str:
        """NOT_FIXED where that is so, else "". Bytes of memory that the witness lacks are 0."""
        return "" if variables(term).keys() <= self._fixed else NOT_FIXED


def registers_at_end(end: PathEnd) -> Registers:
    """The registers that a history speaks of, as they are when the path ends."""
    state = end.state
    return {
        **state.registers,
        **vars(state.control),
        **state.segments,
        **{"gdtr_base": state.gdtr_base, "gdtr_limit": state.gdtr_limit},
    }


class RegisterChanges:
    """Follows the registers from entry to entry of a path's history."""

    def __init__(self, concrete: Concrete, places: Places, at_entry: Registers) -> None:
        self._concrete = concrete
        self._places = places
        self._terms = dict(at_entry)
        self._held = {name: self._values(value) for name, value in at_entry.items()}
        # General registers that depend on something that the witness leaves open.
        self._loose = self._open_now(GENERAL_REGISTERS, Mode.REAL16)

    def _values(self, value: z3.BitVecRef | Segment) -> tuple[int, ...]:
        if isinstance(value, Segment):
            parts = (value.selector, value.base, value.limit, value.long)
            return tuple(self._concrete.value(part) for part in parts)
        return (self._concrete.value(value),)

    def update(self, written: Registers, mode: Mode) -> list[str]:
        """Take over what was written. Says which values differ now; `mode` is the one afterwards.

        Outside 64-bit mode the low 32 bits of general registers are all there is.
        """
        before = dict(self._held)
        self._terms.update(written)
        self._held.update((name, self._values(value)) for name, value in written.items())
        differs = {name for name in written if self._held[name] != before.get(name)}
        general = [name for name in GENERAL_REGISTERS if name in written]
        seen = [
            name
            for name in general
            if name in differs
            and (mode is Mode.LONG64 or (self._held[name][0] ^ before[name][0]) & LOW_HALF)
        ]
        found = [self._general(name, mode) for name in seen]
        loose = self._open_now(general, mode)
        if others := [name for name in general if name in loose - self._loose and name not in seen]:
            names = ", ".join(self._part(name, mode)[0] for name in others)
            found.append(f"{names}: not fixed by the witness from here on")
        self._loose = (self._loose - set(general)) | loose
        found += [self._segment(name, mode) for name in sorted(differs & self._segments)]
        found += [
            self._control(name, before[name][0])
            for name in ("cr0", "cr3", "cr4", "efer")
            if name in differs
        ]
        return found + [
            self._pointer(name) for name in POINTERS if {f"{name}_base", f"{name}_limit"} & differs
        ]

    @property
    def _segments(self) -> set[str]:
        return {name for name, term in self._terms.items() if isinstance(term, Segment)}

    def _general(self, name: str, mode: Mode) -> str:
        shown, term = self._part(name, mode)
        value, place = self._concrete.value(term), self._concrete.place(term, self._places)
        return f"{shown} = {_made_of(term)}{value:#x}{place}{self._concrete.remark(term)}"

    def _open_now(self, names: Iterable[str], mode: Mode) -> set[str]:
        return {name for name in names if self._concrete.remark(self._part(name, mode)[1])}

    def _part(self, name: str, mode: Mode) -> tuple[str, z3.BitVecRef]:
        """Name and value of what a mode has of a general register."""
        term = self._terms[name]
        assert not isinstance(term, Segment)
        if mode is Mode.LONG64:
            return name.upper(), term
        return f"E{name[1:].upper()}", simplify(z3.Extract(31, 0, term))

    def _segment(self, name: str, mode: Mode) -> str:
        selector, base, limit, long = self._held[name]
        hidden = f"base {base:#x}"
        if mode is not Mode.REAL16:
            hidden = "64-bit code" if long else f"{hidden}, limit {limit:#x}"
        return f"{name.upper()} = {selector:#x} ({hidden})"

    def _control(self, name: str, before: int) -> str:
        term, value = self._terms[name], self._held[name][0]
        assert not isinstance(term, Segment)
        changed = [
            f"{flag} = {int(value & mask != 0)}"
            for flag, mask in FLAGS.get(name, {}).items()
            if (value ^ before) & mask
        ]
        place = self._concrete.place(term, self._places) if name == "cr3" else ""
        flags = f" ({', '.join(changed)})" if changed else ""
        made_of = _made_of(term) if name == "cr3" else ""
        return f"{name.upper()} = {made_of}{value:#x}{place}{flags}{self._concrete.remark(term)}"

    def _pointer(self, name: str) -> str:
        (base,), (limit,) = self._held[f"{name}_base"], self._held[f"{name}_limit"]
        place = self._places.symbol(base)
        where = f"{base:#x} ({place})" if place else f"{base:#x}"
        return f"{name.upper()}: base {where}, limit {limit:#x}"


def mode_changes(before: Mode, after: Mode) -> list[str]:
    """The switch to another mode, if there is one."""
    return [] if before is after else [f"mode: {before.value} -> {after.value}"]


class MemoryChanges:
    """Says what was written to memory."""

    def __init__(self, concrete: Concrete, places: Places, prediction: Prediction) -> None:
        self._concrete = concrete
        self._places = places
        self._prediction = prediction

    def words(self, accesses: Sequence[Access]) -> Iterator[str]:
        """One line for each write among the accesses; reads are left out."""
        for access in accesses:
            if access.kind == "accessed":
                place = self._places.name(self._concrete.value(access.linear))
                value = self._concrete.value(access.value)
                yield f"{place} = {value:#x} (the CPU sets a descriptor's accessed flag)"
            elif access.kind == "store":
                yield self._range(access) if access.stride else self._single(access)

    def _single(self, access: Access) -> str:
        address = self._concrete.value(access.linear)
        value, size = self._concrete.value(access.value), access.size
        entry = self._places.table_entry(address)
        where = f" at {self._places.symbol(address)}" if entry else ""
        made_of = _made_of(access.value)
        text = f"{self._places.name(address)} = {made_of}{value:#x} ({_bytes(size)}{where})"
        was = self._prediction.image_before(access.records)[address - self._prediction.given.base :]
        old = int.from_bytes(was[:size], "little")
        if entry and access.paged and old != value:
            text += f", a table in use; was {old:#x}"
        return text + self._concrete.remark(access.value)

    def _range(self, access: Access) -> str:
        start, count = self._concrete.value(access.linear), access.count
        names = (self._places.name(start + access.stride * i) for i in (0, count - 1))
        first, last = (self._concrete.value(access.value, i) for i in (0, count - 1))
        values = (
            f"each {first:#x}"
            if INDEX not in variables(access.value)
            else (f"{first:#x} to {last:#x}")
        )
        stores = f"{count:,} stores of {_bytes(access.size)}, {access.stride:#x} apart"
        return f"{' to '.join(names)}: {stores}: {values}{self._concrete.remark(access.value)}"


def _made_of(term: z3.ExprRef) -> str:
    """What stands before a value: the term, if it is short; "" of a number."""
    return f"{words} = " if (words := in_words(term)) else ""


def _bytes(size: int) -> str:
    return f"{size} byte{'s' if size > 1 else ''}"
