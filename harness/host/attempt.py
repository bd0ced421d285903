# SPDX-License-Identifier: GPL-2.0-only
"""One attempt of a host to start a CPU: what each stop of its code means to others.

What a host keeps for itself is arbitrary when an attempt begins. Two parts of it are special: the
word `owner`, which decides from attempt to attempt and is therefore shown like a shared word; and
`taken`, an array of which nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import claripy
from claripy.ast.bool import Bool
from claripy.ast.bv import BV

from harness.host import instructions
from harness.host.instructions import CsInsn
from harness.host.locking import Deed, Lock, Touch, note, note_try
from harness.host.machine import Access, Machine, State, Stop, width
from harness.host.memory import fill
from models.process import Kind, Value
from trampoline.contract import Contract
from trampoline.host_object import HostObject
from trampoline.image import load_image

HOST, IMAGE, TRAMPOLINE, AREA = 0x1_0000_0000, 0x1_1000_0000, 0x1_2000_0000, 0x1_3000_0000
"""Where the host's structures and its view of the area are put. The code must not care."""

ERRNO_MAX = 4095
"""Errors of the platform are -4095..-1, as in Linux."""


@dataclass(frozen=True)
class Word:
    """A word that counts: its name in a process, and where it is."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Event:
    """What a stop means. `kind`: None for what others cannot see: a call of the platform (`call`,
    with its `result`), a look at an element of `taken` (`call` is "taken") or a store to one
    (`call` is "take", `result` what is stored); `arguments` is then the element's index.
    """

    kind: Kind | None
    place: str
    word: str = ""
    value: Value | None = None
    expected: Value | None = None
    call: str = ""
    result: BV | Bool | None = None
    arguments: tuple[BV, ...] = ()
    address: int | None = None  # of the instruction, or of the call, in .text


Outcome = tuple[Value | None, State]
"""A value that was read (None: any other, or nothing was read), and the state behind the event."""


@dataclass
class Attempt:
    """A host's object, its memory prepared for kick and wait, and the rules of its stops."""

    host: HostObject
    contract: Contract
    by_value: bool = True  # whether a read has one outcome for each value, or one in all
    machine: Machine = field(init=False)
    words: tuple[Word, ...] = field(init=False)

    def __post_init__(self) -> None:
        image = load_image(self.contract)
        symbols = image.symbols
        self.offsets = {
            "status": symbols[self.contract.shared.status.word],
            "kernel": symbols[self.contract.shared.kernel],
            "boot_params": symbols[self.contract.shared.boot_params],
        }
        self._size = -(-len(image.data) // 0x1000) * 0x1000
        owner, owner_size = self.host.structs["host"].members["owner"]
        self.words = (
            Word("status", AREA + self.offsets["status"], 4),
            Word("kernel", AREA + self.offsets["kernel"], 8),
            Word("boot_params", AREA + self.offsets["boot_params"], 8),
            Word("owner", HOST + owner, owner_size),
        )
        taken, taken_size = self.host.structs["host"].members["taken"]
        self._taken_at = range(HOST + taken, HOST + taken + taken_size)
        watched = [(AREA, self._size), (HOST + owner, owner_size), (HOST + taken, taken_size)]
        self.machine = Machine(self.host, watched)
        self.lock = Lock(self.host, HOST)
        named = {name: _symbol(name, 64) for name in ("kernel", "boot_params", "base")}
        self.kernel, self.boot_params, self.base = named.values()
        self.apic_id, self.cpu = _symbol("apic_id", 32), _symbol("cpu", 32)
        self.offer = self.host.constants["STATUS_OFFERED"] + self.apic_id
        self.loaded = claripy.BoolS("image_loaded", explicit_name=True)
        self.type = _symbol("image_type", 32)
        self._statuses = sorted(
            value
            for name, value in self.host.constants.items()
            if name.startswith("STATUS_") and name != "STATUS_OFFERED"
        )

    def begin(self, function: str = "multikernel_kick") -> State:
        """At the entry of kick, or of another function of host and CPU; the area is set up, an
        image may be loaded."""
        state = self.machine.call(function, HOST, self.cpu.zero_extend(32))
        area_at, _ = self.host.structs["host"].members["area"]
        prepared = {
            ("host", HOST): {
                "image": claripy.If(self.loaded, claripy.BVV(IMAGE, 64), claripy.BVV(0, 64)),
                "boot_params": self.boot_params,
            },
            ("area", HOST + area_at): {
                "base": self.base,
                "size": claripy.BVV(self._size, 64),
                "memory": claripy.BVV(AREA, 64),
                "trampoline": claripy.BVV(TRAMPOLINE, 64),
            },
            ("trampoline", TRAMPOLINE): {
                name: claripy.BVV(offset, 32) for name, offset in self.offsets.items()
            },
            ("image", IMAGE): {"type": self.type, "entry": self.kernel},
        }
        for (struct, address), members in prepared.items():
            fill(self.machine, state, self.host.structs[struct], address, members)
        state.solver.add(self.base & 0xFFF == 0, claripy.ULT(self.base, 0x10_0000))
        return state

    @property
    def area(self) -> tuple[int, int]:
        """The area as the host sees it: address and size."""
        return AREA, self._size

    def member(self, name: str) -> tuple[int, int]:
        """A member of the host's structure: address and size."""
        offset, size = self.host.structs["host"].members[name]
        return HOST + offset, size

    # What a stop means.

    def meaning(self, stop: Stop) -> tuple[Event, list[Outcome]]:
        """What happens at a stop that is not a return, and the states behind it."""
        if stop.why == "call":
            return self._call(stop)
        if stop.why == "fence":
            return self._event(stop, Kind.FENCE), [(None, s) for s in self._go(stop.state)]
        if stop.why == "string":
            raise self.machine.refuse(stop.state, "a kick or wait that writes many bytes at once")
        assert stop.instruction is not None
        if len(stop.accesses) != 1:
            raise self.machine.refuse(stop.state, "more than one operand in memory")
        access = stop.accesses[0]
        if self._is_of_taken(access):
            return self._taken(stop, access)
        assert isinstance(access.address, int)
        word = self._word(stop, access)
        if word is None:  # a lock, which others change as well
            assert stop.why == "locked"
            return self._try_lock(stop, access)
        if stop.why == "locked":
            return self._locked(stop, word)
        if access.stored:
            (after,) = self._go(stop.state)
            value = self.value(after, self.machine.read(after, word.address, word.size))
            return self._event(stop, Kind.STORE, word, value), [(None, after)]
        if instructions.is_load(stop.instruction):
            return self._event(stop, Kind.LOAD, word), self._read(stop, word)
        raise self.machine.refuse(stop.state, f"changes {word.name} by a plain instruction")

    def _try_lock(self, stop: Stop, access: Access) -> tuple[Event, list[Outcome]]:
        state, place = stop.state, (access.address, access.size)
        if place != self.lock.place:
            raise self.machine.refuse(state, "a locked instruction on something else than the lock")
        anything = claripy.BVS("locked", access.size * 8)
        self.machine.write(state, *self.lock.place, anything)
        event = replace(self._event(stop, Kind.FENCE), call="lock", result=anything)
        outcomes: list[Outcome] = []
        for after in self._go(state):
            note_try(state, after, anything, self.machine.read(after, *self.lock.place))
            outcomes.append((None, after))
        return event, outcomes

    def is_private(self, stop: Stop) -> bool:
        """Whether nobody else can see what happens at a stop that is not a return."""
        if stop.why == "call":
            return stop.name not in ("send_init", "send_sipi")
        return stop.why == "access" and self._is_of_taken(stop.accesses[0])

    def value(self, state: State, term: BV) -> Value:
        """The constant, or the name, that a term is for all inputs of this path."""
        if (number := self.machine.only_value(state, term)) is not None:
            return number
        for name, other in self._names(state):
            if other.length == term.length and self.machine.certain(state, term == other):
                return name
        raise self.machine.refuse(state, "a value that is neither a constant nor of the attempt")

    def _names(self, state: State) -> list[tuple[str, BV]]:
        names = [("kernel", self.kernel), ("boot_params", self.boot_params)]
        # Another APIC id would make it look like one of the constants.
        if self.machine.certain(state, claripy.ULT(self.apic_id, self.host.constants["APIC_IDS"])):
            names.append(("offer", self.offer))
        return names

    def _event(
        self,
        stop: Stop,
        kind: Kind,
        word: Word | None = None,
        value: Value | None = None,
        expected: Value | None = None,
    ) -> Event:
        place = self.machine.place(stop.state)
        name, address = word.name if word else "", self.machine.address(stop.state)
        return Event(kind, place, name, value, expected, address=address)

    def _go(self, state: State) -> list[State]:
        return self.machine.execute(state)

    def _word(self, stop: Stop, access: Access) -> Word | None:
        for word in self.words:
            if (word.address, word.size) == (access.address, access.size):
                return word
            start, end = word.address, word.address + word.size
            assert isinstance(access.address, int)
            if access.address < end and start < access.address + access.size:
                raise self.machine.refuse(stop.state, f"touches {word.name}, but not as one word")
        if stop.why == "access":
            raise self.machine.refuse(
                stop.state, f"touches the area at {access.address - AREA:#x}, where no word is"
            )
        return None

    def _read(self, stop: Stop, word: Word) -> list[Outcome]:
        """One outcome for each value that the word may have, and one for any other value."""
        state, bits = stop.state, word.size * 8
        known: list[tuple[Value, BV]] = []
        if word.size == 4:
            constants = self._statuses if word.name == "status" else [0]
            known += [(number, claripy.BVV(number, bits)) for number in constants]
        known += [(name, term) for name, term in self._names(state) if term.length == bits]
        other = claripy.BVS("read", bits)
        outcomes: list[Outcome] = []
        if not self.by_value:
            known = []
        for value, term in (*known, (None, other)):
            before = state.copy()
            if value is None:
                before.solver.add(*(other != one for _, one in known))
            self.machine.write(before, word.address, word.size, term)
            outcomes += [(value, after) for after in self._go(before)]
        return outcomes

    def _locked(self, stop: Stop, word: Word) -> tuple[Event, list[Outcome]]:
        state, instruction = stop.state, stop.instruction
        assert instruction is not None
        registers = [o for o in instruction.operands if o.type != instructions.MEMORY]
        new = state.regs.get(instruction.reg_name(registers[0].reg))
        value = self.value(state, new)
        if instructions.name(instruction) == "xchg":
            return self._event(stop, Kind.EXCHANGE, word, value), self._read(stop, word)
        expected = self.value(state, state.regs.rax[word.size * 8 - 1 : 0])
        event = self._event(stop, Kind.COMPARE_EXCHANGE, word, value, expected)
        return event, self._read(stop, word)

    # What others cannot see.

    def _is_of_taken(self, access: Access) -> bool:
        """Whether it is for an element of `taken`; what else has no single address is refused."""
        start, address = self._taken_at.start, access.address
        if not isinstance(address, int):
            return True
        return address < self._taken_at.stop and start < address + access.size

    def _taken(self, stop: Stop, access: Access) -> tuple[Event, list[Outcome]]:
        """An element of `taken`: a look finds anything; what is written is not remembered."""
        state, instruction = stop.state, stop.instruction
        assert instruction is not None
        address = access.address
        index = (claripy.BVV(address, 64) if isinstance(address, int) else address) - (
            self._taken_at.start
        )
        if not self.machine.certain(state, claripy.ULT(index, len(self._taken_at))):
            raise self.machine.refuse(state, "an address that is not known")
        if access.size != 1:
            raise self.machine.refuse(state, "touches more than one element of taken")
        place = self.machine.place(state)
        if access.stored:
            value = self._stored(state, instruction)
            self.machine.skip(state, instruction)
            note(state, Touch(self._taken_at.start, 1, value))
            return Event(None, place, call="take", result=value, arguments=(index,)), [
                (None, state)
            ]
        if not instructions.is_load(instruction):
            raise self.machine.refuse(state, "changes an element of taken, not only writes it")
        found = claripy.BVS("taken", 8)
        if isinstance(address, int):
            self.machine.write(state, address, 1, found)
            after: list[Outcome] = [(None, one) for one in self._go(state)]
        else:
            after = self._read_elsewhere(state, instruction, address, found)
        return Event(None, place, call="taken", result=found, arguments=(index,)), after

    def _stored(self, state: State, instruction: CsInsn) -> BV:
        """The byte that a MOV to memory stores."""
        source = instruction.operands[1]
        if source.type == instructions.IMMEDIATE:
            return claripy.BVV(source.imm & 0xFF, 8)
        value = state.regs.get(instruction.reg_name(source.reg))
        assert isinstance(value, BV)
        return value

    def _read_elsewhere(
        self, state: State, instruction: CsInsn, address: BV, found: BV
    ) -> list[Outcome]:
        """Execute a load that finds `found`: its index register points to the first element.

        Which element it is does not matter, as each holds anything; the register then gets its
        value back, unless the load has changed it.
        """
        first = HOST + self.host.structs["host"].members["taken"][0]
        (operand,) = instructions.memory_operands(instruction)
        if not operand.mem.index or operand.mem.scale != 1:
            raise self.machine.refuse(state, "an array that is read without an index register")
        index = instruction.reg_name(operand.mem.index)
        old = state.regs.get(index)
        moved = self.machine.only_value(state, old + first - address)
        if moved is None:
            raise self.machine.refuse(state, "an array that is read in an unknown way")
        setattr(state.regs, index, claripy.BVV(moved, 64))
        self.machine.write(state, first, width(found) // 8, found)
        outcomes = self._go(state)
        for after in outcomes:
            now = after.regs.get(index)
            if now.concrete and now.concrete_value == moved:  # else the load has written it
                setattr(after.regs, index, old)
        return [(None, after) for after in outcomes]

    def _call(self, stop: Stop) -> tuple[Event, list[Outcome]]:
        """The platform's functions (trampoline/host/include/platform.h) that a kick may call."""
        state, name, place = stop.state, stop.name, self.machine.place(stop.state)
        address = self.machine.address(state)
        first, second = state.regs.rdi, state.regs.rsi
        kind: Kind | None = None
        result: BV | None = None
        value: BV | Bool | None = None
        demands: list[Bool] = []
        if name in ("cpu_online", "cpu_apic_id"):
            demands.append(first[31:0] == self.cpu)
        if name in ("apic_id_present", "send_init", "send_sipi"):
            demands.append(first[31:0] == self.apic_id)
        if name in ("cpu_online", "apic_id_present", "relax"):
            value = claripy.BoolS(name)
            result = claripy.If(value, claripy.BVV(1, 8), claripy.BVV(0, 8))
        elif name == "cpu_apic_id":
            value = result = self.apic_id
        elif name in ("send_init", "send_sipi"):
            kind = Kind.INIT if name == "send_init" else Kind.SIPI
            value = result = claripy.BVS(name, 32)
            state.solver.add(claripy.ULE(-result, ERRNO_MAX))
            if kind == Kind.SIPI:
                demands.append(second[7:0] == self.base[19:12])
        elif name == "warm_reset_set":
            demands.append(first == self.base)
        elif name != "warm_reset_undo":
            raise self.machine.refuse(state, f"calls {name} in a kick or wait")
        if not self.machine.certain(state, claripy.And(claripy.true(), *demands)):
            raise self.machine.refuse(state, f"calls {name} for another CPU or place")
        if kind is not None or name.startswith("warm_reset"):
            note(state, Deed())
        self.machine.give_back(state, result)
        return Event(kind, place, call=name, result=value, address=address), [(None, state)]


def _symbol(name: str, bits: int) -> BV:
    return claripy.BVS(name, bits, explicit_name=True)
