# SPDX-License-Identifier: GPL-2.0-only
"""Counted loops in one step: all iterations but the last become one range write.

Nothing is assumed of a loop. Its body is executed once from unknown registers. z3 must then prove
that one iteration moves every register by a constant, so that iteration i starts with r0 + i * d
(induction: it holds for i = 0, and the step was proved for all register values); that the one store
of iteration i goes to a0 + i * stride; and that the loop goes on after each of the iterations left
out. The last iteration is executed as usual, so flags come out exact. A loop of any other shape is
not summarised but unrolled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import z3

from harness.x86.errors import Unsupported
from harness.x86.lift import Instruction
from harness.x86.machine import Machine
from harness.x86.memory import RangeWrite
from harness.x86.pcode import Jump, Plain, Pointer, Port, undefined_flags
from harness.x86.prover import RLIMIT
from harness.x86.registers import FLAGS, Registers, Value, force
from harness.x86.solver import check, fresh
from harness.x86.terms import const, index_symbol, low, number, simplify, variables

MAX_COUNT = 1 << 20  # iterations; more is refused rather than summarised
Continues = Callable[[Registers, Jump | None], z3.BoolRef]
"""The condition under which the loop goes on, from the registers after an iteration."""


class _NotCounted(Exception):
    """The loop has not the shape that can be summarised."""


class _Recording(Registers):
    """Registers that remember which of them were written."""

    def __init__(self, values: dict[str, z3.BitVecRef], flags: dict[str, Value]) -> None:
        super().__init__(values, flags)
        self.written: set[str] = set()

    def write(self, name: str, byte: int, value: z3.BitVecRef) -> None:
        self.written.add(name)
        super().write(name, byte, value)


class _Body:
    """A port that runs one iteration aside: stores are noted, loads end the attempt."""

    def __init__(self, machine: Machine, registers: _Recording) -> None:
        self.machine = machine
        self.registers = registers
        self.stores: list[tuple[z3.BitVecRef, z3.BitVecRef]] = []

    def load(self, address: z3.BitVecRef | Pointer, size: int) -> z3.BitVecRef:
        raise _NotCounted

    def store(self, address: z3.BitVecRef | Pointer, value: z3.BitVecRef) -> None:
        if isinstance(address, Pointer):
            raise _NotCounted
        self.stores.append((simplify(low(address, 64)), simplify(value)))

    def special(self, name: str) -> z3.BitVecRef:
        raise _NotCounted

    def pc_relative(self, offset: int, bits: int) -> z3.BitVecRef:
        return self.machine.pc_relative(offset, bits)


@dataclass(frozen=True)
class _Induction:
    """A register that moves by `step` (of `bits` bits) in each iteration.

    With 32 bits the upper half stays as it is.
    """

    start: z3.BitVecRef  # 64 bits, before the first iteration
    symbol: z3.BitVecRef  # stands for the low `bits` at the begin of an iteration
    step: int
    bits: int

    def at(self, index: z3.BitVecRef) -> z3.BitVecRef:
        """The low `bits` at the begin of iteration `index` (64 bits)."""
        first = low(self.start, self.bits)
        moved = low(index, self.bits) * const(self.step, self.bits)
        return z3.simplify(first + moved, mul2concat=True)

    def whole(self, index: z3.BitVecRef) -> z3.BitVecRef:
        """All 64 bits at the begin of iteration `index`."""
        return _with_upper(self.start, self.at(index))


def _with_upper(old: z3.BitVecRef, value: z3.BitVecRef) -> z3.BitVecRef:
    if value.size() == 64:
        return value
    return simplify(z3.Concat(z3.Extract(63, value.size(), old), value))


def summarise(machine: Machine, body: Sequence[Instruction], continues: Continues) -> bool:
    """Replace all iterations but the last one. False, and nothing changed, if that is not proved.

    The CPU stands before the first iteration to be replaced, and the loop is entered for sure.
    """
    try:
        registers, stores, goes_on, moving, written = _one_iteration(machine, body, continues)
        if len(stores) != 1:
            raise _NotCounted
        there = [(r.symbol, r.at(index_symbol)) for r in moving.values()]
        address, value = (simplify(z3.substitute(term, *there)) for term in stores[0])
        goes_on = z3.simplify(z3.substitute(goes_on, *there))
        count = _iterations_left_out(machine, goes_on)
        if count == 0:
            return True
        record = _range_write(machine, address, value, count)
    except (_NotCounted, Unsupported):
        return False
    machine.write_range(record)
    for name in sorted(written):
        machine.registers.values[name] = (
            moving[name].whole(const(count))
            if name in moving
            else machine.environment.unknown(f"{name}_in_loop", 64)
        )
        machine.registers.values[name] = machine.environment.base.normal(
            machine.registers.values[name]
        )
    for name in FLAGS:
        if registers.flags[name] is not machine.registers.flags[name]:
            machine.registers.flags[name] = machine.environment.unknown_flag(f"{name}_in_loop")
    return True


def _one_iteration(
    machine: Machine, body: Sequence[Instruction], continues: Continues
) -> tuple[
    _Recording,
    list[tuple[z3.BitVecRef, z3.BitVecRef]],
    z3.BoolRef,
    dict[str, _Induction],
    set[str],
]:
    """Execute the body from unknown registers; find out which of them move by a constant."""
    trial = _Recording(dict(machine.registers.values), dict(machine.registers.flags))
    _execute(machine, body, trial)
    bits = dict.fromkeys(sorted(trial.written), 64 if machine.cpu.mode.bits == 64 else 32)
    flags = dict(machine.registers.flags)
    unknown_flags = {
        name: machine.environment.unknown_flag(f"{name}_of_iteration")
        for name in FLAGS
        if trial.flags[name] is not flags[name]
    }
    flags.update(unknown_flags)
    for _ in range(2):
        start = machine.registers.values
        symbols = {
            name: machine.environment.unknown(f"{name}_of_iteration", width)
            for name, width in bits.items()
        }
        values = {
            name: _with_upper(old, symbols[name]) if name in symbols else old
            for name, old in start.items()
        }
        after = _Recording(dict(values), dict(flags))
        port, jump = _execute(machine, body, after)
        moving = {
            name: induction
            for name in bits
            if (induction := _induction(machine, start[name], symbols[name], after.values[name]))
        }
        halved = {n for n in bits if n not in moving and bits[n] == 64 and _upper_is_zero(start[n])}
        if not halved:
            break
        bits.update(dict.fromkeys(halved, 32))
    goes_on = continues(after, jump)
    known = {str(induction.symbol) for induction in moving.values()}
    loose = {str(s) for s in symbols.values()} - known
    loose |= {symbol for flag in unknown_flags.values() for symbol in variables(flag)}
    for term in (goes_on, *(part for store in port.stores for part in store)):
        if loose & set(variables(term)):
            raise _NotCounted
    return after, port.stores, goes_on, moving, set(bits)


def _execute(
    machine: Machine, body: Sequence[Instruction], registers: _Recording
) -> tuple[_Body, Jump | None]:
    port = _Body(machine, registers)
    jump = None
    for instruction in body:
        if jump is not None:
            raise _NotCounted
        jump = execute_plain(machine, instruction, port)
    return port, jump


def execute_plain(machine: Machine, instruction: Instruction, port: Port) -> Jump | None:
    """A plain instruction, and then what the manual leaves undefined after it."""
    jump = Plain(instruction, port).run()
    for flag in undefined_flags(instruction):
        port.registers.flags[flag] = machine.environment.unknown_flag(f"{flag}_undefined")
    return jump


def _upper_is_zero(value: z3.BitVecRef) -> bool:
    return number(simplify(z3.Extract(63, 32, value))) == 0


def _induction(
    machine: Machine, start: z3.BitVecRef, symbol: z3.BitVecRef, after: z3.BitVecRef
) -> _Induction | None:
    bits = symbol.size()
    step = number(simplify(low(after, bits) - symbol))
    if step is None:
        return None
    moved = _with_upper(start, simplify(symbol + const(step, bits)))
    if not machine.environment.prover.holds((), after == moved):
        return None
    return _Induction(start, symbol, step, bits)


def _iterations_left_out(machine: Machine, goes_on: z3.BoolRef) -> int:
    """The m for which the loop goes on after iterations 0 .. m - 1 and ends after iteration m."""
    if set(variables(goes_on)) - {str(index_symbol)}:
        raise _NotCounted
    solver = fresh((z3.Not(goes_on), z3.ULE(index_symbol, MAX_COUNT)), RLIMIT)
    count: int | None = None
    while check(solver) == z3.sat:
        count = solver.model().eval(index_symbol, model_completion=True).as_long()
        solver.add(z3.ULT(index_symbol, count))
    before = z3.ULT(index_symbol, const(count or 0))
    if count is None or not machine.environment.prover.holds((before,), goes_on):
        raise _NotCounted
    return count


def _range_write(
    machine: Machine, address: z3.BitVecRef, value: z3.BitVecRef, count: int
) -> RangeWrite:
    """The stores of iterations 0 .. count - 1, proved to be evenly spaced."""
    base, size = machine.environment.base, value.size() // 8

    def at(index: int) -> z3.BitVecRef:
        return base.normal(simplify(z3.substitute(address, (index_symbol, const(index)))))

    first = at(0)
    stride = number(simplify(at(1) - first))
    if stride is None or stride < size or stride & (stride - 1):
        raise _NotCounted
    inside = z3.ULT(index_symbol, const(count))
    if machine.possible(z3.And(inside, address != first + index_symbol * const(stride))):
        raise _NotCounted
    _check_segments(machine, first, stride * (count - 1) + size)
    return RangeWrite(first, size, value, count, stride)


def _check_segments(machine: Machine, first: z3.BitVecRef, length: int) -> None:
    """In 32-bit code every store of the range must be one that the segments allow."""
    if machine.cpu.mode.bits == 64:
        return
    last = simplify(first + (length - 1))
    for name in ("ds", "es", "ss"):
        segment = machine.cpu.segments[name]
        fits = z3.And(
            segment.base == 0,
            segment.is_writable,
            z3.Not(segment.null),
            z3.Not(segment.is_expand_down),
            z3.ULE(last, low(segment.limit, 64)),
            z3.ULE(first, last),
        )
        if machine.possible(z3.Not(fits)):
            raise _NotCounted


def repeat(machine: Machine, instruction: Instruction) -> None:
    """REP STOS: the p-code tests the counter first and ends with a jump to itself."""
    test, leave, *iteration, again = instruction.ops
    del leave, again
    counter = test.inputs[0]
    count = number(force(Plain(instruction, machine).read(counter)))
    if not instruction.mnemonic.startswith("STOS"):
        raise machine.refuse(f"`{instruction}`")
    if count is None:
        raise machine.refuse(f"`{instruction}` with a count that is not constant")
    if count:
        name = instruction.mnemonic.partition(".")[0]
        once = Instruction(**{**vars(instruction), "mnemonic": name, "ops": tuple(iteration)})

        def continues(registers: Registers, jump: Jump | None) -> z3.BoolRef:
            return simplify(registers.read("rcx", 0, counter.size)) != 0

        if not summarise(machine, [once], continues):
            raise machine.refuse(f"`{instruction}` that is no plain fill of memory")
        Plain(once, machine).run()
    machine.cpu.pc = instruction.end
